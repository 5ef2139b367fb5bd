"""The file system of a small machine that systemd boots: made by debootstrap once, kept, and never written to.

Its packages come from where this machine's apt takes its own.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

CACHE = Path("/var/cache/oci-gpu-hook-tests")
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "runc", "podman", "netavark")
_TIMEOUT = 600  # seconds; a slow mirror's, twice over


def missing() -> str:
    """Say what keeps this machine from making the file system or booting it; "" when nothing does."""
    absent = [tool for tool in ("debootstrap", "systemd-nspawn", "apt-get") if not shutil.which(tool)]
    return f"not installed: {' '.join(absent)}; run: make test, as root" if absent else ""


def build(packages: Sequence[str] = PACKAGES) -> Path:
    """Return the directory of a file system with these packages, made first where it is missing.

    Raises RuntimeError with what failed.
    """
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    wanted = hashlib.sha256(" ".join((*packages, "1")).encode()).hexdigest()[:8]
    root = CACHE / f"{release}-{wanted}"
    if not root.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=CACHE))
        try:
            _debootstrap(release, making, packages)
            making.chmod(0o755)
            making.rename(root)
        except BaseException:
            subprocess.run(["rm", "-rf", "--one-file-system", making], check=True)
            raise
    return root


def _debootstrap(release: str, target: Path, packages: Sequence[str]) -> None:
    mirror, components, keyring = _source(release)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", f"--components={components}"]
    if keyring:
        command.append(f"--keyring={keyring}")
    done = subprocess.run(
        [*command, release, target, mirror],
        check=False,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        env=_environment(),
    )
    if done.returncode:
        log = target / "debootstrap/debootstrap.log"
        said = log.read_text(errors="replace") if log.exists() else done.stderr
        raise RuntimeError(f"debootstrap: {done.stdout[-300:]}\n{said[-2000:]}")
    for leftover in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(target / leftover, ignore_errors=True)


def _source(release: str) -> tuple[str, str, str]:
    """Return the mirror of this release as apt is configured, its components, and the key ring ("" for the usual)."""
    form = "$(REPO_URI)|$(CODENAME)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    targets = [line.split("|") for line in listed.stdout.splitlines()]
    own = [target for target in targets if release in (target[1], target[2])]
    if not own:
        raise RuntimeError(f"apt has no source for {release}")
    mirror = own[0][0]
    components = ",".join(dict.fromkeys(target[3] for target in own if target[0] == mirror))
    keyring = own[0][4] if own[0][4].startswith("/") else ""
    return mirror, components, keyring


def _environment() -> dict[str, str]:
    """Return the environment with apt's proxy for wget, which debootstrap fetches with."""
    said = subprocess.run(
        ["apt-config", "shell", "proxy", "Acquire::http::Proxy"], check=False, capture_output=True, text=True
    )
    proxy = said.stdout.partition("='")[2].rstrip("'\n")
    return os.environ | ({"http_proxy": proxy} if proxy else {})

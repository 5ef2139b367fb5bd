"""The file system of a small machine that systemd boots: made by debootstrap once, kept, and never written to.

Its packages come from $MIRROR, else from where this machine's apt takes its own, else from the distribution.
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

# release → its distribution; what is not here is this machine's own.
DISTRIBUTIONS = {"bookworm": "debian", "trixie": "debian", "sid": "debian", "noble": "ubuntu"}
DEFAULTS = {  # mirror, components, key ring
    "debian": ("http://deb.debian.org/debian", "main", "/usr/share/keyrings/debian-archive-keyring.gpg"),
    "ubuntu": (
        "http://archive.ubuntu.com/ubuntu",
        "main,universe",
        "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    ),
}
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "runc", "podman", "netavark")
_TIMEOUT = 1800  # seconds; a slow mirror's, twice over


def missing() -> str:
    """Say what keeps this machine from making the file system or booting it; "" when nothing does."""
    absent = [tool for tool in ("debootstrap", "systemd-nspawn", "apt-get") if not shutil.which(tool)]
    return f"not installed: {' '.join(absent)}; run: make test, as root" if absent else ""


def cache() -> Path:
    """Return the directory that keeps root directories between runs; $OCI_GPU_ROOTS is another."""
    chosen = os.environ.get("OCI_GPU_ROOTS")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "oci-gpu-hook/roots"


def build(packages: Sequence[str] = PACKAGES, release: str = "") -> Path:
    """Return the directory of a file system with these packages, made first where it is missing.

    `release` is this machine's own where it is not given. Raises RuntimeError with what failed.
    """
    release = release or _own_release()
    wanted = hashlib.sha256(" ".join((*packages, "1")).encode()).hexdigest()[:8]
    root = cache() / f"{release}-{wanted}"
    if not root.exists():
        cache().mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=cache()))
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


def _own_release() -> str:
    """Return this machine's release as apt's sources call it; unstable has the code name of what is to come."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "sid")
    named = {name for target in _targets() for name in target[1:3]}
    return release if release in named or "sid" not in named else "sid"


def _source(release: str) -> tuple[str, str, str]:
    """Return the mirror of a release, its components, and the key ring ("" for the usual)."""
    targets = _targets()
    own = [target for target in targets if release in (target[1], target[2])]
    if own:
        mirror = own[0][0]
        components = ",".join(dict.fromkeys(target[3] for target in own if target[0] == mirror))
        keyring = own[0][4] if own[0][4].startswith("/") else ""
    elif release in DISTRIBUTIONS:
        distribution = DISTRIBUTIONS[release]
        mirror, components, keyring = DEFAULTS[distribution]
        if platform.freedesktop_os_release().get("ID") == distribution and targets:
            mirror = targets[0][0]  # where this machine gets its own release there is that one too
    else:
        raise RuntimeError(f"apt has no source for {release}")
    return os.environ.get("MIRROR") or mirror, components, keyring


def _targets() -> list[list[str]]:
    """Return apt's sources: mirror, code name, release, component, key ring."""
    form = "$(REPO_URI)|$(CODENAME)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split("|") for line in listed.stdout.splitlines()]


def _environment() -> dict[str, str]:
    """Return the environment with apt's proxy for wget, which debootstrap fetches with."""
    said = subprocess.run(
        ["apt-config", "shell", "proxy", "Acquire::http::Proxy"], check=False, capture_output=True, text=True
    )
    proxy = said.stdout.partition("='")[2].rstrip("'\n")
    return os.environ | ({"http_proxy": proxy} if proxy else {})

"""The file system of a small machine that systemd boots: made by debootstrap once, kept, and never written to.

Its packages come from $MIRROR ($UBUNTU_MIRROR), else from where this machine's apt takes its own, else from the
distribution.
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
from typing import NamedTuple


class Distribution(NamedTuple):
    """Where a distribution's packages come from if nothing else is said, and how debootstrap makes its releases."""

    mirror: str
    components: str
    keyring: str
    script: str
    mirror_variable: str
    keyring_variable: str


DEBIAN = Distribution(
    "http://deb.debian.org/debian",
    "main",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "sid",
    "MIRROR",
    "KEYRING",
)
UBUNTU = Distribution(
    "http://archive.ubuntu.com/ubuntu",
    "main,universe",
    "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    "gutsy",
    "UBUNTU_MIRROR",
    "UBUNTU_KEYRING",
)
RELEASES = {"bookworm": DEBIAN, "trixie": DEBIAN, "sid": DEBIAN, "noble": UBUNTU}
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


def place(packages: Sequence[str], release: str) -> Path:
    """Return where `build` makes a file system, and keeps it."""
    wanted = hashlib.sha256(" ".join((*packages, "1")).encode()).hexdigest()[:8]
    return cache() / f"{release}-{wanted}"


def build(packages: Sequence[str] = PACKAGES, release: str = "") -> Path:
    """Return the directory of a file system with these packages, made first where it is missing.

    `release` is this machine's own where it is not given. Raises RuntimeError with what failed.
    """
    release = release or _own_release()
    root = place(packages, release)
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


def lacking(release: str) -> str:
    """Say what keeps this machine from making a root directory of this release; "" when nothing does."""
    keyring = _source(release)[2]
    if not keyring or Path(keyring).exists():
        return ""
    return f"{keyring} is missing; install it, or name another in ${RELEASES[release].keyring_variable}"


def _debootstrap(release: str, target: Path, packages: Sequence[str]) -> None:
    why = lacking(release)
    if why:
        raise RuntimeError(why)
    mirror, components, keyring = _source(release)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", f"--components={components}"]
    if keyring:
        command.append(f"--keyring={keyring}")
    script = []
    if release in RELEASES and not Path("/usr/share/debootstrap/scripts", release).exists():
        script = [RELEASES[release].script]  # it is younger than this debootstrap, and made like those before it
    done = subprocess.run(
        [*command, release, target, mirror, *script],
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
    about = platform.freedesktop_os_release()
    release = about.get("VERSION_CODENAME", "sid")
    named = {name for target in _targets() for name in target[1:3]}  # none where apt has fetched no list yet
    return "sid" if about["ID"] == "debian" and release not in named | RELEASES.keys() else release


def _source(release: str) -> tuple[str, str, str]:
    """Return the mirror of a release, its components, and the key ring ("" for the usual)."""
    targets = _targets()
    own = [target for target in targets if release in (target[1], target[2])]
    distribution = RELEASES.get(release)
    if own:
        mirror = own[0][0]
        components = ",".join(dict.fromkeys(target[3] for target in own if target[0] == mirror))
        keyring = own[0][4] if own[0][4].startswith("/") else ""
    elif distribution:
        mirror, components, keyring = distribution.mirror, distribution.components, distribution.keyring
        ours = RELEASES.get(_own_release())
        if ours == distribution and targets:
            mirror = targets[0][0]  # where this machine gets its own release there are the others too
    else:
        raise RuntimeError(f"apt has no source for {release}")
    if distribution:
        mirror = os.environ.get(distribution.mirror_variable) or mirror
        keyring = os.environ.get(distribution.keyring_variable) or keyring
    return mirror, components, keyring


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

"""Runs tests on the Python of other distributions: python -m tests.matrix [ROOT ...] [-- PYTEST-ARGUMENTS].

For each ROOT, a release of Debian or Ubuntu, debootstrap makes a root directory, once. A run lays an overlay on it that
is thrown away, copies this checkout in, makes a virtual environment of the root's own /usr/bin/python3, and runs pytest
there with this machine's kernel, cgroups and devices. One line for each at the end; exit status 1 if any fails.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.systemd import root as roots

REPOSITORY = Path(__file__).parents[2]
ENTER = Path(__file__).with_name("enter.sh")
ROOTS = ("bookworm", "noble", "trixie", "sid")  # Python 3.11, 3.12, 3.13, and what Debian unstable has
TESTS = ("tests/unit", "tests/runtime")
ENGINES = {"bookworm", "trixie", "sid"}  # where tests/engines have been seen to pass
PACKAGES = (
    *("python3", "python3-venv", "runc", "crun", "gcc", "libc6-dev", "musl-tools", "busybox-static", "make", "git"),
    *("strace", "uidmap", "util-linux", "mount", "patch", "ca-certificates", "mandoc", "zsh", "fish", "iproute2"),
    "procps",
    # what the tests of engines and of systemd start
    *("docker.io", "containerd", "podman", "netavark", "iptables", "systemd-container", "debootstrap"),
    *("debian-archive-keyring", "kmod", "dbus"),
)
# Since Debian 13 the client of Docker is a package of its own.
PACKAGES_OF = {"trixie": ("docker-cli",), "sid": ("docker-cli",)}
# Of this machine's environment: how tests are to be run, and how pip gets through to its index.
PASSED = re.compile(r"CI|OCI_GPU_\w+|PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)|(?i:\w+_proxy)")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def packages(release: str) -> tuple[str, ...]:
    """Return the packages of a release's root directory."""
    return (*PACKAGES, *PACKAGES_OF.get(release, ()))


def main() -> int:
    """Run each; return the exit status."""
    before, _, after = " ".join(sys.argv[1:]).partition("--") if "--" in sys.argv else (" ".join(sys.argv[1:]), "", "")
    chosen = before.split() or list(ROOTS)
    if os.geteuid() != 0:
        print("matrix: needs root (debootstrap, mounts, device nodes, cgroups); run: sudo make matrix", file=sys.stderr)
        return 2
    results = {}
    for release in chosen:
        why = "" if roots.place(packages(release), release).exists() else roots.lacking(release)
        if why and not before and os.environ.get("CI") != "true":
            results[release] = True, f"not run: {why}"
        else:
            own = (*TESTS, "tests/engines") if release in ENGINES else TESTS
            results[release] = run(release, after.split() or own)
    print()
    for release, (_, line) in results.items():
        print(f"{release:10} {line}")
    return 0 if all(good for good, _ in results.values()) else 1


def run(release: str, tests: Sequence[str]) -> tuple[bool, str]:
    """Run tests in the root directory of a release; return whether all is well, and a line that says so."""
    print(f"=== {release}", flush=True)
    try:
        root = roots.build(packages(release), release)
    except (RuntimeError, subprocess.SubprocessError, OSError) as error:
        print(error, file=sys.stderr)
        return False, f"FAILED: no root directory: {' '.join(str(error).split())[-200:]}"
    venv, pip_cache = roots.cache() / "venvs" / root.name, roots.cache() / "pip"
    work = Path(tempfile.mkdtemp(prefix="oci-gpu-hook-matrix-", dir="/var/tmp"))
    work.chmod(0o755)
    try:
        for name in ("layers", "root", "source/.venv", "tmp", "var-tmp"):
            (work / name).mkdir(parents=True)
        for kept in (venv, pip_cache):
            kept.mkdir(parents=True, exist_ok=True)
        copy_checkout(work / "source")
        with venv.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of one release would make one virtual environment
            return entered(release, [ENTER, root, work, venv, pip_cache, *tests])
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", work], check=True)


def copy_checkout(target: Path) -> None:
    """Copy what is under version control, as it stands, and what git would not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, listed):
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name, follow_symlinks=False)


def entered(release: str, command: list[str | Path]) -> tuple[bool, str]:
    """Run the tests in a mount namespace of their own, showing what they say; return as `run` does."""
    environment = {name: value for name, value in os.environ.items() if PASSED.fullmatch(name)}
    environment |= {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    environment |= {"HOME": "/root", "PIP_CERT": CERTIFICATES, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment["CERTIFICATES"] = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or CERTIFICATES
    began = time.monotonic()
    python, last = "Python ?", ""
    unshared = ["unshare", "--mount", "--propagation=private", "--", *command]
    with subprocess.Popen(
        unshared, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, process_group=0
    ) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                print(f"{release}: {line}" if line.startswith("Python ") else line, end="", flush=True)
                python = line.strip() if line.startswith("Python ") else python
                last = line.strip("= \n") if re.search(r"\d (passed|failed|error)", line) else last
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)  # pytest then takes its containers and cgroups with it
            raise
    good = process.returncode == 0
    verdict = "passed" if good else f"FAILED (exit status {process.returncode})"
    last = re.sub(r" in [\d.]+s.*", "", last) or "no test ran"
    return good, f"{python:14} {verdict}: {last}; {time.monotonic() - began:.0f} s"


if __name__ == "__main__":
    sys.exit(main())

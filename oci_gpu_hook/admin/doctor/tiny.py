"""A minimal container with this host's shell, for the trial and for demonstrations.

Its root directory holds /bin/sh, the C library and an ld cache, copied from the host, and no driver.
"""

from __future__ import annotations

import json  # noqa: TID253
import os
import shutil  # noqa: TID253
import subprocess  # noqa: TID253

from oci_gpu_hook.apply.bundle import HOOK_ENVIRONMENT
from oci_gpu_hook.base.errors import HookError, quoted
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

_TIMEOUT: Final = 120.0  # seconds; NVML may have to start every GPU
_DIRECTORIES: Final = ("bin", "dev", "etc", "proc", "sys", "tmp", "usr/bin", "usr/lib")
# Libraries that NVIDIA's programs need in addition to the shell's; since glibc 2.34 they are part of libc.so.6.
_LIBRARIES: Final = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6")
_LIBRARY_DIRECTORIES: Final = ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib")
_QUIET: Final = ("nosuid", "noexec", "nodev")
_CAPABILITIES: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_SETGID", "CAP_SETUID")


class Outcome(Record):
    """The result of a container."""

    status: int
    output: str
    errors: str


def make_rootfs(rootfs: str) -> None:
    """Fill a new directory. Raises HookError, OSError."""
    for directory in _DIRECTORIES:
        os.makedirs(os.path.join(rootfs, directory))  # noqa: TID251  nobody else's directory
    shutil.copy(os.path.realpath("/bin/sh"), f"{rootfs}/bin/sh")
    for path in _needed("/bin/sh"):
        _copy(rootfs, path)
    for name in _LIBRARIES:
        for path in (f"{directory}/{name}" for directory in _LIBRARY_DIRECTORIES):
            if os.path.exists(path):
                _copy(rootfs, path)
    if os.path.exists("/etc/debian_version"):
        shutil.copy("/etc/debian_version", f"{rootfs}/etc/debian_version")
    _run("ldconfig", "-r", rootfs)


def config_json(script: str, hook: str, config: str, env: Sequence[str]) -> str:
    """Return the config.json of a container that runs a shell script, with the hook registered."""
    entry = {"path": hook, "env": list(HOOK_ENVIRONMENT)}
    arguments = ["oci-gpu-hook", "--config", config]
    return json.dumps(
        {
            "ociVersion": "1.0.2",
            "process": {
                "args": ["/bin/sh", "-c", script],
                "cwd": "/",
                "user": {"uid": 0, "gid": 0},
                "env": ["PATH=/usr/bin:/bin", *env],
                "capabilities": {kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
            },
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": list(_QUIET)},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "hooks": {
                "prestart": [{**entry, "args": [*arguments, "prestart"]}],
                "poststop": [{**entry, "args": [*arguments, "poststop"]}],
            },
            "linux": {
                "resources": {"devices": [{"allow": False, "access": "rwm"}]},
                "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            },
        }
    )


def run(runtime: str, work: str, name: str) -> Outcome:
    """Run the container of the bundle `work` to its end, with its own state directory for the runtime."""
    command = [runtime, "--root", f"{work}/runtime"]
    try:
        done = subprocess.run(
            [*command, "run", "--bundle", work, name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(status=-1, output="", errors=f"it did not end within {_TIMEOUT:.0f} s")
    finally:
        subprocess.run([*command, "delete", "--force", name], capture_output=True, check=False)
    return Outcome(status=done.returncode, output=done.stdout, errors=done.stderr)


def _needed(program: str) -> Iterator[str]:
    """Yield the libraries, and the loader, of one of the host's programs."""
    for line in _run("ldd", program).split("\n"):
        yield from (word for word in line.split() if word.startswith("/"))


def _copy(rootfs: str, path: str) -> None:
    target = f"{rootfs}{path}"
    os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: TID251
    if not os.path.exists(target):
        shutil.copy(path, target)


def _run(*command: str) -> str:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    program = shutil.which(command[0], path=path)
    if not program:
        raise HookError(
            command[0], "is not installed", "install the C library's programs (Debian: libc-bin)", "OGH1906"
        )
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise HookError(
            command[0], f"failed: {quoted(done.stderr.strip())}", "a glibc host is needed for a trial", "OGH1906"
        )
    return done.stdout

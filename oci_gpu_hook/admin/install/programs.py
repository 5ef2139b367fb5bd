"""Finds the programs that installed executables start: a Python that can run the hook, and the real OCI runtime."""

from __future__ import annotations

import os
import sys

from oci_gpu_hook.admin.install import front_file
from oci_gpu_hook.base.errors import HookError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Isolated, no site, nothing written, UTF-8 without a locale; front/programs.c says the same.
INTERPRETER_OPTIONS: Final = "-ISBXutf8"
_REAL_RUNTIMES: Final = ("runc", "crun")


def usable_interpreter(chosen: str = "") -> str:
    """Return the absolute path of the Python for the hook. Raises HookError if it cannot run the hook.

    The distribution's Python is preferred: it outlives virtual environments, belongs to root, and starts faster than
    most self-built ones. It must accept this Python's byte code, and have those parts of the standard library that
    minimal packages lack.
    """
    import subprocess
    from importlib.util import MAGIC_NUMBER

    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    named = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    probe = "import _imp, _json, _socket, _struct, _ctypes, errno; "
    probe += "from importlib.util import MAGIC_NUMBER as m; print(m.hex())"
    for path in (os.path.abspath(chosen),) if chosen else (named, base):
        command = [path, INTERPRETER_OPTIONS, "-c", probe]
        try:
            answer = subprocess.run(command, env={}, capture_output=True, timeout=60, check=False).stdout
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer.strip() == MAGIC_NUMBER.hex().encode():
            return os.path.realpath(path)
    why = f"does not run as Python {sys.version_info.major}.{sys.version_info.minor} with its whole standard library"
    raise HookError(
        quoted(chosen or base), why, "install the distribution's python3, or name another interpreter", "OGH1803"
    )


def find_real_runtime(chosen: str = "") -> str:
    """Return the absolute path of the runtime behind oci-gpu-runtime, "" if there is none.

    Raises HookError if the chosen one cannot be run, or is oci-gpu-runtime itself, which would call itself for ever.
    """
    from shutil import which

    for name in (chosen,) if chosen else _REAL_RUNTIMES:
        path = which(name)
        if path and not _is_ours(path):
            return os.path.abspath(path)
    if chosen:
        raise HookError(
            quoted(chosen), "is not an OCI runtime that can be run", "name the path of runc or crun", "OGH1803"
        )
    return ""


def _is_ours(path: str) -> bool:
    with open(path, "rb") as file:
        start = file.read(1 << 17)
    return front_file.MAGIC in start or b"oci-gpu hook-path" in start

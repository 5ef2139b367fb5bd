"""Starts `oci-gpu`: with the byte code that `oci-gpu hook-path` has prepared, where it is of this package.

Finding and reading a hundred modules takes as long as Python to start; out of one file they take a third of that.
"""

import sys
from posix import _exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAIN = "oci_gpu_hook.admin.cli.main"
_DIRECTORY = "/usr/libexec/oci-gpu-hook"  # place.SYSTEM_DIRECTORY


def main(directory: str = "") -> int:
    """Run the command of this process's command line; return its exit status, or end the process with it.

    directory: of the executables, if not the usual one.
    """
    try:
        _use_prepared(directory)
    except Exception:  # noqa: BLE001, S110  without it all is imported as usual, which takes longer
        pass
    from oci_gpu_hook.admin.cli.main import main as run

    if sys.stderr:
        sys.stderr = _Complaints(sys.stderr)
    status = run()
    if "atexit" not in sys.modules and "threading" not in sys.modules:  # then nothing is to be called at the end
        try:
            sys.stderr.flush()
        finally:
            _exit(status)  # to take the interpreter down takes a third as long as to start it
    return status


class _Complaints:
    """Stderr that neither ends a command halfway nor changes its exit status where nobody can read it."""

    def __init__(self, stream: "Any") -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write it, if that can be."""
        try:
            self._stream.write(text)
        except OSError:
            pass
        return len(text)

    def flush(self) -> None:
        """Write what is left, if that can be."""
        try:
            self._stream.flush()
        except OSError:
            pass


def _use_prepared(directory: str) -> None:
    from marshal import loads
    from posix import O_CLOEXEC, O_RDONLY, read
    from posix import open as opened

    usual = _DIRECTORY if sys.prefix == sys.base_prefix else f"{sys.prefix}/libexec/oci-gpu-hook"
    name = f"oci-gpu.{sys.implementation.cache_tag}.modules"  # byte code is of one version of Python
    file = opened(f"{directory or usual}/{name}", O_RDONLY | O_CLOEXEC)
    size = int.from_bytes(read(file, 8), "little")
    head = loads(read(file, size))  # noqa: S302
    scope: dict[str, Any] = {"__name__": "oci_gpu_hook.base.cpython.hotpath"}
    exec(head[0], scope)  # noqa: S102
    scope["use"](file, 8 + size, head, _MAIN, __file__.removesuffix("/admin/cli/door.py"))

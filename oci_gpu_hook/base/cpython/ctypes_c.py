"""The C half of `ctypes`, as far as system calls need it, without importing `ctypes`; falls back to `ctypes`.

What it saves a start: docs/performance.md, "What relies on CPython's internals".
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO, CFuncPtr, _SimpleCData, addressof, dlopen, dlsym, get_errno
except ImportError:
    import ctypes
    from ctypes import _SimpleCData, addressof, get_errno

    syscall: Any = ctypes.CDLL(None, use_errno=True).syscall  # it returns an int, as below
else:

    class _Function(CFuncPtr):
        """A C function that returns an int, as system calls do: descriptors, sizes and -1."""

        _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO

    syscall = _Function(dlsym(dlopen(None, 0), "syscall"))  # type: ignore[arg-type]

__all__ = ["addressof", "get_errno", "memory", "syscall"]

_Char: Any = None


def memory(size: int) -> Any:
    """Return zeroed memory (an array of C chars): `syscall` passes its address, and `raw` is its contents."""
    global _Char
    if _Char is None:  # the first simple type costs a tenth of a millisecond, and few starts need one

        class Char(_SimpleCData):  # type: ignore[type-arg]
            _type_ = "c"

        _Char = Char
    return (_Char * size)()

"""The C half of `ctypes`, as far as system calls need it, without `ctypes` itself; where that is changed, `ctypes`.

What it saves a start: see "What leans on CPython's inside" in docs/performance.md.
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
    """Return memory of C's chars, all zero: `syscall` passes it by address, `raw` is what it holds."""
    global _Char
    if _Char is None:  # the first simple type costs a tenth of a millisecond, and few starts want one

        class Char(_SimpleCData):  # type: ignore[type-arg]
            _type_ = "c"

        _Char = Char
    return (_Char * size)()

"""The child process that asks WSL's libdxcore for driver stores: `python -I -S dxcore_probe.py LIBRARY`.

It answers in JSON on stdout: {"stores": [PATH, …]} in the order of the adapters, or {"error"}. It is a separate program
because what it loads may hang or crash. Calls and structs: nvidia-container-toolkit, internal/dxcore/dxcore.c, and
Microsoft's d3dkmthk.h; adapters that compute only are listed, too, and those of drivers before WDDM 2.7 passed over.
"""

from __future__ import annotations

import ctypes
import json  # noqa: TID253
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_COMPUTE_TOO: Final = 1  # ENUMADAPTER3_FILTER_COMPUTE_ONLY
_DRIVER_VERSION: Final = 13
_REGISTRY: Final = 48
_STORE_PATH: Final = 2
_FIRST_WDDM: Final = 2700
_ROOM: Final = 64  # adapters
_NAME_SIZE: Final = 260


class _Adapter(ctypes.Structure):
    _fields_ = (
        ("handle", ctypes.c_uint),
        ("luid", ctypes.c_uint * 2),
        ("sources", ctypes.c_uint),
        ("move_regions", ctypes.c_uint),
    )


class _Adapters2(ctypes.Structure):
    _fields_ = (("count", ctypes.c_uint), ("adapters", ctypes.POINTER(_Adapter)))


class _Adapters3(ctypes.Structure):
    _fields_ = (("filter", ctypes.c_ulonglong), ("count", ctypes.c_uint), ("adapters", ctypes.POINTER(_Adapter)))


class _Registry(ctypes.Structure):
    _fields_ = (
        ("query", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("name", ctypes.c_wchar * _NAME_SIZE),
        ("kind", ctypes.c_uint),
        ("adapter", ctypes.c_uint),
        ("size", ctypes.c_uint),
        ("status", ctypes.c_int),
        ("output", ctypes.c_ulonglong),
        ("rest", ctypes.c_wchar * (_NAME_SIZE + 1)),
    )


class _Query(ctypes.Structure):
    _fields_ = (
        ("handle", ctypes.c_uint),
        ("kind", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_uint),
    )


def main(arguments: list[str]) -> int:
    """Print the answer."""
    try:
        answer: dict[str, Any] = {"stores": _stores(ctypes.CDLL(arguments[0]))}
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent reports it
        answer = {"error": str(error) or type(error).__name__}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    return 0


def _stores(library: Any) -> list[str]:
    found = []
    for adapter in _adapters(library):
        version = ctypes.c_uint()
        if _ask(library, adapter, _DRIVER_VERSION, version) and version.value >= _FIRST_WDDM:
            path = _store(library, adapter)
            if path:
                found.append(path)
    return found


def _adapters(library: Any) -> list[int]:
    for name, asked in (("D3DKMTEnumAdapters3", _Adapters3()), ("D3DKMTEnumAdapters2", _Adapters2())):
        function = getattr(library, name, None)
        if function is None:
            continue
        if isinstance(asked, _Adapters3):
            asked.filter = _COMPUTE_TOO
        if function(ctypes.byref(asked)) or asked.count > _ROOM:
            continue
        listed = (_Adapter * max(asked.count, 1))()
        asked.adapters = ctypes.cast(listed, ctypes.POINTER(_Adapter))
        if not function(ctypes.byref(asked)):
            return [adapter.handle for adapter in listed[: min(asked.count, len(listed))]]
    return []


def _store(library: Any, adapter: int) -> str:
    registry = _Registry(query=_STORE_PATH)
    offset = _Registry.output.offset
    # The first call returns the size; libdxcore takes no buffer of another size for the second.
    if not _ask(library, adapter, _REGISTRY, registry, offset + ctypes.sizeof(ctypes.c_ulonglong)):
        return ""
    size = registry.size
    if size > _NAME_SIZE * ctypes.sizeof(ctypes.c_wchar):
        return ""
    registry = _Registry(query=_STORE_PATH, size=size)
    if not _ask(library, adapter, _REGISTRY, registry, offset + ctypes.sizeof(ctypes.c_ulonglong) + size):
        return ""
    text = ctypes.wstring_at(ctypes.addressof(registry) + offset, size // ctypes.sizeof(ctypes.c_wchar))
    return text.partition("\0")[0]


def _ask(library: Any, adapter: int, kind: int, data: Any, size: int = 0) -> bool:
    query = _Query(handle=adapter, kind=kind, data=ctypes.addressof(data), size=size or ctypes.sizeof(data))
    failed: int = library.D3DKMTQueryAdapterInfo(ctypes.byref(query))
    return failed == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

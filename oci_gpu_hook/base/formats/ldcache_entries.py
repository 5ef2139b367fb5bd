"""The entries of an ld cache as values: used for the host's cache, and by tests for any cache."""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.formats.ldcache import Entry
from oci_gpu_hook.base.formats.ldcache_format import LdCacheError, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_HWCAP_EXTENSION: Final = 1 << 62  # the low 32 bits of hwcap are an index into the names of subdirectories
_HWCAP_ISA_LEVEL: Final = 0x3FF << 32  # bits that may be set as well
_HWCAP_INDEX: Final = 0xFFFF_FFFF


def parse(data: bytes) -> tuple[Entry, ...]:
    """Return the entries of a cache in their order in the cache. Raises LdCacheError."""
    table = read(data)
    texts: dict[int, str] = {}
    room = limits.LD_CACHE  # strings may overlap: without a limit a small file could hold 100,000 long ones

    def text(offset: int) -> str:
        nonlocal room
        if offset not in texts:
            string = table.string(offset)
            room -= len(string)
            if room < 0:
                raise LdCacheError(f"the strings of the ld cache are larger than {limits.LD_CACHE} bytes")
            texts[offset] = string.decode("utf-8", "surrogateescape")
        return texts[offset]

    def subdirectory(hwcap: int) -> str:
        named = hwcap & ~(_HWCAP_ISA_LEVEL | _HWCAP_INDEX) == _HWCAP_EXTENSION
        index = hwcap & _HWCAP_INDEX
        return text(table.hwcaps[index]) if named and index < len(table.hwcaps) else ""

    return tuple(
        Entry(
            name=text(key),
            path=text(value),
            flags=flags,
            os_version=os_version,
            hwcap=hwcap,
            subdirectory=subdirectory(hwcap),
        )
        for flags, key, value, os_version, hwcap in table.entries
    )

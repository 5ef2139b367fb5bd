"""The binary format of /etc/ld.so.cache: reads an untrusted file into a checked `Table`, and writes one.

Source: glibc 2.43 sysdeps/generic/dl-cache.h, elf/cache.c (ldconfig), elf/dl-cache.c (the loader). Three formats:
- old: "ld.so-1.7.0", entries (flags, key, value), strings; offsets count from the strings;
- new: "glibc-ld.so.cache1.1", entries that also have an OS version and hardware capabilities, strings, and since glibc
  2.33 a directory of extensions; offsets count from the magic;
- compat: a new cache among the strings of an old one. ldconfig's default until glibc 2.32.

This module reads all three and writes the new one. Every glibc since 2.2 reads the new format (`_dl_load_cache_lookup`
of that release); a glibc that reads only the old one is older than CUDA.
"""

from __future__ import annotations

from struct import Struct, pack, unpack_from

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, TypeAlias

    RawEntry: TypeAlias = tuple[int, int, int, int, int]


FLAGS, KEY, VALUE = 0, 1, 2  # their indices in an entry

_OLD_MAGIC: Final = b"ld.so-1.7.0"
_OLD_COUNT: Final = 12  # after the magic and a byte of padding
_OLD_HEADER_SIZE: Final = 16
_OLD_ENTRY: Final = Struct("<III")

_NEW_MAGIC: Final = b"glibc-ld.so.cache1.1"
_NEW_HEADER: Final = Struct("<20s II B3x I 12x")  # magic, entries, size of strings, byte order, extensions' offset
_NEW_ENTRY: Final = Struct("<III I Q")

_BYTE_ORDER_UNSET: Final = 0  # ldconfig before glibc 2.33
_BYTE_ORDER_LITTLE: Final = 2
_BYTE_ORDER_MASK: Final = 3

_EXTENSION_MAGIC: Final = -358342284 & 0xFFFF_FFFF
_DIRECTORY: Final = Struct("<II")  # magic, number of sections
_SECTION: Final = Struct("<IIII")  # tag, flags, offset in the file, size
_TAG_GENERATOR: Final = 0
_TAG_HWCAPS: Final = 1
_MOST_SECTIONS: Final = 64  # two kinds of section are known
_USUAL_STRINGS: Final = 160  # bytes of strings for each entry; ldconfig's caches have about 80


class LdCacheError(ValueError):
    """The bytes are not a valid ld cache, or an entry cannot be written into one."""


class Table(Record):
    """A cache in parts. Keys, values and `hwcaps` are offsets that count from `base` bytes before `strings`.

    entries: flags, key (the name), value (the path), OS version, hwcap. hwcaps: the names that hwcap fields
    refer to by their index.
    generator: the program that wrote the cache, b"" if the cache does not say.
    """

    entries: Sequence[RawEntry] = ()
    strings: bytes = b""
    base: int = 0
    byte_order: int = _BYTE_ORDER_LITTLE
    hwcaps: tuple[int, ...] = ()
    generator: bytes = b""

    def string(self, offset: int) -> bytes:
        """Return the string at an offset. Raises LdCacheError if it is longer than a path can be."""
        start = offset - self.base
        end = self.strings.find(b"\0", start, start + limits.LD_CACHE_STRING)
        if end < 0:
            raise LdCacheError(f"the ld cache has a string of more than {limits.LD_CACHE_STRING - 1} bytes")
        return self.strings[start:end]

    def offsets(self) -> list[int]:
        """Return every offset of the table."""
        return [entry[KEY] for entry in self.entries] + [entry[VALUE] for entry in self.entries] + list(self.hwcaps)

    def has_unused_strings(self) -> bool:
        """Tell whether there are far more strings than the entries can refer to. Cheap: nothing is counted."""
        return len(self.strings) > _USUAL_STRINGS * (len(self.entries) + len(self.hwcaps) + 1)

    def compact(self) -> Table:
        """Return the table with only those strings that something refers to. Raises LdCacheError."""
        moved: dict[int, int] = {}
        strings = bytearray()
        for offset in self.offsets():
            if offset not in moved:
                moved[offset] = len(strings)
                strings += self.string(offset)
                strings.append(0)
                if len(strings) > limits.LD_CACHE:  # strings may overlap, so separate copies of them may be longer
                    raise LdCacheError(f"the strings of the ld cache are larger than {limits.LD_CACHE} bytes")
        entries = [(entry[FLAGS], moved[entry[KEY]], moved[entry[VALUE]], *entry[3:]) for entry in self.entries]
        hwcaps = tuple(moved[offset] for offset in self.hwcaps)
        return self.replace(entries=entries, strings=bytes(strings), base=0, hwcaps=hwcaps)


def read(data: bytes) -> Table:
    """Return the table of a cache of any format. Raises LdCacheError."""
    if len(data) > limits.LD_CACHE:
        raise LdCacheError(f"the ld cache is larger than {limits.LD_CACHE} bytes")
    if data.startswith(_NEW_MAGIC):
        table = _read_new(data, 0)
    elif data.startswith(_OLD_MAGIC) and len(data) >= _OLD_HEADER_SIZE:
        table = _read_old(data)
    else:
        raise LdCacheError("the file does not begin as an ld cache does")
    offsets = table.offsets()
    last = table.base + table.strings.rfind(b"\0")  # every string that begins here or before ends in a NUL byte
    if offsets and not table.base <= min(offsets) <= max(offsets) <= last:
        raise LdCacheError("the ld cache refers to a string that it does not hold")
    return table


def write(table: Table) -> bytes:
    """Return the table in the new format, laid out as ldconfig does."""
    base = _NEW_HEADER.size + len(table.entries) * _NEW_ENTRY.size
    shift = base - table.base
    record = _NEW_ENTRY.pack
    entries = [
        record(flags, key + shift, value + shift, os_version, hwcap)
        for flags, key, value, os_version, hwcap in table.entries
    ]
    end = base + len(table.strings)
    padding = b"" if not table.generator and not table.hwcaps else bytes(-end % 4)
    extensions = _extensions(table, shift, end + len(padding))
    if end + len(padding) + len(extensions) > limits.LD_CACHE or len(entries) > limits.LD_CACHE_ENTRIES:
        raise LdCacheError("the ld cache would be larger than this project reads")
    header = _NEW_HEADER.pack(
        _NEW_MAGIC, len(entries), len(table.strings), table.byte_order, end + len(padding) if extensions else 0
    )
    return b"".join((header, *entries, table.strings, padding, extensions))


def _read_old(data: bytes) -> Table:
    (count,) = unpack_from("<I", data, _OLD_COUNT)
    end = _end_of_entries(data, _OLD_HEADER_SIZE, count, _OLD_ENTRY.size)
    for alignment in (8, 4):  # of a 64-bit integer in a struct; 4 on i386
        header = (end + alignment - 1) & -alignment
        if data.startswith(_NEW_MAGIC, header):
            return _read_new(data, header)
    old = _OLD_ENTRY.iter_unpack(data[_OLD_HEADER_SIZE:end])
    return Table(entries=[(*entry, 0, 0) for entry in old], strings=data[end:], base=0)


def _read_new(data: bytes, header: int) -> Table:
    entries = header + _NEW_HEADER.size
    if len(data) < entries:
        raise LdCacheError("the ld cache ends in its header")
    _magic, count, strings_size, byte_order, extensions = _NEW_HEADER.unpack_from(data, header)
    if byte_order != _BYTE_ORDER_UNSET and byte_order & _BYTE_ORDER_MASK != _BYTE_ORDER_LITTLE:
        raise LdCacheError("the ld cache is marked as one of a big-endian machine")
    end = _end_of_entries(data, entries, count, _NEW_ENTRY.size)
    if end + strings_size > len(data):
        raise LdCacheError("the ld cache ends in its strings")
    # In a compat cache, glibc's readers count the offsets of hwcaps' names from the start of the file, but ldconfig
    # counts them from the new magic. What ldconfig meant is kept; in the new format the two are the same.
    generator, hwcaps = _read_extensions(data, extensions) if extensions else (b"", ())
    return Table(
        entries=list(_NEW_ENTRY.iter_unpack(data[entries:end])),
        strings=data[end : end + strings_size],
        base=end - header,
        byte_order=byte_order,
        hwcaps=hwcaps,
        generator=generator,
    )


def _end_of_entries(data: bytes, start: int, count: int, size: int) -> int:
    if count > limits.LD_CACHE_ENTRIES:
        raise LdCacheError(f"the ld cache claims {count} entries, and {limits.LD_CACHE_ENTRIES} are allowed")
    end = start + count * size
    if end > len(data):
        raise LdCacheError("the ld cache ends in its entries")
    return end


def _read_extensions(data: bytes, offset: int) -> tuple[bytes, tuple[int, ...]]:
    """Return the generator and the hwcaps. Sections of other kinds are left out: their offsets cannot be adjusted."""
    first = offset + _DIRECTORY.size
    if offset % 4 or first > len(data):
        raise LdCacheError("the ld cache has no directory of extensions where its header says")
    magic, count = _DIRECTORY.unpack_from(data, offset)
    if magic != _EXTENSION_MAGIC or count > _MOST_SECTIONS or first + count * _SECTION.size > len(data):
        raise LdCacheError("the ld cache has a malformed directory of extensions")
    sections = {}
    for at in range(first, first + count * _SECTION.size, _SECTION.size):
        tag, _flags, start, size = _SECTION.unpack_from(data, at)
        if start + size > len(data):
            raise LdCacheError("the ld cache ends in its extensions")
        sections[tag] = data[start : start + size]
    hwcaps = sections.get(_TAG_HWCAPS, b"")
    if len(hwcaps) % 4 or len(hwcaps) > 4 * limits.LD_CACHE_ENTRIES:
        raise LdCacheError("the ld cache has a malformed list of hardware capabilities")
    return sections.get(_TAG_GENERATOR, b""), unpack_from(f"<{len(hwcaps) // 4}I", hwcaps)


def _extensions(table: Table, shift: int, offset: int) -> bytes:
    """Return the directory of extensions that stands at `offset` of the file, and its sections; b"" for none."""
    hwcaps = pack(f"<{len(table.hwcaps)}I", *(name + shift for name in table.hwcaps))
    present = bool(table.generator) + bool(hwcaps)
    # As ldconfig does: the directory names the generator first, but its text comes last, as it needs no alignment.
    names = offset + _DIRECTORY.size + present * _SECTION.size
    sections = []
    if table.generator:
        sections.append(_SECTION.pack(_TAG_GENERATOR, 0, names + len(hwcaps), len(table.generator)))
    if hwcaps:
        sections.append(_SECTION.pack(_TAG_HWCAPS, 0, names, len(hwcaps)))
    directory = _DIRECTORY.pack(_EXTENSION_MAGIC, present) if present else b""
    return b"".join((directory, *sections, hwcaps, table.generator))

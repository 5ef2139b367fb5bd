"""The dynamic loader's cache, /etc/ld.so.cache: its entries, and an image's cache with the driver's entries put first.

Pure: it reads and writes no file, and it does not run ldconfig, which would parse the image's bytes. ldcache_format.py
has the binary format; this module has the order of entries and which of them the loader takes (glibc 2.43
elf/dl-cache.c `search_cache`, `_dl_cache_libcmp`; elf/cache.c `compare`).
"""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.base.formats.ldcache_format import FLAGS, KEY, VALUE, LdCacheError, Table, read, write
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence
    from typing import Final

    from oci_gpu_hook.base.formats.ldcache_format import RawEntry

__all__ = ["Entry", "LdCacheError", "build", "flags_for", "merge", "remove"]

LONGEST_NAME: Final = 255  # bytes: include/uapi/linux/limits.h, NAME_MAX

# sysdeps/generic/ldconfig.h: FLAG_ELF_LIBC6 (3), and the ABI in the second byte. i386 has none.
_FLAGS: Final = {
    ("x86_64", 64): 0x0303,
    ("x86_64", 32): 0x0003,  # i386, which is what an x86_64 driver's 32-bit libraries are
    ("i386", 32): 0x0003,
    ("i686", 32): 0x0003,
    ("x32", 32): 0x0803,
    ("aarch64", 64): 0x0A03,
    ("aarch64", 32): 0x0903,
    ("arm", 32): 0x0903,  # hard-float
}
_KINDS: Final = b"." * 48 + b"0" * 10 + b"." * 198  # the kind of each byte: 0 for a digit, a dot for all else
_UNSIGNED_CHAR: Final = (0x0903, 0x0A03)  # flags of machines where C's char is unsigned; on x86 it is signed


class Entry(Record):
    """A library that the loader finds by `name` at `path`; `flags` are its ABI (see flags_for).

    os_version: the oldest kernel version, ignored since glibc 2.36. hwcap: the field as stored; subdirectory: the
    directory below glibc-hwcaps that hwcap means ("x86-64-v3"), or "".
    """

    name: str
    path: str
    flags: int
    os_version: int = 0
    hwcap: int = 0
    subdirectory: str = ""


def flags_for(machine: str, bits: int) -> int:
    """Return the flags of `bits`-bit libraries on `machine` (uname's word, or "x32"). Raises LdCacheError."""
    try:
        return _FLAGS[machine, bits]
    except KeyError:
        raise LdCacheError(f"no ld cache flags are known for {bits}-bit libraries of {quoted(machine)}") from None


def build(additions: Sequence[Entry]) -> bytes:
    """Return a cache of just these entries. Of two with the same name and ABI the loader takes the first."""
    return write(_with(Table(), additions))


def merge(image_cache: bytes, additions: Sequence[Entry], drop: Container[str] = ()) -> bytes:
    """Return the image's cache with the additions in front of its entries of the same name and flags.

    image_cache: b"" if there is none. The image's entries keep their order and their hardware capabilities, except that
    entries whose path is in `drop`, and those that an addition repeats, are removed. If many strings are unused they
    are removed as well, because the container's cache is kept in the host's memory. The loader takes an addition even
    where the image has a glibc-hwcaps variant of
    that name: it stops at the first entry that belongs to no subdirectory. Raises LdCacheError; the loader cannot use
    such a cache either, so the caller loses nothing by calling `build` instead.
    """
    if not image_cache:
        return build(additions)
    table = _without(read(image_cache), drop)
    if table.has_unused_strings():
        table = table.compact()
    return write(_with(table, additions))


def remove(cache: bytes, paths: Container[str]) -> bytes:
    """Return the cache without the entries of these paths, which undoes `merge`. Raises LdCacheError."""
    table = read(cache)
    kept = _without(table, paths)
    return cache if kept is table else write(kept)


def _without(table: Table, paths: Container[str]) -> Table:
    """Return the table without the entries of these paths, and without strings at its end that are then unused."""
    if paths == ():
        return table
    entries = [entry for entry in table.entries if _decode(table.string(entry[VALUE])) not in paths]
    if len(entries) == len(table.entries):
        return table
    last = max(table.replace(entries=entries).offsets(), default=None)
    end = 0 if last is None else last - table.base + len(table.string(last)) + 1
    return table.replace(entries=entries, strings=table.strings[:end])


def _with(table: Table, additions: Sequence[Entry]) -> Table:
    """Return the table with the additions, each before any entry that the loader could take instead."""
    signed = {addition.flags for addition in additions}.isdisjoint(_UNSIGNED_CHAR)
    paths = _encoded([addition.path for addition in additions], limits.LD_CACHE_STRING - 1)
    names = _encoded([addition.name for addition in additions], LONGEST_NAME)
    value = table.base + len(table.strings)
    strings = b"\0".join((*paths, b""))
    end = value + len(strings)
    others = bytearray()  # names that no path ends with
    placed = []
    orders: dict[bytes, tuple[int, ...]] = {}  # 64-bit and 32-bit libraries have the same names
    endings: dict[bytes, tuple[int, ...]] = {}  # ".so.1", ".so.580.95.05": few for many names
    for index, addition in enumerate(additions):
        if addition.hwcap:
            raise LdCacheError(f"{quoted(addition.path)} has hardware capabilities, which an addition cannot have")
        path, name = paths[index], names[index]
        if name not in orders:
            stem, dot, version = name.partition(b".")
            ending = dot + version
            if ending not in endings:
                endings[ending] = _order(ending, signed=signed)
            orders[name] = _order(stem, signed=signed)[:-1] + endings[ending]
        if path.endswith(name):  # a name may be stored as the end of a path, as ldconfig does
            key = value + len(path) - len(name)
        else:
            key = end + len(others)
            others += name
            others.append(0)
        flags = addition.flags
        placed.append((orders[name], flags, -index, (flags, key, value, addition.os_version, 0), path))
        value += len(path) + 1
    placed.sort(reverse=True)  # entries with the same name and flags keep their order
    listed = _inserted(table, placed, signed=signed)
    return table.replace(entries=listed, strings=table.strings + strings + others)


def _inserted(
    table: Table, placed: list[tuple[tuple[int, ...], int, int, RawEntry, bytes]], *, signed: bool
) -> list[RawEntry]:
    """Return the table's entries merged with `placed`: (order, flags, number, entry, path), sorted like the table.

    The table is sorted in descending order of name, then flags. Only the places of the additions are searched: sorting
    an image's whole table would cost more than everything else.
    """
    entries = list(table.entries)
    orders: dict[int, tuple[int, ...]] = {}  # by key, because every binary search begins with the same entries

    def order(index: int) -> tuple[int, ...]:
        key = entries[index][KEY]
        if key not in orders:
            orders[key] = _order(table.string(key), signed=signed)
        return orders[key]

    def end_of_run(start: int, wanted: tuple[int, ...], test: Callable[[int], bool]) -> int:
        """Return the end of the run of entries from `start` that have the wanted name and flags that pass the test."""
        while start < len(entries) and test(entries[start][FLAGS]) and order(start) == wanted:
            start += 1
        return start

    merged: list[RawEntry] = []
    copied = 0  # how many entries of the table are in `merged`
    for wanted, flags, _number, addition, path in placed:
        place = copied  # the next driver library usually goes to the same place
        if place < len(entries) and order(place) > wanted:
            place = _search(order, wanted, place + 1, len(entries))
        if place < len(entries) and order(place) == wanted:
            place = end_of_run(place, wanted, flags.__lt__)
            rivals = slice(place, end_of_run(place, wanted, flags.__eq__))
            entries[rivals] = [entry for entry in entries[rivals] if table.string(entry[VALUE]) != path]
        if place > copied:
            merged += entries[copied:place]
            copied = place
        merged.append(addition)
    return merged + entries[copied:]


def _search(order: Callable[[int], tuple[int, ...]], wanted: tuple[int, ...], low: int, high: int) -> int:
    """Return the first index from `low` whose order is not above the wanted one; the order is descending."""
    while low < high:
        middle = (low + high) // 2
        if order(middle) > wanted:
            low = middle + 1
        else:
            high = middle
    return low


def _order(name: bytes, *, signed: bool) -> tuple[int, ...]:
    """Return a key that compares as `_dl_cache_libcmp` does: runs of digits as numbers, above any other character.

    signed: whether C's char is. A number is a C int, which wraps. Characters beyond the longest file name are ignored:
    they decide nothing, and this bounds the work.
    """
    name = name[: LONGEST_NAME + 1]
    kinds = name.translate(_KINDS)
    if b"0" not in kinds and name.isascii():
        return (*name, 0)
    order: list[int] = []
    done = 0
    while (digits := kinds.find(b"0", done)) >= 0:
        order += name[done:digits]
        done = kinds.find(b".", digits)
        if done < 0:
            done = len(name)
        order.append(256 + (int(name[digits:done]) + 2**31) % 2**32)
    order += name[done:]
    if signed and not name.isascii():
        order = [value - 256 if 127 < value < 256 else value for value in order]
    order.append(0)
    return tuple(order)


def _encoded(texts: list[str], longest: int) -> list[bytes]:
    """Return texts as bytes of at most `longest` each. Raises LdCacheError for one that a cache cannot hold."""
    try:
        found = "\0".join(texts).encode("utf-8", "surrogateescape").split(b"\0") if texts else []
    except UnicodeEncodeError:
        found = []
    if len(found) != len(texts) or b"" in found or max(map(len, found), default=0) > longest:
        for text in texts:
            _refuse(text, longest)
    return found


def _refuse(text: str, longest: int) -> None:
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = b""
    if not data or b"\0" in data or len(data) > longest:
        raise LdCacheError(f"an ld cache cannot have {quoted(text)}")


def _decode(string: bytes) -> str:
    return string.decode("utf-8", "surrogateescape")

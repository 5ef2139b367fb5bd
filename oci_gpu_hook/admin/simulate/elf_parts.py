"""The parts of an ELF file as bytes: headers, symbols, notes, tables of strings and hashes. Pure.

Format: System V gABI, chapters 4 and 5; e_machine and page sizes: each psABI.
"""

from __future__ import annotations

import struct

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_GNU_STACK = 1, 2, 3, 4, 0x6474E551
PF_X, PF_W, PF_R = 1, 2, 4
SHT_PROGBITS, SHT_STRTAB, SHT_HASH, SHT_DYNAMIC, SHT_NOTE, SHT_DYNSYM = 1, 3, 5, 6, 7, 11
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
DT_NULL, DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_SONAME = 0, 1, 4, 5, 6, 10, 11, 14
ET_DYN = 3
GLOBAL_FUNCTION: Final = 1 << 4 | 2  # st_info: STB_GLOBAL, STT_FUNC
ALIGNMENT: Final = 16


class Machine(Record):
    """What differs between architectures. page: the largest page size a kernel may use; return_zero: machine code."""

    number: int  # e_machine
    bits: int
    page: int
    return_zero: bytes


MACHINES: Final = {
    "x86_64": Machine(number=62, bits=64, page=0x1000, return_zero=b"\x31\xc0\xc3"),  # xor eax,eax; ret
    "i386": Machine(number=3, bits=32, page=0x1000, return_zero=b"\x31\xc0\xc3"),
    "aarch64": Machine(number=183, bits=64, page=0x10000, return_zero=b"\x00\x00\x80\x52\xc0\x03\x5f\xd6"),
    "riscv64": Machine(number=243, bits=64, page=0x1000, return_zero=b"\x13\x05\x00\x00\x67\x80\x00\x00"),
}


class Note(Record):
    """A note in a section with its own name, e.g. `.note.ABI-tag`, owner `GNU`, type 1."""

    section: str
    owner: str
    type: int
    description: bytes


class Section(Record):
    """A section header's fields. link, info: what they mean depends on the type."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int = 0
    info: int = 0
    entry_size: int = 0


class Segment(Record):
    """A program header's fields, its address in the file and in memory alike."""

    type: int
    flags: int
    offset: int = 0
    address: int = 0
    size: int = 0
    alignment: int


class Strings:
    """A string table: NUL-terminated names, the empty one first."""

    def __init__(self) -> None:
        self.table = bytearray(1)

    def add(self, name: str) -> int:
        """Add a name; return where it is."""
        at = len(self.table)
        self.table += name.encode("ascii") + b"\0"
        return at


def header_size(target: Machine) -> int:
    """Return the size of the file header."""
    return 64 if target.bits == 64 else 52


def program_header_size(target: Machine) -> int:
    """Return the size of a program header."""
    return 56 if target.bits == 64 else 32


def header(target: Machine, sections_at: int, segments: int, sections: int) -> bytes:
    """Return the file header."""
    wide = target.bits == 64
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1, 0]) + bytes(8)
    size, entry = header_size(target), program_header_size(target)
    return ident + struct.pack(
        "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH",
        *(ET_DYN, target.number, 1, 0, size, sections_at, 0),
        *(size, entry, segments, 64 if wide else 40, sections, sections - 1),
    )


def program_header(target: Machine, segment: Segment) -> bytes:
    """Return a program header."""
    place = (segment.offset, segment.address, segment.address, segment.size, segment.size)
    if target.bits == 64:
        return struct.pack("<IIQQQQQQ", segment.type, segment.flags, *place, segment.alignment)
    return struct.pack("<IIIIIIII", segment.type, *place, segment.flags, segment.alignment)


def section_header(target: Machine, name: int, section: Section) -> bytes:
    """Return a section header; name: where it is in the table of section names."""
    alignment = {0: 0, SHT_NOTE: 4}.get(section.type, 8)
    return struct.pack(
        "<IIQQQQIIQQ" if target.bits == 64 else "<IIIIIIIIII",
        *(name, section.type, section.flags, section.address, section.offset, section.size),
        *(section.link, section.info, alignment, section.entry_size),
    )


def symbol(target: Machine, name: int, value: int, size: int, section: int) -> bytes:
    """Return a symbol; the null symbol where `section` is 0."""
    info = GLOBAL_FUNCTION if section else 0
    if target.bits == 64:
        return struct.pack("<IBBHQQ", name, info, 0, section, value, size)
    return struct.pack("<IIIBBH", name, value, size, info, 0, section)


def note(note: Note) -> bytes:
    """Return a note."""
    owner = note.owner.encode("ascii") + b"\0"
    padded = [part + bytes(-len(part) % 4) for part in (owner, note.description)]
    return struct.pack("<III", len(owner), len(note.description), note.type) + b"".join(padded)


def hash_table(names: Sequence[str]) -> bytes:
    """Return the gABI's hash table over symbols 1…n, which bear `names`; symbol 0 is the null symbol."""
    buckets = [0] * max(1, len(names))
    chain = [0] * (len(names) + 1)
    for index, name in enumerate(names, start=1):
        bucket = _hash(name) % len(buckets)
        chain[index] = buckets[bucket]
        buckets[bucket] = index
    return struct.pack(f"<{2 + len(buckets) + len(chain)}I", len(buckets), len(chain), *buckets, *chain)


def _hash(name: str) -> int:
    value = 0
    for byte in name.encode("ascii"):
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high
    return value & 0xFFFFFFFF

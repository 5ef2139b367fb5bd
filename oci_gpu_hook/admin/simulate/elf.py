"""Writes small ELF shared objects, so that no compiler for the other word size or architecture is needed.

The images are real: `dlopen` loads them and finds their symbols, `ldconfig` lists them by SONAME, readelf reads them.
Every function they export returns 0. Format: System V gABI, chapters 4 and 5; e_machine and page sizes: each psABI.
"""

from __future__ import annotations

import struct

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

PT_LOAD, PT_DYNAMIC, PT_NOTE, PT_GNU_STACK = 1, 2, 4, 0x6474E551
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
    """A note in a section of its own name, e.g. `.note.ABI-tag`, owner `GNU`, type 1."""

    section: str
    owner: str
    type: int
    description: bytes


class _Section(Record):
    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int = 0
    info: int = 0
    entry_size: int = 0


class _Segment(Record):
    type: int
    flags: int
    offset: int = 0
    address: int = 0
    size: int = 0
    alignment: int


class _Image:
    """A file under construction: its bytes, and the sections placed in it. The headers come last."""

    def __init__(self, machine: Machine, segments: int) -> None:
        self.machine = machine
        self.content = bytearray(_header_size(machine) + segments * _program_header_size(machine))
        self.sections = [_Section(name="", type=0, flags=0, address=0, offset=0, size=0)]

    def place(self, name: str, kind: int, content: bytes, *, page: int = 0, **fields: int) -> _Section:
        """Append a section whose address is its offset, plus `page` where it goes to a page of its own."""
        self.content.extend(bytes(-len(self.content) % ALIGNMENT))
        offset = len(self.content)
        self.content.extend(content)
        flags = SHF_ALLOC | fields.pop("flags", 0)
        section = _Section(
            name=name, type=kind, flags=flags, address=page + offset, offset=offset, size=len(content), **fields
        )
        self.sections.append(section)
        return section

    def index(self, section: _Section) -> int:
        return self.sections.index(section)


def shared_object(
    machine: str,
    soname: str = "",
    *,
    needed: Sequence[str] = (),
    exports: Sequence[str] = (),
    notes: Sequence[Note] = (),
) -> bytes:
    """Return the image of a shared object for `machine`, a key of MACHINES.

    One segment holds all that is read and run, a second one the dynamic section, which glibc's loader writes to.
    """
    target = MACHINES[machine]
    wide = target.bits == 64
    strings = _Strings()
    names = [(DT_NEEDED, strings.add(name)) for name in needed]
    if soname:
        names.append((DT_SONAME, strings.add(soname)))
    symbol_names = [strings.add(name) for name in exports]

    image = _Image(target, segments=4 + len(notes))
    note_sections = [image.place(note.section, SHT_NOTE, _note(note)) for note in notes]
    code = image.place(".text", SHT_PROGBITS, target.return_zero, flags=SHF_EXECINSTR)
    dynstr = image.place(".dynstr", SHT_STRTAB, bytes(strings.table))
    symbols = [_symbol(target, 0, 0, 0, 0)]
    symbols += [_symbol(target, name, code.address, code.size, image.index(code)) for name in symbol_names]
    dynsym = image.place(
        ".dynsym",
        SHT_DYNSYM,
        b"".join(symbols),
        link=image.index(dynstr),
        info=1,
        entry_size=len(symbols[0]),
    )
    hash_table = image.place(".hash", SHT_HASH, _hash_table(exports), link=image.index(dynsym), entry_size=4)
    read_only = _Segment(type=PT_LOAD, flags=PF_R | PF_X, size=len(image.content), alignment=target.page)
    entries = [
        *names,
        (DT_HASH, hash_table.address),
        (DT_STRTAB, dynstr.address),
        (DT_SYMTAB, dynsym.address),
        (DT_STRSZ, dynstr.size),
        (DT_SYMENT, dynsym.entry_size),
        (DT_NULL, 0),
    ]
    dynamic = image.place(
        ".dynamic",
        SHT_DYNAMIC,
        b"".join(struct.pack("<qQ" if wide else "<iI", *entry) for entry in entries),
        page=target.page,
        flags=SHF_WRITE,
        link=image.index(dynstr),
        entry_size=16 if wide else 8,
    )
    return _finished(
        image,
        [
            read_only,
            _segment(PT_LOAD, PF_R | PF_W, dynamic, target.page),
            _segment(PT_DYNAMIC, PF_R | PF_W, dynamic, 8),
            _Segment(type=PT_GNU_STACK, flags=PF_R | PF_W, alignment=ALIGNMENT),  # else stacks would be executable
            *(_segment(PT_NOTE, PF_R, section, 4) for section in note_sections),
        ],
    )


def _segment(kind: int, flags: int, section: _Section, alignment: int) -> _Segment:
    return _Segment(
        type=kind,
        flags=flags,
        offset=section.offset,
        address=section.address,
        size=section.size,
        alignment=alignment,
    )


def _finished(image: _Image, segments: Sequence[_Segment]) -> bytes:
    """Append the section names and headers, fill in the headers at the front, and return the bytes."""
    names = _Strings()
    name_offsets = [names.add(section.name) if section.name else 0 for section in image.sections]
    name_offsets.append(names.add(".shstrtab"))
    content, target = image.content, image.machine
    own = _Section(name="", type=SHT_STRTAB, flags=0, address=0, offset=len(content), size=len(names.table))
    content.extend(names.table)
    content.extend(bytes(-len(content) % ALIGNMENT))
    headers_at = len(content)
    sections = [*image.sections, own]
    for name, section in zip(name_offsets, sections, strict=True):
        content.extend(_section_header(target, name, section))
    front = _header(target, headers_at, len(segments), len(sections))
    front += b"".join(_program_header(target, segment) for segment in segments)
    content[: len(front)] = front
    return bytes(content)


class _Strings:
    """A string table: NUL-terminated names, the empty one first."""

    def __init__(self) -> None:
        self.table = bytearray(1)

    def add(self, name: str) -> int:
        at = len(self.table)
        self.table += name.encode("ascii") + b"\0"
        return at


def _header_size(target: Machine) -> int:
    return 64 if target.bits == 64 else 52


def _program_header_size(target: Machine) -> int:
    return 56 if target.bits == 64 else 32


def _header(target: Machine, sections_at: int, segments: int, sections: int) -> bytes:
    wide = target.bits == 64
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1, 0]) + bytes(8)
    size, entry = _header_size(target), _program_header_size(target)
    return ident + struct.pack(
        "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH",
        *(ET_DYN, target.number, 1, 0, size, sections_at, 0),
        *(size, entry, segments, 64 if wide else 40, sections, sections - 1),
    )


def _program_header(target: Machine, segment: _Segment) -> bytes:
    place = (segment.offset, segment.address, segment.address, segment.size, segment.size)
    if target.bits == 64:
        return struct.pack("<IIQQQQQQ", segment.type, segment.flags, *place, segment.alignment)
    return struct.pack("<IIIIIIII", segment.type, *place, segment.flags, segment.alignment)


def _section_header(target: Machine, name: int, section: _Section) -> bytes:
    alignment = {0: 0, SHT_NOTE: 4}.get(section.type, 8)
    return struct.pack(
        "<IIQQQQIIQQ" if target.bits == 64 else "<IIIIIIIIII",
        *(name, section.type, section.flags, section.address, section.offset, section.size),
        *(section.link, section.info, alignment, section.entry_size),
    )


def _symbol(target: Machine, name: int, value: int, size: int, section: int) -> bytes:
    info = GLOBAL_FUNCTION if section else 0
    if target.bits == 64:
        return struct.pack("<IBBHQQ", name, info, 0, section, value, size)
    return struct.pack("<IIIBBH", name, value, size, info, 0, section)


def _note(note: Note) -> bytes:
    owner = note.owner.encode("ascii") + b"\0"
    padded = [part + bytes(-len(part) % 4) for part in (owner, note.description)]
    return struct.pack("<III", len(owner), len(note.description), note.type) + b"".join(padded)


def _hash_table(names: Sequence[str]) -> bytes:
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

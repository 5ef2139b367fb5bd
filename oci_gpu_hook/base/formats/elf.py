"""Reads untrusted ELF files: class, machine, SONAME, CUDA's note.

Every byte is read by pread from an offset that was checked, and every size has a limit: nothing is mapped, loaded or
run, and a hostile file costs a bounded number of small reads. Little-endian files only, which is what x86_64 and
aarch64 use. Source: System V gABI, "Object Files" and "Dynamic Linking"; glibc elf/elf.h.
"""

from __future__ import annotations

import os
from struct import Struct, unpack_from

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

X86_64: Final = 62  # EM_*
I386: Final = 3
AARCH64: Final = 183
ARM: Final = 40

_FIRST_READ: Final = 4096  # holds the header and, in files as linkers write them, the program headers
_LARGEST_FILE: Final = 1 << 40  # bytes
_LONGEST_NAME: Final = 256  # bytes with the NUL: include/uapi/linux/limits.h, NAME_MAX

_PT_LOAD: Final = 1
_PT_DYNAMIC: Final = 2
_PT_INTERP: Final = 3
_SHT_NOTE: Final = 7
_DT_NULL: Final = 0
_DT_STRTAB: Final = 5
_DT_STRSZ: Final = 10
_DT_SONAME: Final = 14


class ElfError(ValueError):
    """The file is not an ELF file, or one that this module does not understand."""


class Elf(Record):
    """bits: 64 or 32. machine: e_machine. soname: "" without one."""

    bits: int
    machine: int
    soname: str = ""


class _Layout(Record):
    """How the structures of an ELF class are packed, and the indices of those fields that are used."""

    bits: int
    header: Struct  # after e_ident: type, machine, version, entry, phoff, shoff, flags, ehsize, ph*, sh*
    segment: Struct  # type, offset, vaddr, filesz, align
    section: Struct  # name, type, offset, size, addralign
    dynamic: Struct  # tag, value


_LAYOUTS: Final = {
    1: _Layout(
        bits=32,
        header=Struct("<HHI III I HHHHHH"),
        segment=Struct("<I I I 4x I 4x 4x I"),
        section=Struct("<I I 4x 4x I I 4x 4x I 4x"),
        dynamic=Struct("<II"),
    ),
    2: _Layout(
        bits=64,
        header=Struct("<HHI QQQ I HHHHHH"),
        segment=Struct("<I 4x Q Q 8x Q 8x Q"),
        section=Struct("<I I 8x 8x Q Q 4x 4x Q 8x"),
        dynamic=Struct("<QQ"),
    ),
}


class _File(Record):
    """An open file whose header has been read."""

    fd: int
    layout: _Layout
    machine: int
    segments: tuple[tuple[int, int, int, int, int], ...]
    section_table: tuple[int, int, int]  # offset, number, index of the names


def read(fd: int) -> Elf:
    """Return what the program headers say of the file. Raises ElfError, and OSError from pread."""
    file = _open(fd)
    return Elf(bits=file.layout.bits, machine=file.machine, soname=_soname(file))


def interpreter(fd: int) -> str:
    """Return the path of the loader that a program names, "" if it needs none. Raises as `read` does."""
    file = _open(fd)
    for kind, offset, _start, size, _align in file.segments:
        if kind == _PT_INTERP:
            return _part(fd, offset, size, "the loader's path").rstrip(b"\0").decode("utf-8", "surrogateescape")
    return ""


def forward_compatibility_note(fd: int) -> str:
    """Return the JSON text in which a libcuda says which drivers it works with; "" if there is none.

    The note is of type 0, owner "NVIDIA Corporation", in its own section, which is how the NVIDIA Container
    Toolkit finds it (cmd/nvidia-cdi-hook/cudacompat). Raises ElfError, and OSError from pread.
    """
    for owner, _kind, text in _section_notes(_open(fd), b".note.cuda.fwd_compatibility"):
        if owner == b"NVIDIA Corporation":
            try:
                return text.strip(b"\0").decode()
            except UnicodeDecodeError:
                raise ElfError("the CUDA compatibility note is not UTF-8") from None
    return ""


def _open(fd: int) -> _File:
    first = os.pread(fd, _FIRST_READ, 0)
    layout = _LAYOUTS.get(first[4]) if len(first) > 5 else None
    if layout is None or not first.startswith(b"\x7fELF") or len(first) < 16 + layout.header.size:
        raise ElfError("the file does not begin as an ELF file does")
    if first[5] != 1:
        raise ElfError("the ELF file is not little-endian")
    fields = layout.header.unpack_from(first, 16)
    segments, sections = fields[4], fields[5]
    segment_size, segment_count, section_size, section_count, names = fields[8:]
    if segment_count and (segment_count > limits.ELF_SEGMENTS or segment_size != layout.segment.size):
        raise ElfError(f"the ELF file has {segment_count} program headers of {segment_size} bytes")
    if section_count and (section_count > limits.ELF_SECTIONS or section_size != layout.section.size):
        raise ElfError(f"the ELF file has {section_count} section headers of {section_size} bytes")
    size = segment_count * segment_size
    table = first[segments : segments + size]
    if len(table) != size:
        table = _part(fd, segments, size, "program headers")
    return _File(
        fd=fd,
        layout=layout,
        machine=fields[1],
        segments=tuple(layout.segment.iter_unpack(table)),
        section_table=(sections, section_count, names),
    )


def _part(fd: int, offset: int, size: int, what: str, largest: int = limits.ELF_TABLE) -> bytes:
    if size > largest or offset > _LARGEST_FILE:
        raise ElfError(f"the ELF file has {size} bytes of {what} at {offset}, where no linker puts them")
    data = os.pread(fd, size, offset)
    if len(data) != size:
        raise ElfError(f"the ELF file ends before its {what} do")
    return data


def _soname(file: _File) -> str:
    segment = next((segment for segment in file.segments if segment[0] == _PT_DYNAMIC), None)
    if segment is None:
        return ""
    entry = file.layout.dynamic
    data = _part(file.fd, segment[1], segment[3] - segment[3] % entry.size, "dynamic entries")
    tags: dict[int, int] = {}
    for tag, value in entry.iter_unpack(data):
        if tag == _DT_NULL:
            break
        tags[tag] = value
    if _DT_SONAME not in tags:
        return ""
    strings, size = _strings(file, tags.get(_DT_STRTAB, 0), tags.get(_DT_STRSZ, 0))
    return _name(file.fd, strings, size, tags[_DT_SONAME])


def _strings(file: _File, address: int, size: int) -> tuple[int, int]:
    """Return where in the file the dynamic strings are, and their size."""
    for kind, offset, start, in_file, _align in file.segments:
        if kind == _PT_LOAD and start <= address and address + size <= start + in_file:
            return offset + address - start, size
    raise ElfError("the dynamic strings of the ELF file are in none of its segments")


def _name(fd: int, strings: int, size: int, offset: int) -> str:
    if offset >= size:
        raise ElfError("the ELF file has a name outside of its dynamic strings")
    data = _part(fd, strings + offset, min(_LONGEST_NAME, size - offset), "dynamic strings")
    end = data.find(b"\0")
    if end < 0:
        raise ElfError(f"the ELF file has a name that does not end within {_LONGEST_NAME - 1} bytes")
    return data[:end].decode("utf-8", "surrogateescape")


def _section_notes(file: _File, wanted: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield the notes of the first section of that name."""
    offset, count, names_index = file.section_table
    section = file.layout.section
    if not count:
        return
    table = _part(file.fd, offset, count * section.size, "section headers")
    sections = tuple(section.iter_unpack(table))
    if names_index >= count:
        raise ElfError("the ELF file has no names of its sections where its header says")
    names = _part(file.fd, sections[names_index][2], sections[names_index][3], "names of sections")
    for name, kind, start, size, align in sections:
        if kind == _SHT_NOTE and names.startswith(wanted + b"\0", name):
            yield from _notes(_part(file.fd, start, size, "notes", limits.ELF_NOTES), align)
            return


def _notes(data: bytes, align: int) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield owner, type and description of each note; a description that does not fit is cut at the end of the data."""
    align = 8 if align == 8 else 4  # 8 is what GNU properties use; 0 and 1 mean 4
    at = 0
    while at + 12 <= len(data):
        owner_size, size, kind = unpack_from("<III", data, at)
        start = at + (12 + owner_size + align - 1 & -align)
        if start > len(data):
            raise ElfError("the ELF file has a note that is larger than its section")
        yield data[at + 12 : at + 12 + owner_size].rstrip(b"\0"), kind, data[start : start + size]
        at = start + (size + align - 1 & -align)

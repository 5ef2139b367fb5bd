"""Writes small ELF shared objects, so that no compiler for the other word size or architecture is needed.

The images are real: `dlopen` loads them and finds their symbols, `ldconfig` lists them by SONAME, readelf reads them.
Every function they export returns 0.
"""

from __future__ import annotations

import struct

from oci_gpu_hook.admin.simulate import elf_parts
from oci_gpu_hook.admin.simulate.elf_parts import MACHINES, Machine, Note, Section, Segment, Strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class _Image:
    """A file under construction: its bytes, and the sections placed in it. The headers come last."""

    def __init__(self, machine: Machine, segments: int) -> None:
        self.machine = machine
        self.content = bytearray(elf_parts.header_size(machine) + segments * elf_parts.program_header_size(machine))
        self.sections = [Section(name="", type=0, flags=0, address=0, offset=0, size=0)]

    def place(self, name: str, kind: int, content: bytes, *, page: int = 0, **fields: int) -> Section:
        """Append a section whose address is its offset, plus `page` where it goes to its own page."""
        self.content.extend(bytes(-len(self.content) % elf_parts.ALIGNMENT))
        offset = len(self.content)
        self.content.extend(content)
        flags = elf_parts.SHF_ALLOC | fields.pop("flags", 0)
        section = Section(
            name=name, type=kind, flags=flags, address=page + offset, offset=offset, size=len(content), **fields
        )
        self.sections.append(section)
        return section

    def index(self, section: Section) -> int:
        return self.sections.index(section)


def shared_object(  # noqa: PLR0913  the parts of an image
    machine: str,
    soname: str = "",
    *,
    needed: Sequence[str] = (),
    exports: Sequence[str] = (),
    notes: Sequence[Note] = (),
    interpreter: str = "",
) -> bytes:
    """Return the image of a shared object for `machine`, a key of MACHINES. interpreter: a program's loader.

    One segment holds all that is read and run, a second one the dynamic section, which glibc's loader writes to.
    """
    target = MACHINES[machine]
    wide = target.bits == 64
    strings = Strings()
    names = [(elf_parts.DT_NEEDED, strings.add(name)) for name in needed]
    if soname:
        names.append((elf_parts.DT_SONAME, strings.add(soname)))
    symbol_names = [strings.add(name) for name in exports]

    image = _Image(target, segments=4 + len(notes) + bool(interpreter))
    loaders = [image.place(".interp", elf_parts.SHT_PROGBITS, interpreter.encode() + b"\0")] if interpreter else []
    note_sections = [image.place(note.section, elf_parts.SHT_NOTE, elf_parts.note(note)) for note in notes]
    code = image.place(".text", elf_parts.SHT_PROGBITS, target.return_zero, flags=elf_parts.SHF_EXECINSTR)
    dynstr = image.place(".dynstr", elf_parts.SHT_STRTAB, bytes(strings.table))
    symbols = [elf_parts.symbol(target, 0, 0, 0, 0)]
    symbols += [elf_parts.symbol(target, name, code.address, code.size, image.index(code)) for name in symbol_names]
    dynsym = image.place(
        ".dynsym",
        elf_parts.SHT_DYNSYM,
        b"".join(symbols),
        link=image.index(dynstr),
        info=1,
        entry_size=len(symbols[0]),
    )
    hash_table = image.place(
        ".hash", elf_parts.SHT_HASH, elf_parts.hash_table(exports), link=image.index(dynsym), entry_size=4
    )
    read_only = Segment(
        type=elf_parts.PT_LOAD, flags=elf_parts.PF_R | elf_parts.PF_X, size=len(image.content), alignment=target.page
    )
    entries = [
        *names,
        (elf_parts.DT_HASH, hash_table.address),
        (elf_parts.DT_STRTAB, dynstr.address),
        (elf_parts.DT_SYMTAB, dynsym.address),
        (elf_parts.DT_STRSZ, dynstr.size),
        (elf_parts.DT_SYMENT, dynsym.entry_size),
        (elf_parts.DT_NULL, 0),
    ]
    dynamic = image.place(
        ".dynamic",
        elf_parts.SHT_DYNAMIC,
        b"".join(struct.pack("<qQ" if wide else "<iI", *entry) for entry in entries),
        page=target.page,
        flags=elf_parts.SHF_WRITE,
        link=image.index(dynstr),
        entry_size=16 if wide else 8,
    )
    return _finished(
        image,
        [
            read_only,
            _segment(elf_parts.PT_LOAD, elf_parts.PF_R | elf_parts.PF_W, dynamic, target.page),
            _segment(elf_parts.PT_DYNAMIC, elf_parts.PF_R | elf_parts.PF_W, dynamic, 8),
            Segment(
                type=elf_parts.PT_GNU_STACK, flags=elf_parts.PF_R | elf_parts.PF_W, alignment=elf_parts.ALIGNMENT
            ),  # else stacks would be executable
            *(_segment(elf_parts.PT_NOTE, elf_parts.PF_R, section, 4) for section in note_sections),
            *(_segment(elf_parts.PT_INTERP, elf_parts.PF_R, section, 1) for section in loaders),
        ],
    )


def _segment(kind: int, flags: int, section: Section, alignment: int) -> Segment:
    return Segment(
        type=kind,
        flags=flags,
        offset=section.offset,
        address=section.address,
        size=section.size,
        alignment=alignment,
    )


def _finished(image: _Image, segments: Sequence[Segment]) -> bytes:
    """Append the section names and headers, fill in the headers at the front, and return the bytes."""
    names = Strings()
    name_offsets = [names.add(section.name) if section.name else 0 for section in image.sections]
    name_offsets.append(names.add(".shstrtab"))
    content, target = image.content, image.machine
    own = Section(name="", type=elf_parts.SHT_STRTAB, flags=0, address=0, offset=len(content), size=len(names.table))
    content.extend(names.table)
    content.extend(bytes(-len(content) % elf_parts.ALIGNMENT))
    headers_at = len(content)
    sections = [*image.sections, own]
    for name, section in zip(name_offsets, sections, strict=True):
        content.extend(elf_parts.section_header(target, name, section))
    front = elf_parts.header(target, headers_at, len(segments), len(sections))
    front += b"".join(elf_parts.program_header(target, segment) for segment in segments)
    content[: len(front)] = front
    return bytes(content)

"""The ELF reader against libraries of the compiler's making, with pyelftools as the second opinion."""

from __future__ import annotations

import glob
import os
import shutil
import struct
import subprocess
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from oci_gpu_hook.base.formats import elf
from oci_gpu_hook.base.formats.elf import Elf, ElfError

JSON = '{"format":1,"CUDA version":"12.9","driver":[535,550],"device":[1,2]}'
# As NVIDIA's libcuda has them: an allocated note section of its own, its owner's name padded to four bytes.
COMPAT_NOTE = r"""
.section .note.cuda.fwd_compatibility,"a",@note
.balign 4
.long 2f - 1f, 4f - 3f, 0
1: .asciz "NVIDIA Corporation"
2: .balign 4
3: .asciz "TEXT"
4: .balign 4
""".replace("TEXT", JSON.replace('"', '\\"'))
ABI_TAG = r"""
.section .note.ABI-tag,"a",@note
.balign 4
.long 4, 16, 1
.asciz "GNU"
.long 0, 2, 3, 99
"""

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")


@pytest.fixture
def compiled(tmp_path):
    """Return a function that compiles a library of assembler and gives its path."""

    def compiled(assembler: str = "", *options: str) -> str:
        source, library = tmp_path / "source.s", tmp_path / "library.so"
        source.write_text(assembler)
        subprocess.run(["gcc", "-shared", "-nostdlib", *options, "-o", library, source], check=True)
        return os.fspath(library)

    return compiled


def read(path: str) -> Elf:
    fd = os.open(path, os.O_RDONLY)
    try:
        return elf.read(fd)
    finally:
        os.close(fd)


def note(path: str) -> str:
    fd = os.open(path, os.O_RDONLY)
    try:
        return elf.forward_compatibility_note(fd)
    finally:
        os.close(fd)


def second_opinion(path: str) -> Elf:
    with open(path, "rb") as file:
        other = ELFFile(file)
        dynamic: Any = next(other.iter_segments("PT_DYNAMIC"), None)
        tags = list(dynamic.iter_tags()) if dynamic else []
        return Elf(
            bits=other.elfclass,
            machine={"EM_X86_64": elf.X86_64, "EM_386": elf.I386, "EM_AARCH64": elf.AARCH64}[other["e_machine"]],
            soname=next((tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"), ""),
        )


def test_libraries_of_this_machine_read_as_pyelftools_reads_them():
    paths = sorted({os.path.realpath(path) for path in glob.glob("/usr/lib/*-linux-gnu/lib*.so.*")})
    assert len(paths) > 20
    for path in [*paths[:: len(paths) // 20], os.path.realpath("/bin/sh"), os.path.realpath("/usr/bin/python3")]:
        assert read(path) == second_opinion(path), path


@needs_gcc
@pytest.mark.parametrize("options", [("-m64",), ("-m32",), ("-mx32",)])
def test_classes_and_machines(compiled, options):
    path = compiled(COMPAT_NOTE + ABI_TAG, "-Wl,-soname,libnvidia-tls.so.1", *options)
    machine, bits = {"-m64": (elf.X86_64, 64), "-m32": (elf.I386, 32), "-mx32": (elf.X86_64, 32)}[options[0]]
    assert read(path) == Elf(bits=bits, machine=machine, soname="libnvidia-tls.so.1")
    assert read(path) == second_opinion(path)
    assert note(path) == JSON


@needs_gcc
def test_a_stripped_library_keeps_its_note_and_one_without_sections_its_name(compiled):
    path = compiled(COMPAT_NOTE, "-Wl,-soname,libcuda.so.1", "-s")
    assert note(path) == JSON
    with open(path, "r+b") as file:
        file.seek(40)
        file.write(bytes(8))  # e_shoff
        file.seek(58)
        file.write(bytes(6))  # e_shentsize, e_shnum, e_shstrndx
    assert read(path).soname == "libcuda.so.1"
    assert note(path) == ""


@needs_gcc
def test_a_library_without_a_note_or_a_name(compiled):
    path = compiled()
    assert read(path) == Elf(bits=64, machine=second_opinion(path).machine)
    assert note(path) == ""


@needs_gcc
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('"NVIDIA Corporation"', '"Somebody else"'), ""),
        ((".note.cuda.fwd_compatibility", ".note.cuda.other"), ""),
        (("4f - 3f", "4f - 3f + 100"), JSON),  # a description that is cut off, as some of NVIDIA's are
        (('"{', '"\\377{'), ElfError),
        (("2f - 1f", "0x7fffffff"), ElfError),
    ],
)
def test_other_notes(compiled, change, expected):
    path = compiled(COMPAT_NOTE.replace(*change), "-Wl,-soname,libcuda.so.1")
    if expected is ElfError:
        with pytest.raises(ElfError):
            note(path)
    else:
        assert note(path) == expected


@needs_gcc
def test_the_soname_costs_three_reads(compiled, monkeypatch):
    path = compiled("", "-Wl,-soname,libcuda.so.1", "-Wl,--build-id=none")
    reads = []
    pread = os.pread

    def counted(fd, size, at):
        reads.append(size)
        return pread(fd, size, at)

    monkeypatch.setattr(os, "pread", counted)
    assert read(path).soname == "libcuda.so.1"
    assert len(reads) == 3


def library() -> bytearray:
    """Return a library of one segment, written by hand: header, program headers, dynamic entries, strings."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, elf.AARCH64, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    dynamic = struct.pack("<10Q", 14, 1, 1, 10, 5, 0x1000 + 256, 10, 32, 0, 0)
    segments = struct.pack("<IIQQQQQQ", 1, 4, 0, 0x1000, 0, 288, 288, 4096)
    segments += struct.pack("<IIQQQQQQ", 2, 4, 176, 0x1000 + 176, 0, len(dynamic), len(dynamic), 8)
    strings = b"\0libcuda\0\0libc.so.6\0".ljust(32, b"\0")
    return bytearray(header + segments + dynamic + strings)


def test_the_library_by_hand(tmp_path):
    (tmp_path / "library").write_bytes(library())
    expected = Elf(bits=64, machine=elf.AARCH64, soname="libcuda")
    assert read(tmp_path / "library") == expected == second_opinion(tmp_path / "library")


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0, b"\x7fELG", "does not begin"),
        (4, b"\3", "does not begin"),
        (5, b"\2", "not little-endian"),
        (32, struct.pack("<Q", 1 << 63), "where no linker puts"),
        (32, struct.pack("<Q", 280), "ends before its program headers"),
        (54, struct.pack("<H", 57), "2 program headers of 57 bytes"),
        (56, struct.pack("<H", 0xFFFF), "65535 program headers"),
        (60, struct.pack("<H", 0xFFFF), "65535 section headers"),
        (120 + 8, struct.pack("<Q", 1 << 39), "ends before its dynamic entries"),
        (120 + 32, struct.pack("<Q", 1 << 32), "4294967296 bytes of dynamic entries"),
        (176 + 8, struct.pack("<Q", 32), "outside of its dynamic strings"),
        (208 + 8, struct.pack("<Q", 0x5000), "in none of its segments"),
        (224 + 8, struct.pack("<Q", 1 << 62), "in none of its segments"),
        (256 + 8, b"x" * 24, "does not end within 255 bytes"),
    ],
)
def test_odd_files_are_refused(tmp_path, at, value, why):
    data = library()
    data[at : at + len(value)] = value
    (tmp_path / "library").write_bytes(data)
    with pytest.raises(ElfError, match=why):
        read(tmp_path / "library")


@pytest.mark.parametrize("size", [0, 3, 20, 63])
def test_the_beginning_of_a_file_is_not_enough(tmp_path, size):
    (tmp_path / "library").write_bytes(library()[:size])
    with pytest.raises(ElfError, match="does not begin"):
        read(tmp_path / "library")


def test_a_library_that_needs_a_thousand_others_costs_no_read_for_them(tmp_path, monkeypatch):
    data = library()
    data[120 + 8 : 120 + 16] = struct.pack("<Q", len(data))
    dynamic = struct.pack("<QQ", 1, 1) * 1000
    data[120 + 32 : 120 + 40] = struct.pack("<Q", len(dynamic))
    (tmp_path / "library").write_bytes(data + dynamic)
    reads: list[int] = []
    pread = os.pread

    def counted(fd, size, at):
        reads.append(size)
        return pread(fd, size, at)

    monkeypatch.setattr(os, "pread", counted)
    assert read(tmp_path / "library") == Elf(bits=64, machine=elf.AARCH64)
    assert len(reads) == 2

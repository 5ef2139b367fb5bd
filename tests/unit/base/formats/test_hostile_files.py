"""Hostile bytes to the readers of files from images: one declared error at the most, in bounded time and memory.

OCI_GPU_FUZZ_EXAMPLES sets how many inputs each test tries; a few hundred are tried by default.
"""

from __future__ import annotations

import os
import struct
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_gpu_hook.base.formats import elf, ldcache, ldcache_entries
from oci_gpu_hook.devices.nvidia import forward_compatibility
from oci_gpu_hook.devices.nvidia.image_facts import CompatLibrary
from tests.paths import DATA

fuzzed = settings(
    max_examples=int(os.environ.get("OCI_GPU_FUZZ_EXAMPLES", "300")),
    suppress_health_check=[HealthCheck.too_slow],
)


def seed(path: str) -> bytes:
    with open(DATA / path, "rb") as file:
        return file.read()


CACHES = [seed(f"ldcache/{name}.cache") for name in ("new", "compat", "old", "debian-12")]
LIBRARIES = [seed(f"elf/{name}.so") for name in ("x86_64", "i386")]
# What breaks readers: the ends of the ranges of the integers in the headers, and offsets near the ends of the file.
INTERESTING = [
    0,
    1,
    3,
    4,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0xFFF,
    0x1000,
    0xFFFF,
    0x10000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
]
VALUES = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.sampled_from(INTERESTING).map(lambda number: struct.pack("<I", number)),
    st.sampled_from([*INTERESTING, 1 << 40, 1 << 63, (1 << 64) - 1]).map(lambda number: struct.pack("<Q", number)),
)


@st.composite
def mutated(draw, seeds: list[bytes]) -> bytes:
    """Return a real file with a few fields overwritten, mostly aligned ones, and sometimes without its end."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.one_of(st.integers(0, len(data) // 4).map(lambda n: 4 * n), st.integers(0, len(data))))
        value = draw(VALUES)
        data[at : at + len(value)] = value
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


ADDITIONS = [
    ldcache.Entry(name=name, path=f"/drv/{name}", flags=flags)
    for name in ("libcuda.so.1", "libfoo.so.1", "libaaa.so", "libzzz.so.99")
    for flags in (0x303, 0x003)
]


@fuzzed
@given(st.one_of(mutated(CACHES), st.binary(max_size=300), st.binary(max_size=300).map(lambda b: CACHES[0][:20] + b)))
def test_an_ld_cache(data):
    try:
        entries = ldcache_entries.parse(data)
    except ldcache.LdCacheError:
        return
    merged = ldcache.merge(data, ADDITIONS, drop={"/usr/lib/libfoo.so.1"})
    kept = [entry for entry in entries if entry.path != "/usr/lib/libfoo.so.1" and not entry.path.startswith("/drv")]
    assert [entry for entry in ldcache_entries.parse(merged) if entry not in ADDITIONS] == kept
    assert set(ADDITIONS) <= set(ldcache_entries.parse(merged))
    restored = ldcache.remove(merged, {entry.path for entry in ADDITIONS})
    assert list(ldcache_entries.parse(restored)) == kept


@fuzzed
@given(
    st.one_of(mutated(LIBRARIES), st.binary(max_size=300), st.binary(max_size=300).map(lambda b: LIBRARIES[0][:16] + b))
)
def test_an_elf_file(data):
    fd = os.memfd_create("library")
    try:
        os.write(fd, data)
        for read in (elf.read, elf.forward_compatibility_note):
            try:
                read(fd)
            except elf.ElfError:
                pass
    finally:
        os.close(fd)


@fuzzed
@given(
    st.one_of(
        st.text(max_size=40), st.from_regex(r'\{"(CUDA version|driver)":("[0-9.]*"|\[[0-9,-]*\])\}', fullmatch=True)
    ),
    st.text("0123456789.x", max_size=12),
    st.text("0123456789.x", max_size=12),
    st.text("0123456789.x", max_size=12),
)
def test_a_compatibility_note(note, version, driver_version, cuda_version):
    library = CompatLibrary(path=f"/usr/local/cuda/compat/libcuda.so.{version}", note=note)
    decision = forward_compatibility.decide((library,), driver_version, cuda_version, "hook")
    assert decision.reason
    assert bool(decision.entries) == bool(decision.directory)


MOST_FILLED = 80_000  # entries; room for the additions is left


def largest_cache(string: bytes, step: int) -> bytes:
    """Return a cache as full as it may be, whose names and paths begin at every `step`th byte of repeated strings."""
    count, size = MOST_FILLED, 2 << 20
    base = 48 + 24 * count
    offsets = [base + index * step % (size // len(string) * len(string)) for index in range(count)]
    header = struct.pack("<20sIIB3xI12x", b"glibc-ld.so.cache1.1", count, size, 2, 0)
    entries = b"".join(struct.pack("<IIIIQ", 0x303, offset, offset, 0, 0) for offset in offsets)
    return header + entries + (string * (size // len(string))).ljust(size, b"\0")


@pytest.mark.parametrize("string", [b"x" * 4094 + b"\0", b"9" * 4094 + b"\0"])
def test_the_largest_caches_cost_seconds_and_megabytes_at_most(string):
    data = largest_cache(string, 4095)
    additions = [ldcache.Entry(name=f"lib{i}.so.{i}", path=f"/drv/lib{i}.so.{i}", flags=0x303) for i in range(100)]
    started = time.process_time()
    merged = ldcache.merge(data, additions, drop={"/nowhere"})
    restored = ldcache.remove(merged, {addition.path for addition in additions})
    assert ldcache_entries.parse(restored) == ldcache_entries.parse(data)
    assert time.process_time() - started < 3
    with pytest.raises(ldcache.LdCacheError, match="strings of the ld cache are larger"):
        ldcache_entries.parse(largest_cache(string, 131))
    tracemalloc.start()
    try:
        ldcache.merge(data, additions)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_the_most_notes_cost_seconds_and_a_megabyte_at_most():
    notes = struct.pack("<III4s", 4, 0, 9, b"GNU") * 1024  # 16 KiB, in each of 64 segments
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, 62, 1, 0, 64, 64, 0, 64, 56, 64, 64, 56, 55)
    segments = struct.pack("<IIQQQQQQ", 4, 4, 64 + 64 * 56, 0, 0, len(notes), len(notes), 4) * 64
    fd = os.memfd_create("library")
    try:
        os.write(fd, header + segments + notes)
        started = time.process_time()
        assert elf.read(fd) == elf.Elf(bits=64, machine=62)
        assert time.process_time() - started < 2
        tracemalloc.start()
        assert elf.read(fd) == elf.Elf(bits=64, machine=62)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
        os.close(fd)

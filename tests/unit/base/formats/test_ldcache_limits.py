"""A cache of an image that is valid and made to cost the host memory or time."""

from __future__ import annotations

import time
import tracemalloc
from _struct import Struct

import pytest

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.formats import ldcache, ldcache_entries, ldcache_format
from oci_gpu_hook.base.formats.ldcache import Entry, LdCacheError

ENTRY = Struct("<III I Q")
FLAGS = ldcache.flags_for("x86_64", 64)
ADDED = Entry(name="libcuda.so.1", path="/usr/lib/libcuda.so.1", flags=FLAGS)


def cache(strings, entries):
    """Return a cache of these entries, whose offsets count from the start of the strings."""
    base = 48 + len(entries) * ENTRY.size
    head = Struct("<20s II B3x I 12x").pack(b"glibc-ld.so.cache1.1", len(entries), len(strings), 2, 0)
    return head + b"".join(ENTRY.pack(FLAGS, key + base, value + base, 0, 0) for key, value in entries) + strings


def test_strings_that_nothing_refers_to_are_left_out():
    used = b"libz.so.1\0/usr/lib/libz.so.1\0"
    image = cache(used + b"x" * (3 << 20) + b"\0", [(0, 10)])
    merged = ldcache.merge(image, [ADDED])
    assert len(merged) < 1000
    assert [entry.path for entry in ldcache_entries.parse(merged)] == ["/usr/lib/libz.so.1", "/usr/lib/libcuda.so.1"]


def test_names_of_capabilities_survive_compacting():
    used = b"libz.so.1\0/usr/lib/glibc-hwcaps/x86-64-v3/libz.so.1\0"
    table = ldcache_format.Table(
        entries=[(FLAGS, 0, 10, 0, 1 << 62)],
        strings=used + b"x86-64-v3\0" + b"y" * 5000 + b"\0",
        hwcaps=(len(used),),
    )
    image = ldcache_format.write(table)
    merged = ldcache.merge(image, [ADDED])
    assert len(merged) < 1000
    assert [entry.subdirectory for entry in ldcache_entries.parse(merged)] == ["x86-64-v3", ""]


def test_an_image_of_ldconfig_is_left_in_its_layout():
    entries = [(index * 40, index * 40 + 12) for index in range(500)]
    strings = b"".join(b"lib%05d.so\0" % index + b"\0/usr/lib/lib%05d.so.1.2.3\0" % index for index in range(500))
    table = ldcache_format.read(cache(strings, entries))
    assert not table.has_unused_strings()


def test_strings_that_nothing_refers_to_are_left_out_also_beside_many_entries():
    """They would be most of a megabyte in each container's memory."""
    entries = [(index * 40, index * 40 + 12) for index in range(2000)]
    strings = b"".join(b"lib%05d.so\0" % index + b"\0/usr/lib/lib%05d.so.1.2.3\0" % index for index in range(2000))
    unused = b"u" * 900_000 + b"\0"
    image = cache(strings + unused, entries)
    merged = ldcache.merge(image, [ADDED])
    assert len(merged) < len(image) - len(unused) + 4096
    kept = {(entry.name, entry.path) for entry in ldcache_entries.parse(image)}
    assert kept | {(ADDED.name, ADDED.path)} == {(entry.name, entry.path) for entry in ldcache_entries.parse(merged)}


def test_a_cache_larger_than_the_limit_is_refused():
    image = cache(b"libz.so.1\0/usr/lib/libz.so.1\0" + b"x" * limits.LD_CACHE, [(0, 10)])
    with pytest.raises(LdCacheError, match="larger than"):
        ldcache.merge(image, [ADDED])


def test_overlapping_strings_do_not_grow_when_compacted():
    """Each of 8,000 offsets into one run of 4,000 bytes would be a string of its own."""
    strings = b"x" * 4000 + b"\0" + b"z" * (3 << 20) + b"\0"
    image = cache(strings, [(index % 4000, (index * 7) % 4000) for index in range(4000)])
    with pytest.raises(LdCacheError, match="larger than"):
        ldcache.merge(image, [ADDED])


@pytest.mark.parametrize("entries", [1, 80_000])
def test_the_worst_that_is_accepted_is_bounded(entries):
    room = limits.LD_CACHE - 48 - entries * ENTRY.size
    strings = b"libz.so.1\0/usr/lib/libz.so.1\0".ljust(min(room, limits.LD_CACHE // 2) - 1, b"x") + b"\0"
    image = cache(strings, [(0, 10)] * entries)
    tracemalloc.start()
    began = time.process_time()
    merged = ldcache.merge(image, [ADDED])
    took = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(merged) <= limits.LD_CACHE
    assert took < 5, "tracemalloc slows it fivefold; a second without"
    assert peak < 64 << 20

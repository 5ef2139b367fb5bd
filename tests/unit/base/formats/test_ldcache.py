"""The ld cache against ldconfig: what it wrote is read, what is written it reads, in the order it would have chosen."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci_gpu_hook.base.formats import ldcache, ldcache_entries, ldcache_format
from oci_gpu_hook.base.formats.ldcache import Entry, LdCacheError
from tests.paths import DATA

CACHES = DATA / "ldcache"
FILES = ("debian-12.cache", "new.cache", "compat.cache", "old.cache")
NEW_FILES = ("debian-12.cache", "new.cache")
LDCONFIG = next((path for path in ("/sbin/ldconfig", "/usr/sbin/ldconfig") if os.path.exists(path)), "")
X86_64 = ldcache.flags_for("x86_64", 64)
I386 = ldcache.flags_for("x86_64", 32)
# The last is what newer ldconfigs say of ELF, which is neither of libc5 nor of libc6.
TYPES = {"ELF": 0x0001, "libc6": 0x0003, "libc6,x86-64": 0x0303, "libc6,x32": 0x0803, "libc6,AArch64": 0x0A03,
         "libc6,hard-float": 0x0903, "unknown or unsupported flag": 0x0001}  # fmt: skip

needs_ldconfig = pytest.mark.skipif(not LDCONFIG, reason="no ldconfig")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")


def data(name: str) -> bytes:
    with open(CACHES / name, "rb") as file:
        return file.read()


def driver(*names: str, flags: int = X86_64, directory: str = "/usr/lib/x86_64-linux-gnu") -> list[Entry]:
    return [Entry(name=name, path=f"{directory}/{name}", flags=flags) for name in names]


def printed(cache: bytes, tmp_path) -> list[Entry]:
    """Return what `ldconfig -p` shows, which knows no OS version and shows names of hwcaps in place of numbers."""
    path = tmp_path / "printed.cache"
    path.write_bytes(cache)
    output = subprocess.run([LDCONFIG, "-p", "-C", path], check=True, capture_output=True, text=True).stdout
    lines = re.findall(r'^\t(.*) \(([^)]*?)(?:, hwcap: "([^"]*)")?\) => (.*)$', output, re.MULTILINE)
    assert output.startswith(f"{len(lines)} libs found")
    return [Entry(name=n, path=p, flags=TYPES[kind], subdirectory=sub) for n, kind, sub, p in lines]


def shown(entries) -> list[Entry]:
    return [Entry(name=e.name, path=e.path, flags=e.flags, subdirectory=e.subdirectory) for e in entries]


def order(name: str) -> tuple[int, ...]:
    return ldcache._order(name.encode(), signed=True)


def numbers(name: str) -> list[int]:
    """Return the numbers in a name as C ints. Where they are large, glibc's difference of them is not an order."""
    return [abs((int(digits) + 2**31) % 2**32 - 2**31) for digits in re.findall("[0-9]+", name)]


def loaded(cache: bytes, name: str, flags: int, subdirectories: tuple[str, ...] = ()) -> str | None:
    """Find a name as the loader does (glibc 2.43 elf/dl-cache.c, search_cache), on a machine with these variants."""
    entries = ldcache_entries.parse(cache)
    wanted = order(name)
    left, right = 0, len(entries) - 1
    while left <= right:
        middle = (left + right) // 2
        found = order(entries[middle].name)
        if found == wanted:
            while middle > 0 and order(entries[middle - 1].name) == wanted:
                middle -= 1
            best = None
            for entry in entries[middle:]:
                if order(entry.name) != wanted:
                    break
                if entry.flags != flags:
                    continue
                if not entry.subdirectory:
                    return best[1] if best else entry.path
                if entry.subdirectory in subdirectories:
                    rank = subdirectories.index(entry.subdirectory)
                    best = min(best or (rank, entry.path), (rank, entry.path))
            return best[1] if best else None
        if wanted < found:
            left = middle + 1
        else:
            right = middle - 1
    return None


@needs_ldconfig
@pytest.mark.parametrize("name", FILES)
def test_reads_what_ldconfig_shows(name, tmp_path):
    expected = printed(data(name), tmp_path)
    entries = shown(ldcache_entries.parse(data(name)))
    assert len(entries) > 20
    if name == "compat.cache":  # where ldconfig -p looks for the names of hwcaps in the wrong place
        expected = shown(ldcache_entries.parse(data("new.cache")))
    assert entries == expected


def test_the_formats_of_one_tree_agree():
    new, compat, old = (ldcache_entries.parse(data(f"{name}.cache")) for name in ("new", "compat", "old"))
    assert compat == new
    assert [(e.name, e.path, e.flags) for e in old] == [(e.name, e.path, e.flags) for e in new]
    assert [e.subdirectory for e in new if e.subdirectory] == ["x86-64-v3", "x86-64-v2", "x86-64-v3", "x86-64-v3"]
    assert {e.hwcap >> 32 for e in new} == {0, 1 << 30}


def test_a_compat_cache_of_i386_is_aligned_to_four_bytes():
    new = ldcache.build(driver("libc.so.6"))
    old = b"ld.so-1.7.0\0" + struct.pack("<IIII", 1, 3, 0, 0)  # 28 bytes
    assert [e.name for e in ldcache_entries.parse(old + new)] == ["libc.so.6"]
    assert [e.name for e in ldcache_entries.parse(old + bytes(4) + new)] == ["libc.so.6"]


@pytest.mark.parametrize("name", NEW_FILES)
def test_what_is_read_is_written_byte_for_byte(name):
    assert ldcache_format.write(ldcache_format.read(data(name))) == data(name)


@needs_ldconfig
@pytest.mark.parametrize("name", FILES)
def test_ldconfig_reads_what_is_merged(name, tmp_path):
    additions = [
        *driver("libcuda.so.1", "libnvidia-ml.so.1", "libzzz.so.1", "libaaa.so.1"),
        *driver("libcuda.so.1", flags=I386, directory="/usr/lib32"),
        Entry(name="libnvidia-ptxjitcompiler.so.1", path="/drv/libnvidia-ptxjitcompiler.so.580.65", flags=X86_64),
    ]
    merged = ldcache.merge(data(name), additions)
    assert printed(merged, tmp_path) == shown(ldcache_entries.parse(merged))
    image = [entry for entry in ldcache_entries.parse(merged) if entry not in additions]
    assert image == [entry for entry in ldcache_entries.parse(data(name)) if entry not in additions]
    for addition in additions:
        assert loaded(merged, addition.name, addition.flags, ("x86-64-v3", "x86-64-v2")) == addition.path


@needs_ldconfig
def test_the_generator_is_kept(tmp_path):
    path = tmp_path / "merged"
    path.write_bytes(ldcache.merge(data("new.cache"), driver("libcuda.so.1")))
    output = subprocess.run([LDCONFIG, "-p", "-C", path], check=True, capture_output=True, text=True).stdout
    assert output.endswith("Cache generated by: ldconfig (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36\n")


@needs_ldconfig
@pytest.mark.parametrize(
    ("machine", "bits", "kind"),
    [
        ("x86_64", 64, "libc6,x86-64"),
        ("x86_64", 32, "libc6"),
        ("i386", 32, "libc6"),
        ("x32", 32, "libc6,x32"),
        ("aarch64", 64, "libc6,AArch64"),
        ("aarch64", 32, "libc6,hard-float"),
        ("arm", 32, "libc6,hard-float"),
    ],
)
def test_ldconfig_has_the_same_words_for_flags(machine, bits, kind, tmp_path):
    path = tmp_path / "cache"
    path.write_bytes(ldcache.build(driver("libcuda.so.1", flags=ldcache.flags_for(machine, bits))))
    output = subprocess.run([LDCONFIG, "-p", "-C", path], check=True, capture_output=True, text=True).stdout
    assert f"\tlibcuda.so.1 ({kind}) => /usr/lib/x86_64-linux-gnu/libcuda.so.1\n" in output


def test_a_machine_without_known_flags_is_refused():
    with pytest.raises(LdCacheError, match="64-bit libraries of 'riscv64'"):
        ldcache.flags_for("riscv64", 64)


@pytest.fixture(scope="module")
def ldconfig_tree(tmp_path_factory):
    """Return a function that gives ldconfig's own cache of directories full of libraries, {directory: [SONAME]}."""
    placeholder = "lib" + "x" * 57
    work = tmp_path_factory.mktemp("tree")
    (work / "empty.c").write_text("")
    templates = {}
    for flag in ("-m64", "-m32"):
        path = work / f"template{flag}.so"
        arguments = ["gcc", flag, "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{placeholder}"]
        subprocess.run([*arguments, "-o", path, work / "empty.c"], check=True)
        templates[flag] = path.read_bytes()
        assert templates[flag].count(placeholder.encode()) == 1

    def cache_of(directories: dict[str, list[str]]) -> bytes:
        root = work / "root"
        shutil.rmtree(root, ignore_errors=True)
        (root / "etc").mkdir(parents=True)
        (root / "etc/ld.so.conf").write_text("".join(f"{directory}\n" for directory in directories))
        for directory, names in directories.items():
            (root / directory[1:]).mkdir(parents=True)
            template = templates["-m32" if "32" in directory else "-m64"]
            for name in names:
                library = template.replace(placeholder.encode(), name.encode().ljust(len(placeholder), b"\0"))
                (root / directory[1:] / name).write_bytes(library)
        subprocess.run([LDCONFIG, "-r", root, "-X"], check=True, capture_output=True)
        return (root / "etc/ld.so.cache").read_bytes()

    return cache_of


@needs_gcc
@needs_ldconfig
@pytest.mark.parametrize("seed", range(3))
def test_the_order_is_the_one_that_ldconfig_would_have_chosen(seed, ldconfig_tree):
    chance = random.Random(seed)
    parts = ["lib", "cuda", "nvidia-", "x", ".so", ".", "1", "2", "10", "09", "580", "_", "+", "A", "é", "4294967298"]
    names = ["lib" + "".join(chance.choices(parts, k=chance.randint(1, 5))) + ".so" for _ in range(300)]
    names = [name for name in names if all(number < 2**30 for number in numbers(name))]
    names = list({order(name): name for name in names}.values())  # lib1 and lib01 are equal: readdir's order decides
    image = {"/usr/lib": chance.sample(names, 100), "/opt/lib32": chance.sample(names, 60)}
    drivers = {"/drv/lib": chance.sample(names, 60), "/drv/lib32": chance.sample(names, 30)}
    wanted = ldcache_entries.parse(ldconfig_tree(drivers | image))
    additions = [entry for entry in wanted if entry.path.startswith("/drv")]
    assert len(additions) == 90
    chance.shuffle(additions)
    merged = ldcache.merge(ldconfig_tree(image), additions)
    assert ldcache_entries.parse(merged) == wanted
    assert ldcache_entries.parse(ldcache.build(wanted)) == wanted


@pytest.mark.parametrize("name", FILES)
def test_remove_undoes_merge(name):
    additions = driver("libcuda.so.1", "libnvidia-ml.so.1", "libaaa.so.1", directory="/drv")
    merged = ldcache.merge(data(name), additions)
    restored = ldcache.remove(merged, {entry.path for entry in additions})
    assert ldcache_entries.parse(restored) == ldcache_entries.parse(data(name))
    if name in NEW_FILES:
        assert restored == data(name)


@pytest.mark.parametrize("name", FILES)
def test_removing_nothing_changes_nothing(name):
    assert ldcache.remove(data(name), {"/nowhere"}) == data(name)


def test_everything_can_be_removed():
    paths = {entry.path for entry in ldcache_entries.parse(data("new.cache"))}
    empty = ldcache.remove(data("new.cache"), paths)
    assert ldcache_entries.parse(empty) == ()
    assert ldcache_entries.parse(ldcache.merge(empty, driver("libcuda.so.1"))) == tuple(driver("libcuda.so.1"))


@pytest.mark.parametrize("name", FILES)
def test_merging_again_changes_nothing(name):
    additions = driver("libcuda.so.1", "libnvidia-ml.so.1", directory="/usr/lib")  # paths that new.cache has already
    once = ldcache.merge(data(name), additions)
    assert ldcache_entries.parse(ldcache.merge(once, additions)) == ldcache_entries.parse(once)
    assert sum(entry.path == "/usr/lib/libcuda.so.1" for entry in ldcache_entries.parse(once)) == 1


def test_entries_of_a_former_driver_are_dropped_and_leave_no_strings():
    former = driver("libcuda.so.1", "libnvidia-old.so.1", directory="/former")
    committed = ldcache.merge(data("debian-12.cache"), former)
    merged = ldcache.merge(committed, driver("libcuda.so.1"), drop={entry.path for entry in former})
    assert merged == ldcache.merge(data("debian-12.cache"), driver("libcuda.so.1"))
    assert b"/former" not in merged


def test_of_two_additions_with_one_name_the_first_is_loaded():
    compat, host = driver("libcuda.so.1", directory="/compat"), driver("libcuda.so.1", directory="/host")
    assert loaded(ldcache.merge(data("new.cache"), compat + host), "libcuda.so.1", X86_64) == "/compat/libcuda.so.1"
    assert loaded(ldcache.build(host + compat), "libcuda.so.1", X86_64) == "/host/libcuda.so.1"


def test_names_that_are_not_utf_8_survive():
    entry = Entry(name="lib\udcff.so", path="/usr/lib/lib\udcff.so", flags=X86_64)
    assert ldcache_entries.parse(ldcache.build([entry])) == (entry,)


@pytest.mark.parametrize(
    "entry",
    [
        Entry(name="", path="/lib/a.so", flags=X86_64),
        Entry(name="a.so", path="", flags=X86_64),
        Entry(name="a\0.so", path="/lib/a.so", flags=X86_64),
        Entry(name="a" * 256, path="/lib/a.so", flags=X86_64),
        Entry(name="a.so", path="/" + "a" * 4095, flags=X86_64),
        Entry(name="a.so", path="/\ud800", flags=X86_64),
        Entry(name="a.so", path="/lib/a.so", flags=X86_64, hwcap=1 << 62),
    ],
)
def test_additions_that_no_cache_can_hold_are_refused(entry):
    with pytest.raises(LdCacheError):
        ldcache.build([entry])


def changed(cache: bytes, offset: int, value: bytes) -> bytes:
    return cache[:offset] + value + cache[offset + len(value) :]


def word(number: int) -> bytes:
    return struct.pack("<I", number)


def hostile() -> dict[str, tuple[bytes, str]]:
    new, old = data("new.cache"), data("old.cache")
    (extensions,) = struct.unpack_from("<I", new, 32)
    one = ldcache.build(driver("libcuda.so.1"))
    return {
        "text": (b"#!/bin/sh\n", "does not begin"),
        "magic only": (new[:20], "ends in its header"),
        "old magic only": (old[:11], "does not begin"),
        "too many entries": (changed(new, 20, word(100_001)), "claims 100001 entries"),
        "more entries than bytes": (changed(new, 20, word(90_000)), "ends in its entries"),
        "more old entries than bytes": (changed(old, 12, word(90_000)), "ends in its entries"),
        "larger strings than file": (changed(new, 24, word(1 << 31)), "ends in its strings"),
        "big endian": (changed(new, 28, b"\3"), "big-endian"),
        "invalid byte order": (changed(new, 28, b"\1"), "big-endian"),
        "key in the header": (changed(new, 48 + 4, word(4)), "does not hold"),
        "value past the end": (changed(new, 48 + 8, word(0xFFFF_FFFF)), "does not hold"),
        "key past the end of an old cache": (changed(old, 16 + 4, word(len(old))), "does not hold"),
        "unterminated string": (one[:-1] + b"x", "does not hold"),
        "no strings": (changed(one[:72], 24, word(0)), "does not hold"),
        "endless string": (changed(one, 24, word(9000))[: 48 + 24] + b"x" * 8999 + b"\0", "more than 4095 bytes"),
        "extensions misaligned": (changed(new, 32, word(extensions + 1)), "no directory of extensions"),
        "extensions past the end": (changed(new, 32, word(0xFFFF_FFFC)), "no directory of extensions"),
        "no magic of extensions": (changed(new, extensions, word(0)), "malformed directory"),
        "too many extensions": (changed(new, extensions + 4, word(65)), "malformed directory"),
        "generator past the end": (changed(new, extensions + 8 + 12, word(1 << 20)), "ends in its extensions"),
        "hwcaps of odd size": (changed(new, extensions + 8 + 16 + 12, word(7)), "hardware capabilities"),
        "too large": (new + bytes(4 << 20), "larger than 4194304"),
    }


@pytest.mark.parametrize("case", list(hostile()))
def test_hostile_caches_are_refused(case):
    cache, why = hostile()[case]
    for use in (
        ldcache_entries.parse,
        lambda c: ldcache.merge(c, driver("libcuda.so.1")),
        lambda c: ldcache.remove(c, {"/x"}),
    ):
        with pytest.raises(LdCacheError, match=why):
            use(cache)


def test_no_cache_is_an_empty_one_to_merge_alone():
    assert ldcache.merge(b"", driver("libcuda.so.1")) == ldcache.build(driver("libcuda.so.1"))
    with pytest.raises(LdCacheError, match="does not begin"):
        ldcache_entries.parse(b"")


def test_strings_that_overlap_do_not_multiply():
    count, size = 100_000, 48 + 24 * 100_000  # 2.4 MB, and 25 strings of 4,000 bytes
    entries = b"".join(struct.pack("<IIIIQ", X86_64, size + i, size + i, 0, 0) for i in range(count))
    strings = (b"x" * 4000 + b"\0") * 25
    header = struct.pack("<20sIIB3xI12x", b"glibc-ld.so.cache1.1", count, len(strings), 2, 0)
    with pytest.raises(LdCacheError, match="larger than 4194304 bytes"):
        ldcache_entries.parse(header + entries + strings)


NAMES = st.text("ab0129.-", min_size=1, max_size=8)
ENTRIES = st.lists(
    st.builds(
        lambda name, flags, directory: Entry(name=name, path=f"/{directory}/{name}", flags=flags),
        NAMES,
        st.sampled_from([X86_64, I386, 0x803]),
        st.sampled_from("xyz"),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(ENTRIES, ENTRIES)
def test_every_addition_is_loaded_and_nothing_of_the_image_is_lost(image, additions):
    image_cache = ldcache.build(image)
    merged = ldcache.merge(image_cache, additions)
    preferred: dict[object, str] = {}
    for entry in [*additions, *ldcache_entries.parse(image_cache)]:
        preferred.setdefault((order(entry.name), entry.flags), entry.path)
    for entry in [*additions, *image]:
        assert loaded(merged, entry.name, entry.flags) == preferred[order(entry.name), entry.flags]
    assert set(ldcache_entries.parse(merged)) == {*image, *additions}

"""The real loader, in a root of its own, looks a bare name up in caches that this project merged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from oci_gpu_hook.base.formats import ldcache
from oci_gpu_hook.base.formats.ldcache import Entry

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for chroot"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc"),
]

PROBE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
int main(int argc, char **argv) {
    struct link_map *map;
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library || dlinfo(library, RTLD_DI_LINKMAP, &map)) {
        puts("not found");
        return 1;
    }
    puts(map->l_name);
    return 0;
}
"""
CHROOT = shutil.which("chroot") or "/usr/sbin/chroot"
FLAGS = ldcache.flags_for(os.uname().machine, 64)


class Root:
    """A root with the C library, a program that loads a library by its name, and libraries where only a cache leads."""

    def __init__(self, path):
        self.path = path
        (path / "etc").mkdir()
        (path / "probe.c").write_text(PROBE)
        subprocess.run(["gcc", "-o", path / "probe", path / "probe.c"], check=True)
        listed = subprocess.run(["ldd", path / "probe"], check=True, capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", listed):
            (path / library[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, path / library[1:])
        (path / "empty.c").write_text("")

    def add(self, library: str) -> Entry:
        """Make a library and return the entry that leads to it."""
        file = self.path / library[1:]
        name = file.name
        file.parent.mkdir(parents=True, exist_ok=True)
        arguments = ["gcc", "-shared", "-nostdlib", f"-Wl,-soname,{name}", "-o", file, self.path / "empty.c"]
        subprocess.run(arguments, check=True)
        return Entry(name=name, path=library, flags=FLAGS)

    def ldconfig(self, form: str = "new") -> bytes:
        """Return the cache of ldconfig's making; its configuration names /image."""
        (self.path / "etc/ld.so.conf").write_text("/image\n")
        subprocess.run(["/sbin/ldconfig", "-r", self.path, "-X", "-c", form], check=True, capture_output=True)
        return (self.path / "etc/ld.so.cache").read_bytes()

    def load(self, name: str, cache: bytes) -> str:
        """Return the path from which the loader takes the name."""
        (self.path / "etc/ld.so.cache").write_bytes(cache)
        run = subprocess.run([CHROOT, self.path, "/probe", name], check=False, capture_output=True, text=True, env={})
        assert not run.stderr
        return run.stdout.strip()


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path)


@pytest.mark.parametrize("form", ["new", "compat", "old"])
def test_an_addition_comes_before_the_image_and_the_image_stays(root, form):
    for name in ("libcuda.so.1", "libimage.so.3", "libaa.so.2", "libzz.so.10"):
        root.add(f"/image/{name}")
    additions = [root.add(f"/driver/{name}") for name in ("libcuda.so.1", "libnvidia-ml.so.1")]
    image = root.ldconfig(form)
    assert root.load("libcuda.so.1", image) == "/image/libcuda.so.1"
    assert root.load("libnvidia-ml.so.1", image) == "not found"
    merged = ldcache.merge(image, additions)
    assert root.load("libcuda.so.1", merged) == "/driver/libcuda.so.1"
    assert root.load("libnvidia-ml.so.1", merged) == "/driver/libnvidia-ml.so.1"
    for name in ("libimage.so.3", "libaa.so.2", "libzz.so.10"):
        assert root.load(name, merged) == f"/image/{name}"
    restored = ldcache.remove(merged, {entry.path for entry in additions})
    assert root.load("libcuda.so.1", restored) == "/image/libcuda.so.1"
    assert root.load("libnvidia-ml.so.1", restored) == "not found"


def test_a_root_without_a_cache_gets_one(root):
    assert root.load("libcuda.so.1", b"") == "not found"
    assert root.load("libcuda.so.1", ldcache.build([root.add("/driver/libcuda.so.1")])) == "/driver/libcuda.so.1"


@pytest.mark.parametrize("form", ["new", "compat"])
def test_variants_for_the_processor_keep_their_meaning(root, form):
    variant = "glibc-hwcaps/x86-64-v2"
    loader = next(root.path.glob("lib*/ld-linux*"))
    supported = subprocess.run([loader, "--help"], check=True, capture_output=True, text=True).stdout
    if "x86-64-v2 (supported" not in supported:
        pytest.skip("the processor has no variant")
    for name in ("libcuda.so.1", "libimage.so.3"):
        root.add(f"/image/{name}")
        root.add(f"/image/{variant}/{name}")
    image = root.ldconfig(form)
    merged = ldcache.merge(image, [root.add("/driver/libcuda.so.1"), root.add("/driver/libnvidia-ml.so.1")])
    if form == "new":
        assert root.load("libcuda.so.1", image) == f"/image/{variant}/libcuda.so.1"
    assert root.load("libimage.so.3", merged) == f"/image/{variant}/libimage.so.3"
    assert root.load("libcuda.so.1", merged) == "/driver/libcuda.so.1"

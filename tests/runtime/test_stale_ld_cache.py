"""An image whose ld.so.conf names a directory of which its ld cache knows nothing: ldconfig never ran after it came."""

from __future__ import annotations

import json
import subprocess

import pytest

from oci_gpu_hook.admin.simulate.elf import shared_object
from tests.runtime.fixtures import oci_gpu
from tests.runtime.host import contents, difference
from tests.runtime.rootfs import MACHINE

FOO = "dlopen=libfoo.so.1"
CUDA = "dlopen=libcuda.so.1"


def add(root, directory: str, *names: str, soname: str = "libfoo.so.1") -> None:
    """Put libraries that load into a directory of an image."""
    place = root / directory.strip("/")
    place.mkdir(parents=True, exist_ok=True)
    source = place / "empty.c"
    source.write_text("int nothing;\n")
    for name in names:
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", place / name, source]
        subprocess.run(command, check=True)
    source.unlink()


def configure(root, text: str, file: str = "etc/ld.so.conf.d/foo.conf") -> None:
    (root / file).parent.mkdir(exist_ok=True)
    with open(root / file, "a") as configuration:
        configuration.write(text)


def decisions(bundle, config) -> list[str]:
    bundle.write()
    return json.loads(oci_gpu("--config", config, "plan", bundle.directory, "--json")).get("decisions", [])


# Files of an image and what is added to them.
WAYS = {
    "conf.d": {"etc/ld.so.conf.d/foo.conf": "# ours\n/opt/foo/lib\n"},
    "file": {"etc/ld.so.conf": "/opt/foo/lib # ours\n"},
    "include-of-include": {
        "etc/ld.so.conf.d/foo.conf": "include foo.d/*.conf\n",
        "etc/ld.so.conf.d/foo.d/x.conf": "/opt/foo/lib\n",
    },
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("readonly", [False, True], ids=["writable", "readonly"])
def test_its_libraries_are_found(runtime, make_bundle, simulated, way, readonly):
    bundle = make_bundle(FOO, CUDA, gpus="0", readonly=readonly)
    add(bundle.rootfs, "/opt/foo/lib", "libfoo.so.1")
    for file, text in WAYS[way].items():
        configure(bundle.rootfs, text, file)
    before = contents(bundle.rootfs)
    seen = runtime.run(bundle).seen()
    assert seen[FOO] == "/opt/foo/lib/libfoo.so.1"
    assert "libcuda" in seen[CUDA]
    assert seen[CUDA].startswith("/")
    assert difference(before, contents(bundle.rootfs)) == []
    (decision,) = decisions(bundle, simulated.config)
    assert decision.startswith("the image's ld cache knows nothing of '/opt/foo/lib', which its ld.so.conf names: 1 ")


def test_by_its_soname_where_no_file_has_that_name(runtime, make_bundle):
    bundle = make_bundle(FOO, gpus="0")
    add(bundle.rootfs, "/opt/foo/lib", "libfoo.so.1.2.3")
    configure(bundle.rootfs, "/opt/foo/lib\n")
    assert runtime.run(bundle).seen()[FOO] == "/opt/foo/lib/libfoo.so.1.2.3"


def test_in_an_image_without_any_cache(runtime, make_bundle):
    bundle = make_bundle(FOO, CUDA, gpus="0", image="no-cache")
    add(bundle.rootfs, "/opt/foo/lib", "libfoo.so.1")
    configure(bundle.rootfs, "/opt/foo/lib\n", "etc/ld.so.conf")
    assert runtime.run(bundle).seen()[FOO] == "/opt/foo/lib/libfoo.so.1"


def test_on_an_overlay_the_cache_is_afterwards_as_it_was(runtime, machine, make_bundle, directory):
    image, work, merged = (directory / name for name in ("image", "work", "merged"))
    upper = directory / "upper"
    for path in (work, merged, upper):
        path.mkdir()
    subprocess.run(["cp", "--archive", machine.image("debian"), image], check=True)
    add(image, "/opt/foo/lib", "libfoo.so.1")
    configure(image, "/opt/foo/lib\n")
    layers = f"lowerdir={image},upperdir={upper},workdir={work}"
    runtime.host.call("mount", "-t", "overlay", "overlay", "-o", layers, merged)
    try:
        before = contents(runtime.host.path(merged))
        assert runtime.run(make_bundle(FOO, gpus="0", rootfs=str(merged))).seen()[FOO] == "/opt/foo/lib/libfoo.so.1"
        assert difference(before, contents(runtime.host.path(merged))) == []
    finally:
        runtime.host.call("umount", merged)


def test_what_the_cache_or_the_driver_has_goes_first(runtime, make_bundle, simulated):
    bundle = make_bundle(CUDA, "dlopen=libm.so.6", gpus="0")
    add(bundle.rootfs, "/opt/foo/lib", "libcuda.so.1", soname="libcuda.so.1")
    add(bundle.rootfs, "/opt/foo/lib", "libm.so.6", soname="libm.so.6")
    configure(bundle.rootfs, "/opt/foo/lib\n")
    seen = runtime.run(bundle).seen()
    assert not [path for path in seen.values() if path.startswith("/opt")], seen


@pytest.mark.parametrize("kind", ["known", "link-to-known", "default", "absent", "no-libraries"])
def test_directories_that_need_no_look(make_bundle, simulated, kind):
    bundle = make_bundle("list=/", gpus="0")
    root = bundle.rootfs
    if kind in ("known", "link-to-known"):
        add(root, "/opt/foo/lib", "libfoo.so.1")
        configure(root, "/opt/foo/lib\n")
        subprocess.run(["ldconfig", "-r", root], check=True)
    if kind == "link-to-known":
        (root / "opt/same").symlink_to("/opt/foo")
        configure(root, "/opt/same/lib\n")
    if kind == "default":
        add(root, f"/usr/lib/{MACHINE}-linux-gnu", "libfoo.so.1")
        configure(root, f"/usr/lib/{MACHINE}-linux-gnu\n")
    if kind == "absent":
        configure(root, "/opt/foo/lib\n")
    if kind == "no-libraries":
        (root / "opt/foo/lib").mkdir(parents=True)
        (root / "opt/foo/lib/libfoo.so").write_text("/* GNU ld script */\nINPUT(-lfoo)\n")
        configure(root, "/opt/foo/lib\n")
    assert decisions(bundle, simulated.config) == []


def test_hostile_configurations_cost_little_and_change_nothing(runtime, make_bundle, simulated):
    """Files that include themselves, directories outside, a device, names that are no names, a thousand directories."""
    bundle = make_bundle("open=/dev/nvidia0", gpus="0")
    root = bundle.rootfs
    configure(root, "include /etc/ld.so.conf.d/*.conf\ninclude /etc/ld.so.conf\n" * 50)
    configure(root, "/\n/..\n/../../etc\n//\n/proc/1/root/usr/lib\n\0/x\n/dev\n/\xff\n")
    configure(root, "".join(f"/opt/{number}\n" for number in range(1000)), "etc/ld.so.conf.d/many.conf")
    (root / "opt/1").mkdir(parents=True)
    (root / "opt/1/libfoo.so.1").symlink_to("/proc/1/root/etc/shadow")
    (root / "opt/1/libbar.so").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 40)
    foreign = shared_object(soname="libbaz.so.1", machine="aarch64" if MACHINE == "x86_64" else "x86_64")
    (root / "opt/1/libbaz.so.1").write_bytes(foreign)
    assert runtime.run(bundle).seen() == {"open=/dev/nvidia0": "ENXIO"}
    assert decisions(bundle, simulated.config) == []

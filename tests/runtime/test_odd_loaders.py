"""Images whose loader does not read /etc/ld.so.cache: the plan says so, and what it says helps."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runtime import rootfs as images
from tests.runtime.fixtures import oci_gpu
from tests.runtime.rootfs import GLIBC_LOADER

CUDA = "dlopen=libcuda.so.1"
LOADER = GLIBC_LOADER.rpartition("/")[2]
STORES = {"nix": "nix/store", "guix": "gnu/store"}
SAYS = {"nix": "Nix's", "guix": "Guix's"}


def store_image(root, store: str, *, linked: bool) -> None:
    """Make an image of a store alone: its loader is the machine's with another path of the cache built in."""
    place = root / store / "abc-glibc-2.40/lib"
    place.mkdir(parents=True)
    for name in ("proc", "dev", "sys", "tmp", "run", "etc"):
        (root / name).mkdir()
    loader = Path(f"/{GLIBC_LOADER}").read_bytes()
    assert b"\0/etc/ld.so.cache\0" in loader
    (place / LOADER).write_bytes(loader.replace(b"\0/etc/ld.so.cache\0", b"\0/xyz/ld.so.cache\0"))
    (place / LOADER).chmod(0o755)
    for name in ("libc.so.6", "libdl.so.2", "libpthread.so.0", "libm.so.6"):
        found = subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        shutil.copy(found, place / name)
    inside = f"/{store}/abc-glibc-2.40/lib"
    options = [f"-Wl,--dynamic-linker={inside}/{LOADER}", f"-Wl,-rpath,{inside}"]
    source = images._SOURCE
    subprocess.run(["gcc", "-O1", "-o", root / "probe", source, *options], check=True)
    if linked:
        (root / GLIBC_LOADER).parent.mkdir(parents=True)
        (root / GLIBC_LOADER).symlink_to(f"{inside}/{LOADER}")


@pytest.fixture
def in_store(make_bundle, directory):
    """Make bundles of such an image."""

    def make(kind: str, *probe: str, linked: bool = False, **options):
        root = directory / "store-image"
        store_image(root, STORES[kind], linked=linked)
        return make_bundle(*probe, rootfs=str(root), gpus="0", **options)

    return make


def warnings_of(bundle, config) -> list[str]:
    bundle.write()
    return json.loads(oci_gpu("--config", config, "plan", bundle.directory, "--json"))["warnings"]


@pytest.mark.parametrize("linked", [False, True], ids=["alone", "linked"])
@pytest.mark.parametrize("kind", STORES)
def test_a_store_is_told_and_the_remedy_helps(runtime, in_store, simulated, kind, linked):
    bundle = in_store(kind, CUDA, linked=linked)
    assert runtime.run(bundle).seen()[CUDA].startswith("not loaded")
    (warning,) = warnings_of(bundle, simulated.config)
    assert warning.startswith(f"the image's programs are {SAYS[kind]}, whose loader does not read /etc/ld.so.cache: ")
    setting = warning.partition(": set ")[2].partition(" in the container")[0]
    bundle.config["process"]["env"].append(setting)
    assert runtime.run(bundle).seen()[CUDA].startswith(setting.partition("=")[2])
    assert warnings_of(bundle, simulated.config) == []


@pytest.mark.parametrize("image", ["debian", "rhel", "no-cache"])
def test_images_of_glibc_are_not_spoken_of(make_bundle, simulated, image):
    assert warnings_of(make_bundle("list=/", gpus="0", image=image), simulated.config) == []


@pytest.mark.parametrize(
    ("loader", "built_for"), [("ld-linux-riscv64-lp64d.so.1", "riscv64"), ("ld-musl-s390x.so.1", "s390x")]
)
def test_another_architecture_is_told(runtime, make_bundle, simulated, loader, built_for):
    bundle = make_bundle("open=/dev/nvidia0", gpus="0", image="empty")
    (bundle.rootfs / "lib").mkdir()
    (bundle.rootfs / "lib" / loader).write_bytes(b"\x7fELF")
    (warning,) = warnings_of(bundle, simulated.config)
    assert warning.startswith(f"the image is made for {built_for}, and the driver's libraries are for ")
    assert runtime.run(bundle).seen() == {"open=/dev/nvidia0": "ENXIO"}


@pytest.mark.skipif(images.MACHINE != "x86_64", reason="no other machine runs programs of two word sizes here")
def test_an_image_of_32_bit_programs_is_told_what_serves_it(make_bundle, simulated):
    bundle = make_bundle("list=/", gpus="0", image="empty")
    (bundle.rootfs / "lib").mkdir()
    (bundle.rootfs / "lib/ld-linux.so.2").write_bytes(b"\x7fELF")
    (warning,) = warnings_of(bundle, simulated.config)
    assert "32-bit" in warning
    assert "compat32" in warning


def test_an_image_of_static_programs_is_told(make_bundle, simulated):
    (warning,) = warnings_of(make_bundle("list=/", gpus="0", image="empty"), simulated.config)
    assert warning.startswith(f"the image has no loader /{GLIBC_LOADER}: set LD_LIBRARY_PATH=/usr/lib64 in the ")


def test_gcompats_stand_in_is_no_glibc(runtime, make_bundle, simulated):
    """The libraries go where musl looks for them, and not where glibc would."""
    bundle = make_bundle("stat=/usr/lib/libcuda.so.1", gpus="0", image="musl")
    stand_in = bundle.rootfs / GLIBC_LOADER
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_bytes(b"\x7fELF and no word of a cache")
    assert runtime.run(bundle).seen()["stat=/usr/lib/libcuda.so.1"].startswith("l libcuda.so.")
    (warning,) = warnings_of(bundle, simulated.config)
    assert warning.startswith("the image is built on musl: ")


@pytest.mark.parametrize(("listed", "warned"), [("/lib:/usr/lib", 0), ("/lib\n/usr/lib\n", 0), ("/lib\n", 1)])
def test_musls_own_search_path(make_bundle, simulated, listed, warned):
    bundle = make_bundle("list=/", gpus="0", image="musl")
    (bundle.rootfs / f"etc/ld-musl-{images.MACHINE}.path").write_text(listed)
    _, *more = warnings_of(bundle, simulated.config)
    assert len(more) == warned
    assert all("set LD_LIBRARY_PATH=/usr/lib in the container" in text for text in more)

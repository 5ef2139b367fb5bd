"""An image that ships a libcuda newer than the host's: which one a program gets, and what the plan says of it."""

from __future__ import annotations

import json
import os

import pytest

from oci_gpu_hook.admin.simulate.elf import shared_object
from oci_gpu_hook.admin.simulate.elf_parts import Note
from tests.runtime import rootfs as images
from tests.runtime.bundle import FIRST_ID
from tests.runtime.fixtures import oci_gpu
from tests.runtime.host import contents, difference
from tests.runtime.rootfs import LIBRARY_DIRECTORY, MACHINE

HOST = "580.159.04"  # the simulated host's, which implements CUDA 13.0
NEWER = "590.48.01"
NAMES = ("libcuda.so.1", "libcuda.so", "libnvidia-ptxjitcompiler.so.1", "libnvidia-nvvm.so.4")
WITH_IT = ("libnvidia-ptxjitcompiler.so.1", "libnvidia-nvvm.so.4")  # what the packages cuda-compat-* hold beside it
PLACES = {
    "plain": "usr/local/cuda/compat",
    "alternatives": "opt/cuda-13.1/compat",  # behind absolute links, as Debian's packages of CUDA have it
}
KINDS = {"plain": {}, "userns": {"user_namespace": True}, "readonly": {"readonly": True}}


def note(*branches: int, cuda: str = "13.1") -> Note:
    text = json.dumps({"format": 1, "CUDA Version": cuda, "Driver": list(branches), "Device": [7, 8, 9]})
    description = text.encode() + b"\0"
    return Note(
        section=".note.cuda.fwd_compatibility", owner="NVIDIA Corporation", type=0, description=description
    )  # fmt: skip


def ship(root, version: str, notes=(), layout="plain") -> str:
    """Put compatibility libraries into an image; return the directory as the container has it."""
    place = root / PLACES[layout]
    place.mkdir(parents=True)
    if layout == "alternatives":
        (root / "etc/alternatives").mkdir()
        (root / "etc/alternatives/cuda").symlink_to("/opt/cuda-13.1")
        (root / "usr/local").mkdir(parents=True, exist_ok=True)
        (root / "usr/local/cuda").symlink_to("/etc/alternatives/cuda")
    for soname in ("libcuda.so.1", *WITH_IT):
        stem = soname.partition(".so")[0]
        own = notes if stem == "libcuda" else ()
        image = shared_object(MACHINE, soname, needed=("libc.so.6",), exports=("cuInit",), notes=own)
        (place / f"{stem}.so.{version}").write_bytes(image)
        (place / soname).symlink_to(f"{stem}.so.{version}")
    return "/usr/local/cuda/compat"


def where(runtime, bundle) -> dict[str, str]:
    """Return name → path that the container's loader opened for it."""
    return {question.removeprefix("dlopen="): path for question, path in runtime.run(bundle).seen().items()}


def plan_of(bundle, config) -> dict:
    bundle.write()
    return json.loads(oci_gpu("--config", config, "plan", bundle.directory, "--json"))


CASES = [
    # libcuda in the image, branches of its note (None: no note), used, why
    (NEWER, (535, 580), True, "newer than the host's driver"),
    (NEWER, (535, 575), False, "do not work with drivers of the host's branch 580"),
    (HOST, (580,), False, "no newer than the host's driver"),
    ("575.57.08", (580,), False, "no newer than the host's driver"),
    (NEWER, None, True, "branch 590 is later"),
    ("580.200.01", None, False, "branch 580 is no later"),
    ("99.1.1", None, False, "branch 99 is no later"),  # as strings, "99" comes after "580"
]


@pytest.mark.parametrize(("version", "branches", "used", "why"), CASES)
def test_which_libcuda_a_program_gets(runtime, make_bundle, simulated, version, branches, used, why):
    assert simulated.driver_version == HOST
    bundle = make_bundle(*(f"dlopen={name}" for name in NAMES), gpus="0")
    compat = ship(bundle.rootfs, version, () if branches is None else (note(*branches),))
    plan = plan_of(bundle, simulated.config)
    before = contents(bundle.rootfs)
    found = where(runtime, bundle)
    expected = compat if used else f"/{LIBRARY_DIRECTORY['debian']}"
    directories = {path.rpartition("/")[0] for path in found.values()}
    assert {path if path.startswith("/usr") else f"/usr{path}" for path in directories} == {expected}
    (decision,) = plan["decisions"]
    assert decision.startswith(f"the image's CUDA compatibility libraries (libcuda {version}) are")
    assert ("are used" if used else "are not used") in decision
    assert why in decision
    # Nothing of the image is mounted, and nothing in it is changed.
    assert not [mount for mount in plan["containerEdits"]["mounts"] if "compat" in mount["containerPath"]]
    assert difference(before, contents(bundle.rootfs)) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("image", LIBRARY_DIRECTORY)
@pytest.mark.parametrize("layout", PLACES)
def test_in_every_image(runtime, make_bundle, simulated, image, layout, kind):
    bundle = make_bundle("dlopen=libcuda.so.1", "dlopen=libnvidia-ml.so.1", gpus="0", image=image, **KINDS[kind])
    compat = ship(bundle.rootfs, NEWER, (note(580),), layout)
    if kind == "userns":
        images.shift(bundle.rootfs, FIRST_ID)
    found = where(runtime, bundle)
    assert found["libcuda.so.1"].startswith(f"{compat}/")
    assert "compat" not in found["libnvidia-ml.so.1"]


@pytest.mark.parametrize("mode", ["ldconfig", "hook", "mount", "disabled"])
def test_modes(runtime, make_bundle, simulated, directory, mode):
    config = directory / "config.toml"
    config.write_text(f'{simulated.config.read_text()}\n[request]\ncuda-compat-mode = "{mode}"\n')
    bundle = make_bundle("dlopen=libcuda.so.1", gpus="0", config=config)
    ship(bundle.rootfs, NEWER, (note(580),))
    (decision,) = plan_of(bundle, config)["decisions"]
    assert decision.endswith("cuda-compat-mode is disabled") == (mode == "disabled")
    assert ("/compat/" in where(runtime, bundle)["libcuda.so.1"]) == (mode != "disabled")


def test_who_does_not_compute_gets_none(runtime, make_bundle, simulated):
    env = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility")
    bundle = make_bundle("dlopen=libcuda.so.1", env=env)
    ship(bundle.rootfs, NEWER, (note(580),))
    assert where(runtime, bundle)["libcuda.so.1"].startswith("not loaded")


def test_the_plan_for_people_says_why(make_bundle, simulated):
    bundle = make_bundle(gpus="0")
    ship(bundle.rootfs, NEWER, (note(535),))
    bundle.write()
    text = oci_gpu("--config", simulated.config, "plan", bundle.directory)
    assert "the image's CUDA compatibility libraries (libcuda 590.48.01) are not used: " in text
    assert "host's branch 580" in text


@pytest.mark.parametrize("harm", ["garbage", "directory", "fifo", "link-out"])
def test_what_is_no_library_is_left_alone(runtime, make_bundle, simulated, harm):
    bundle = make_bundle("dlopen=libcuda.so.1", gpus="0")
    place = bundle.rootfs / PLACES["plain"]
    place.mkdir(parents=True)
    path = place / f"libcuda.so.{NEWER}"
    if harm == "garbage":
        path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 40)
    elif harm == "directory":
        path.mkdir()
    elif harm == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/proc/1/root/etc/shadow")
    assert where(runtime, bundle)["libcuda.so.1"].startswith(("/lib/", "/usr/lib/"))

"""Drivers that lie where ldconfig knows nothing of them, with scripts in front of programs, or without a part."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from oci_gpu_hook.admin.doctor import driver as doctor
from oci_gpu_hook.admin.doctor.model import NOTE, WARNING, Host
from oci_gpu_hook.admin.simulate.elf import shared_object
from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.config.model import DRIVER_CAPABILITIES
from oci_gpu_hook.devices.nvidia import for_request, prefixes, snapshot
from oci_gpu_hook.devices.nvidia.image_facts import ImageFacts
from oci_gpu_hook.devices.nvidia.model import DeviceNode
from oci_gpu_hook.oci.image import Image
from oci_gpu_hook.plan import plan
from oci_gpu_hook.request.model import Request

IMAGE = Image(libc="glibc", library_directory="/usr/lib64", library_directory_32="/usr/lib", of_vendor=ImageFacts())
PREFIX = "home/kubernetes/bin/nvidia"


@pytest.fixture
def prefixed(tmp_path):
    """A driver in a prefix of its own; returns its configuration and its root."""
    return made(tmp_path, layout="own-prefix")


def made(tmp_path, **options):
    host = make(str(tmp_path / "host"), gpus=1, device_nodes=False, **options)
    Path(host.dev_root, "dev/nvidiactl").unlink(missing_ok=True)
    return configs.load(host.config), Path(host.driver_root)


def given(config, *capabilities, image=IMAGE):
    """Return the files that a container is given and the warnings; nodes cannot be made here, and are left out."""
    request = Request(devices=(), driver_capabilities=capabilities, source="environment")
    inventory = for_request.get(request, config).inventory
    control = DeviceNode(path="/dev/nvidiactl", host_path="", major=195, minor=255, mode=0o666, uid=0, gid=0)
    inventory = inventory.replace(nodes=(control,), missing_nodes=())
    result = plan.make(request, inventory, (), image, config)
    return {mount.container_path: mount.host_path for mount in result.edits.mounts}, list(result.warnings)


def diagnosed(config):
    looked_at = Host(config=config, config_path="", inventory=snapshot.load(config, refresh=True))
    return {finding.what: finding.severity for finding in doctor.check(looked_at)}


# A prefix of its own


def test_all_that_the_driver_has_is_found_beside_its_libraries(prefixed):
    config, root = prefixed
    files, warnings = given(config, *DRIVER_CAPABILITIES)
    assert warnings == []
    for path, below in (
        ("/usr/bin/nvidia-smi", "bin/nvidia-smi"),
        ("/usr/bin/nvidia-cuda-mps-control", "bin/nvidia-cuda-mps-control"),
        ("/etc/vulkan/icd.d/nvidia_icd.json", "share/vulkan/icd.d/nvidia_icd.json"),
        ("/usr/share/glvnd/egl_vendor.d/10_nvidia.json", "share/glvnd/egl_vendor.d/10_nvidia.json"),
        ("/usr/lib/libcuda.so.580.159.04", "lib/libcuda.so.580.159.04"),
    ):
        assert files[path] == f"{root}/{PREFIX}/{below}"


def test_firmware_beside_the_libraries_is_found_without_the_kernels_word(prefixed):
    config, root = prefixed
    Path(config.sys_root, "module/firmware_class/parameters/path").write_text("\n")
    files, _ = given(config, "utility")
    assert files["/lib/firmware/nvidia/580.159.04/gsp_ga10x.bin"].startswith(f"{root}/{PREFIX}/firmware/")


def test_its_programs_go_before_older_ones_of_the_system(prefixed):
    config, root = prefixed
    shutil.copy(root / PREFIX / "bin/nvidia-smi", root / "usr/bin/nvidia-smi")
    assert given(config, "utility")[0]["/usr/bin/nvidia-smi"] == f"{root}/{PREFIX}/bin/nvidia-smi"


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("/opt/nvidia/lib64", {"/opt/nvidia"}),
        ("/opt/nvidia/lib/x86_64-linux-gnu", {"/opt/nvidia"}),
        ("/usr/lib/x86_64-linux-gnu/nvidia/current", {"/usr"}),
        ("/nix/store/abc-nvidia-x11/lib", {"/nix/store/abc-nvidia-x11"}),
        ("/usr/local/lib/nvidia-580/lib64", {"/usr/local/lib/nvidia-580"}),
        ("/lib64", {""}),
        ("/opt/nvidia-580", {"/opt/nvidia-580", "/opt"}),
    ],
)
def test_prefixes(directory, expected):
    assert set(prefixes.of([directory])) == expected


def test_everything_in_one_directory_as_the_installer_unpacks_it(tmp_path):
    config, root = made(tmp_path, layout="own-prefix")
    flat = root / "opt/NVIDIA-Linux"
    flat.mkdir(parents=True)
    for path in (root / PREFIX / "lib64").iterdir():
        path.rename(flat / path.name)
    (root / PREFIX / "bin/nvidia-smi").rename(flat / "nvidia-smi")
    config = config.replace(library_search_paths=("/opt/NVIDIA-Linux",))
    files, warnings = given(config, "compute", "utility")
    assert (files["/usr/bin/nvidia-smi"], warnings) == (f"{flat}/nvidia-smi", [])


def test_multiarch_directories_in_a_prefix(tmp_path):
    config, root = made(tmp_path, layout="own-prefix")
    prefix = root / "opt/driver"
    (prefix / "lib").mkdir(parents=True)
    (root / PREFIX / "lib64").rename(prefix / "lib/x86_64-linux-gnu")
    (root / PREFIX / "lib").rename(prefix / "lib/i386-linux-gnu")
    (root / PREFIX / "bin").rename(prefix / "bin")
    config = config.replace(library_search_paths=("/opt/driver/lib/x86_64-linux-gnu",))
    files, warnings = given(config, "compute", "utility", "compat32")
    assert (files["/usr/bin/nvidia-smi"], warnings) == (f"{prefix}/bin/nvidia-smi", [])
    assert files["/usr/lib/libcuda.so.580.159.04"] == f"{prefix}/lib/i386-linux-gnu/libcuda.so.580.159.04"


@pytest.mark.parametrize("directory", ["home/kubernetes/bin/nvidia", "var/lib/nvidia"])
def test_container_optimized_os_needs_no_configuration(tmp_path, directory):
    config, root = made(tmp_path, layout="own-prefix")
    (root / directory).parent.mkdir(parents=True, exist_ok=True)
    (root / PREFIX).rename(root / directory)
    files, warnings = given(config.replace(library_search_paths=()), "compute", "utility", "compat32")
    assert (files["/usr/bin/nvidia-smi"], warnings) == (f"{root}/{directory}/bin/nvidia-smi", [])


def test_a_driver_root_that_is_the_prefix(tmp_path):
    config, root = made(tmp_path, layout="own-prefix")
    config = config.replace(driver_root=str(root / PREFIX), library_search_paths=())
    files, warnings = given(config, "compute", "utility", "graphics", "compat32")
    assert (files["/usr/bin/nvidia-smi"], warnings) == (f"{root}/{PREFIX}/bin/nvidia-smi", [])
    assert files["/etc/vulkan/icd.d/nvidia_icd.json"] == f"{root}/{PREFIX}/share/vulkan/icd.d/nvidia_icd.json"


# Capabilities that bring nothing of what they are made of


LACKING = {
    "nvidia-smi": ("utility", f"{PREFIX}/bin/nvidia-smi", "utility comes without nvidia-smi", WARNING),
    "vulkan": (
        "graphics",
        f"{PREFIX}/share/vulkan/icd.d/nvidia_icd.json",
        "graphics/display comes without nvidia_icd.json",
        WARNING,
    ),
    "egl": (
        "graphics",
        f"{PREFIX}/share/glvnd/egl_vendor.d/10_nvidia.json",
        "graphics/display comes without 10_nvidia.json",
        WARNING,
    ),
    "32 bits": ("compat32", f"{PREFIX}/lib", "compat32 brings nothing", NOTE),
    "ngx": ("ngx", f"{PREFIX}/lib64/libnvidia-ngx.so.580.159.04", "ngx brings nothing", NOTE),
    "video": (
        "video",
        f"{PREFIX}/lib64/libnvcuvid.so.5*|{PREFIX}/lib64/libnvidia-encode.so.5*",
        "video brings nothing",
        NOTE,
    ),
    "graphics": ("display", f"{PREFIX}/lib64/lib[GE]*L*_nvidia.so.580.159.04", "graphics/display brings nothing", NOTE),
}


@pytest.mark.parametrize("name", LACKING)
def test_what_a_capability_lacks_is_said_by_plan_start_and_doctor_until_it_is_there(prefixed, tmp_path, name):
    capability, pattern, words, severity = LACKING[name]
    config, root = prefixed
    asked = ("compute", "utility", capability)
    assert given(config, *asked)[1] == []
    taken = [path for each in pattern.split("|") for path in root.glob(each)]
    assert taken
    for path in taken:
        path.rename(tmp_path / path.name)
    (said,) = [text for text in given(config, *asked)[1] if text.startswith(words)]
    assert diagnosed(config)[said] == severity
    if capability != "utility":
        assert not any(text.startswith(words) for text in given(config, "compute", "utility")[1])
    for path in taken:
        (tmp_path / path.name).rename(path)
    assert given(config, *asked)[1] == []  # with what was stored meanwhile


def test_an_image_without_a_place_for_32_bits_is_told(prefixed):
    config, _ = prefixed
    image = IMAGE.replace(library_directory_32="")
    assert given(config, "utility", "compat32", image=image)[1] == [
        "compat32 brings nothing: the image has no place for 32-bit libraries"
    ]


def test_compat32_beside_a_capability_that_has_no_32_bit_library_is_told(prefixed):
    config, root = prefixed
    (root / PREFIX / "lib/libnvidia-ml.so.580.159.04").unlink()
    assert given(config, "utility", "compat32")[1] == [
        "compat32 brings nothing: the host has no 32-bit library of the other capabilities that are asked for"
    ]


# Programs that are none


SCRIPTS = {
    "beside, hidden": ('#!/bin/bash\n/usr/bin/.nvidia-smi "$@" | grep -v python\n', "usr/bin/.nvidia-smi"),
    "beside, of Nix": ('#! /nix/store/x/bin/bash -e\nexec -a "$0" x\n', "usr/bin/.nvidia-smi-wrapped"),
    "diverted": ("#!/bin/sh\nexec nvidia-smi.distrib\n", "usr/bin/nvidia-smi.distrib"),
    "by its path": ('#!/bin/sh\nexec "/opt/own/nvidia-smi" "$@"\n', "opt/own/nvidia-smi"),
    "by a default": ('#!/bin/sh\nexec ${SMI:-/usr/libexec/nvidia-smi} "$@"\n', "usr/libexec/nvidia-smi"),
    "of Python": ('#!/usr/bin/env python3\nos.execv("/opt/own/nvidia-smi", sys.argv)\n', "opt/own/nvidia-smi"),
    "by another name": ("#!/bin/sh\nLD_LIBRARY_PATH=/x /srv/nvidia-smi-580 $@\n", "srv/nvidia-smi-580"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_program_behind_a_script_is_given(tmp_path, name):
    text, real = SCRIPTS[name]
    config, root = made(tmp_path)
    (root / real).parent.mkdir(parents=True, exist_ok=True)
    (root / "usr/bin/nvidia-smi").rename(root / real)
    (root / "usr/bin/nvidia-smi").write_text(text)
    files, warnings = given(config, "utility")
    assert (files["/usr/bin/nvidia-smi"], warnings) == (f"{root}/{real}", [])


def test_a_script_that_starts_a_script_is_followed_and_a_circle_ends(tmp_path):
    config, root = made(tmp_path)
    (root / "opt").mkdir()
    (root / "usr/bin/nvidia-smi").rename(root / "opt/real-nvidia-smi")
    (root / "usr/bin/nvidia-smi").write_text("#!/bin/sh\nexec /opt/nvidia-smi.sh\n")
    (root / "opt/nvidia-smi.sh").write_text("#!/bin/sh\nexec /usr/bin/nvidia-smi || exec /opt/real-nvidia-smi\n")
    assert given(config, "utility")[0]["/usr/bin/nvidia-smi"] == f"{root}/opt/real-nvidia-smi"
    (root / "opt/real-nvidia-smi").unlink()
    files, (warning,) = given(config, "utility")
    assert "/usr/bin/nvidia-smi" not in files
    assert "is a script" in warning


def with_interpreter(path):
    """Return a program that asks for a loader: a shared object whose dynamic section is declared one, with its path."""
    image = bytearray(shared_object(os.uname().machine))
    offset, size, count = 0x40, 56, int.from_bytes(image[0x38:0x3A], "little")
    segments = [offset + size * number for number in range(count)]
    at = next(segment for segment in segments if int.from_bytes(image[segment : segment + 4], "little") != 1)
    text = path.encode() + b"\0"
    image[at : at + 4] = (3).to_bytes(4, "little")
    image[at + 8 : at + 16] = len(image).to_bytes(8, "little")
    image[at + 32 : at + 40] = len(text).to_bytes(8, "little")
    return bytes(image + text)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"#!/bin/sh\nexec somewhere-else\n", "is a script or no program at all"),
        (b"", "is a script or no program at all"),
        (shared_object("i386"), "is a program for another machine"),
        (shared_object("riscv64"), "is a program for another machine"),
        (with_interpreter("/nix/store/abc/lib/ld-linux-x86-64.so.2"), "needs the loader '/nix/store/abc/lib/ld-linux"),
    ],
)
def test_what_would_not_run_is_not_given_and_named(tmp_path, content, why):
    config, root = made(tmp_path)
    smi = root / "usr/bin/nvidia-smi"
    real = smi.read_bytes()
    smi.write_bytes(content)
    files, (warning,) = given(config, "utility")
    assert "/usr/bin/nvidia-smi" not in files
    assert warning.startswith(f"nvidia-smi is given to no container: '{smi}' {why}")
    assert diagnosed(config)[warning] == WARNING
    assert given(config, "compute")[1] == []
    smi.unlink()
    smi.write_bytes(real)
    smi.chmod(0o755)
    assert given(config, "utility")[0]["/usr/bin/nvidia-smi"] == str(smi)


def test_a_program_that_may_not_be_run_is_not_given_and_named(tmp_path):
    config, root = made(tmp_path)
    smi = root / "usr/bin/nvidia-smi"
    smi.chmod(0o644)
    files, (warning,) = given(config, "utility")
    assert "/usr/bin/nvidia-smi" not in files
    assert warning.startswith(f"nvidia-smi is given to no container: '{smi}' is not executable for everybody: chmod")


def test_a_usual_loader_is_no_trouble(tmp_path):
    config, root = made(tmp_path)
    (root / "usr/bin/nvidia-smi").write_bytes(with_interpreter("/lib64/ld-linux-x86-64.so.2"))
    assert given(config, "utility")[1] == []


def test_another_program_that_is_a_script_is_named_too(tmp_path):
    config, root = made(tmp_path)
    (root / "usr/bin/nvidia-cuda-mps-control").write_text("#!/bin/sh\n")
    _, (warning,) = given(config, "compute")
    assert warning.startswith("nvidia-cuda-mps-control is given to no container: ")


# 32-bit libraries of which the ld cache knows nothing


@pytest.mark.parametrize(
    "directory",
    ["usr/lib32", "lib32", "usr/lib32/nvidia", "usr/lib/i386-linux-gnu", "usr/lib", "run/opengl-driver-32/lib"],
)
def test_32_bit_libraries_are_looked_for_where_they_usually_are(tmp_path, directory):
    config, root = made(tmp_path, layout="lib64")
    libraries = sorted((root / "usr/lib").glob("lib*.so*"))
    (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "etc/ld.so.conf").write_text("/usr/lib64\n")
    os.system(f"/sbin/ldconfig -X -r {root}")
    for path in libraries:
        path.rename(root / directory / path.name)
    files, warnings = given(config, "compute", "compat32")
    assert files["/usr/lib/libcuda.so.580.159.04"] == f"{root}/{directory}/libcuda.so.580.159.04"
    assert warnings == []


def test_64_bit_libraries_of_one_capability_are_looked_for_too(tmp_path):
    """The ld cache knows of compute's, and of graphics' nothing."""
    config, root = made(tmp_path, layout="lib64")
    apart = root / "usr/lib64/nvidia"
    apart.mkdir()
    for path in [*(root / "usr/lib64").glob("libGLX_nvidia*"), *(root / "usr/lib64").glob("libEGL_nvidia*")]:
        path.rename(apart / path.name)
    os.system(f"/sbin/ldconfig -X -r {root}")
    files, warnings = given(config, "graphics")
    assert files["/usr/lib64/libGLX_nvidia.so.580.159.04"] == f"{apart}/libGLX_nvidia.so.580.159.04"
    assert warnings == []


def test_they_are_found_when_they_come_later(tmp_path):
    config, root = made(tmp_path, layout="own-prefix")
    lib = root / PREFIX / "lib"
    lib.rename(tmp_path / "aside")
    assert given(config, "compute", "compat32")[1]
    (tmp_path / "aside").rename(root / "usr/lib32")
    assert given(config, "compute", "compat32")[1] == []

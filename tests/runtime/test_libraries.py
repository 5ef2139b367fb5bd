"""The driver's libraries, found by the container's own loader by their bare names: no ldconfig, no LD_LIBRARY_PATH."""

from __future__ import annotations

import subprocess

import pytest

from tests.runtime.rootfs import LIBRARY_DIRECTORY

LIBRARIES = ("libcuda", "libnvidia-ml")
KINDS = {"plain": {}, "readonly": {"readonly": True}, "userns": {"user_namespace": True}}


def cached(path) -> dict[str, list[str]]:
    """Return what an ld cache lists, name → paths in order of preference, as glibc's own tool reads it."""
    text = subprocess.run(["ldconfig", "-p", "-C", path], capture_output=True, text=True, check=True).stdout
    found: dict[str, list[str]] = {}
    for line in text.splitlines()[1:]:
        name, arrow, target = line.strip().partition(" => ")
        if arrow:
            found.setdefault(name.split(" (")[0], []).append(target)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("image", LIBRARY_DIRECTORY)
def test_bare_names_load(runtime, make_bundle, simulated, image, kind):
    asked = [f"dlopen={name}.so.1" for name in LIBRARIES]
    seen = runtime.run(make_bundle(*asked, "dlopen=libm.so.6", gpus="0", image=image, **KINDS[kind])).seen()
    directory = LIBRARY_DIRECTORY[image].removeprefix("usr/")
    for question in asked:
        assert seen[question].removeprefix("/usr").removeprefix("/").startswith(f"{directory}/"), seen[question]
    assert seen["dlopen=libm.so.6"].startswith("/")


@pytest.mark.parametrize("image", LIBRARY_DIRECTORY)
def test_files_and_links_lie_as_an_installed_driver_has_them(runtime, make_bundle, simulated, image):
    version = simulated.driver_version
    directory = f"/{LIBRARY_DIRECTORY[image]}"
    asked = []
    for name in LIBRARIES:
        asked += [f"stat={directory}/{name}.so.{version}", f"stat={directory}/{name}.so.1"]
        asked += [f"dlopen={directory}/{name}.so.1"]
    asked += [f"dlopen={directory}/libcuda.so", f"write={directory}/libcuda.so.{version}"]
    seen = runtime.run(make_bundle(*asked, gpus="0", image=image)).seen()
    for name in LIBRARIES:
        (original,) = simulated.libraries(f"{name}.so.{version}")
        assert seen[f"stat={directory}/{name}.so.{version}"].split()[:2] == ["f", str(original.stat().st_size)]
        assert seen[f"stat={directory}/{name}.so.1"] == f"l {name}.so.{version}"
        assert seen[f"dlopen={directory}/{name}.so.1"].startswith("/")
    assert seen[f"dlopen={directory}/libcuda.so"].startswith("/")
    assert seen[f"write={directory}/libcuda.so.{version}"] == "EROFS"


@pytest.mark.parametrize("image", ["debian", "rhel"])
def test_the_ld_cache_holds_the_images_libraries_and_the_drivers(runtime, make_bundle, simulated, image):
    bundle = make_bundle(args=("/bin/sleep", "60"), gpus="0", image=image)
    file = bundle.rootfs / "etc/ld.so.cache"
    contents = file.read_bytes()
    before = cached(file)
    with runtime.started(bundle) as container:
        inside = cached(container.path("/etc/ld.so.cache"))
        assert file.read_bytes() == contents
    assert {name: inside.get(name) for name in before} == before
    for name in LIBRARIES:
        (path,) = inside[f"{name}.so.1"]
        assert path.rpartition("/")[2] in (f"{name}.so.1", f"{name}.so.{simulated.driver_version}")


def test_every_mount_is_read_only_and_without_privilege(runtime, make_bundle, simulated):
    version = simulated.driver_version
    table = runtime.run(make_bundle("mountinfo", gpus="0")).seen()["mountinfo"]
    mounts = [line.split() for line in table.splitlines()]
    drivers = [fields for fields in mounts if fields[4].endswith(version)]
    assert drivers
    for fields in drivers:
        assert {"ro", "nosuid", "nodev"} <= {*fields[5].split(",")}, fields
        assert not any(option.startswith(("shared:", "master:")) for option in fields[6:]), fields


def test_nvidia_smi_lists_the_granted_gpus(runtime, make_bundle, simulated):
    for number, (gpus, indices) in enumerate({"all": (0, 1), "1": (1,)}.items()):
        result = runtime.run(make_bundle(args=("/usr/bin/nvidia-smi", "-L"), gpus=gpus, name=f"bundle{number}"))
        assert result.status == 0, result
        lines = result.stdout.splitlines()
        assert len(lines) == len(indices), result.stdout
        for place, (line, index) in enumerate(zip(lines, indices, strict=True)):
            assert line.startswith(f"GPU {place}: "), line
            assert line.endswith(f"(UUID: {simulated.gpus()[index].uuid})"), line


def test_utility_alone_brings_no_libcuda(runtime, make_bundle, simulated):
    wish = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility")
    seen = runtime.run(make_bundle("dlopen=libnvidia-ml.so.1", "dlopen=libcuda.so.1", env=wish)).seen()
    assert seen["dlopen=libnvidia-ml.so.1"].startswith("/")
    assert not seen["dlopen=libcuda.so.1"].startswith("/")


def test_none_brings_the_libraries_and_no_gpu(runtime, make_bundle, simulated):
    seen = runtime.run(make_bundle("dlopen=libcuda.so.1", "stat=/dev/nvidia0", gpus="none")).seen()
    assert seen["dlopen=libcuda.so.1"].startswith("/")
    assert seen["stat=/dev/nvidia0"] == "ENOENT"

"""Images as they come: with other tools' remains, with files in the way, shared, on overlayfs, without glibc."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.runtime import rootfs as images
from tests.runtime.fixtures import oci_gpu
from tests.runtime.host import contents, difference, tree

CUDA = "dlopen=libcuda.so.1"
NVML = "dlopen=libnvidia-ml.so.1"


@pytest.mark.parametrize("image", ["debian", "rhel"])
def test_remains_of_other_tools_are_covered_and_kept(runtime, make_bundle, simulated, image):
    bundle = make_bundle(CUDA, NVML, gpus="0", image=image)
    images.leave_driver_remains(bundle.rootfs, image, simulated.driver_version)
    before = contents(bundle.rootfs)
    seen = runtime.run(bundle).seen()
    assert seen[CUDA].startswith("/")
    assert seen[NVML].startswith("/")
    assert difference(before, contents(bundle.rootfs)) == []


def test_a_library_of_the_images_own_is_covered_and_kept(runtime, make_bundle, simulated):
    directory = images.LIBRARY_DIRECTORY["debian"]
    versioned = f"{directory}/libcuda.so.{simulated.driver_version}"
    bundle = make_bundle(CUDA, f"stat=/{versioned}", gpus="0")
    (bundle.rootfs / versioned).write_text("the image's own\n")
    (bundle.rootfs / directory / "libcuda.so.1").write_text("the image's own\n")
    before = tree(bundle.rootfs)
    seen = runtime.run(bundle).seen()
    assert seen[CUDA].startswith("/")
    (original,) = simulated.libraries(f"libcuda.so.{simulated.driver_version}")
    assert seen[f"stat=/{versioned}"].split()[1] == str(original.stat().st_size)
    assert difference(before, tree(bundle.rootfs)) == []
    assert (bundle.rootfs / directory / "libcuda.so.1").read_text() == "the image's own\n"


@pytest.mark.parametrize("first_to_stop", [0, 1], ids=["first-stops-first", "second-stops-first"])
@pytest.mark.parametrize("image", ["debian", "rhel"])
def test_two_containers_on_one_rootfs(runtime, make_bundle, simulated, image, first_to_stop):
    bundles = [make_bundle(args=("/bin/sleep", "60"), gpus="0", image=image, name="first")]
    shared = str(bundles[0].rootfs)
    bundles.append(make_bundle(args=("/bin/sleep", "60"), gpus="1", rootfs=shared, name="second"))
    before = tree(bundles[0].rootfs)
    running = [runtime.started(bundle) for bundle in bundles]
    containers = [context.__enter__() for context in running]
    try:
        for index in (0, 1):
            _assert_has_only(containers[index], index)
    finally:
        running[first_to_stop].__exit__(None, None, None)
    remaining = 1 - first_to_stop
    try:
        _assert_has_only(containers[remaining], remaining)
    finally:
        running[remaining].__exit__(None, None, None)
    assert difference(before, tree(bundles[0].rootfs)) == []


def _assert_has_only(container, index: int) -> None:
    seen = container.exec("/probe", CUDA, NVML, "open=/dev/nvidia0", "open=/dev/nvidia1").seen()
    assert seen[CUDA].startswith("/")
    assert seen[NVML].startswith("/")
    assert seen[f"open=/dev/nvidia{index}"] == "ENXIO"
    assert seen[f"open=/dev/nvidia{1 - index}"] == "ENOENT"


def test_a_container_without_gpu_beside_one_with_it_on_one_rootfs(runtime, make_bundle, simulated):
    with_gpu = make_bundle(args=("/bin/sleep", "60"), gpus="0", name="with")
    without = make_bundle(CUDA, "stat=/dev/nvidia0", rootfs=str(with_gpu.rootfs), name="without")
    with runtime.started(with_gpu):
        seen = runtime.run(without).seen()
    assert not seen[CUDA].startswith("/")
    assert seen["stat=/dev/nvidia0"] == "ENOENT"


def test_overlayfs_as_docker_and_podman_have_it(runtime, machine, make_bundle, simulated, directory):
    upper, work, merged = (directory / name for name in ("upper", "work", "merged"))
    for path in (upper, work, merged):
        path.mkdir()
    layers = f"lowerdir={machine.image('debian')},upperdir={upper},workdir={work}"
    runtime.host.call("mount", "-t", "overlay", "overlay", "-o", layers, merged)
    try:
        before = contents(runtime.host.path(merged))
        seen = runtime.run(make_bundle(CUDA, NVML, "open=/dev/nvidia0", gpus="0", rootfs=str(merged))).seen()
        assert seen[CUDA].startswith("/")
        assert seen[NVML].startswith("/")
        assert seen["open=/dev/nvidia0"] == "ENXIO"
        assert difference(before, contents(runtime.host.path(merged))) == []
    finally:
        runtime.host.call("umount", merged)
    # What stays in the upper layer is what `docker commit` takes: a cache like the image's at most, no whiteouts.
    left = {name for name, facts in tree(upper).items() if not facts[0].startswith("d")}
    assert left <= {"etc/ld.so.cache"}


def test_musl_gets_its_devices_and_a_warning(runtime, make_bundle, simulated, directory):
    log = directory / "log"
    settings = directory / "config.toml"
    settings.write_text(_with_log(simulated.config.read_text(), log))
    bundle = make_bundle("open=/dev/nvidia0", "list=/proc/driver/nvidia/gpus", gpus="0", image="musl", config=settings)
    seen = runtime.run(bundle).seen()
    assert seen["open=/dev/nvidia0"] == "ENXIO"
    assert len(seen["list=/proc/driver/nvidia/gpus"]) == 1
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(record["level"] == "warning" and "musl" in json.dumps(record) for record in records), records


def with_one_library_directory(rootfs) -> None:
    """Lay an image out as Arch Linux is: everything is in /usr/lib, and the other names lead there."""
    for directory in (images.LIBRARY_DIRECTORY["debian"], "usr/lib64"):
        for path in (rootfs / directory).iterdir():
            path.rename(rootfs / "usr/lib" / path.name)
        (rootfs / directory).rmdir()
    (rootfs / "usr/lib64").symlink_to("lib")
    (rootfs / "etc/debian_version").unlink()
    (rootfs / "etc/ld.so.conf").write_text("/usr/lib\n")
    subprocess.run(["ldconfig", "-r", rootfs], check=True)


@pytest.mark.parametrize("image", ["musl", "one directory"])
def test_one_library_directory_is_for_the_images_own_word_size(runtime, make_bundle, simulated, image):
    """Libraries of 32 bits have the names of the others: where both would go to one place, they are left out."""
    env = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=all")
    library = f"/usr/lib/libcuda.so.{simulated.driver_version}"
    bundle = make_bundle(f"stat={library}", env=env, image="musl" if image == "musl" else "debian")
    if image != "musl":
        with_one_library_directory(bundle.rootfs)
    size = next(path for path in simulated.libraries("libcuda.so.*")).stat().st_size
    assert runtime.run(bundle).seen()[f"stat={library}"].split()[:2] == ["f", str(size)]
    bundle.write()
    planned = json.loads(oci_gpu("--config", simulated.config, "plan", bundle.directory, "--json"))
    assert "compat32 brings nothing: the image has no place for 32-bit libraries" in planned["warnings"]


def _with_log(settings: str, file) -> str:
    kept = settings.partition("[log]")[0]
    return f'{kept}\n[log]\nlevel = "info"\nfile = "{file}"\n'


def test_an_image_of_one_static_file_gets_its_devices(runtime, make_bundle, simulated):
    bundle = make_bundle("open=/dev/nvidia0", "open=/dev/nvidiactl", gpus="0", image="empty")
    before = tree(bundle.rootfs)
    seen = runtime.run(bundle).seen()
    assert seen == {"open=/dev/nvidia0": "ENXIO", "open=/dev/nvidiactl": "ENXIO"}
    assert difference(before, tree(bundle.rootfs)) == []

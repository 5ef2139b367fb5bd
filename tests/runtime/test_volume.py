"""Images of nvidia-docker 1 and of Mesos find the driver in /usr/local/nvidia: lib, lib64, bin."""

from __future__ import annotations

from typing import Any

import pytest

VOLUME = "/usr/local/nvidia"
ASKED: dict[str, Any] = {
    "annotation": {"annotations": {"io.oci-gpu-hook.volume": "/usr/local/nvidia"}},
    "variable": {"env": ("OCI_GPU_VOLUME=true",)},
}


def look(volume: str) -> tuple[str, ...]:
    names = ("lib64/libcuda.so.1", "lib64/libcuda.so", "bin/nvidia-smi")
    opens = [f"read={volume}/{name}" for name in names[2:]]
    return (f"list={volume}/lib64", f"list={volume}/bin", f"dlopen={volume}/{names[0]}", *opens)


@pytest.mark.parametrize("way", ASKED)
def test_the_driver_is_in_the_volume(runtime, make_bundle, simulated, way):
    seen = runtime.run(make_bundle(*look(VOLUME), gpus="0", **ASKED[way])).seen()
    assert {"libcuda.so.1", "libcuda.so", f"libnvidia-ml.so.{simulated.driver_version}"} <= {
        *seen[f"list={VOLUME}/lib64"]
    }
    assert "nvidia-smi" in seen[f"list={VOLUME}/bin"]
    assert seen[f"dlopen={VOLUME}/lib64/libcuda.so.1"] == f"{VOLUME}/lib64/libcuda.so.1"
    assert seen[f"read={VOLUME}/bin/nvidia-smi"]


def test_the_configuration_asks_for_all(runtime, make_bundle, simulated, directory):
    host = simulated.copy(directory / "host")
    host.config.write_text(host.config.read_text().replace("[driver]", '[driver]\nvolume = "/opt/nvidia"'))
    bundle = make_bundle("list=/opt/nvidia/lib64", "list=/usr/local", gpus="0", config=host.config)
    seen = runtime.run(bundle).seen()
    assert "libcuda.so.1" in seen["list=/opt/nvidia/lib64"]


def test_without_being_asked_for_there_is_none(runtime, make_bundle):
    seen = runtime.run(make_bundle(f"list={VOLUME}", gpus="0")).seen()
    assert seen[f"list={VOLUME}"] == "ENOENT"


def test_it_does_not_outlive_the_container(runtime, make_bundle):
    bundle = make_bundle(gpus="0", args=("/bin/true",), **ASKED["annotation"])
    runtime.run(bundle).seen()
    assert not (bundle.rootfs / "usr/local/nvidia").exists()


@pytest.mark.parametrize("path", ["nvidia", "/", "/../etc", "/a/../../b"])
def test_what_is_no_path_is_refused(runtime, make_bundle, path):
    bundle = make_bundle(gpus="0", args=("/bin/true",), annotations={"io.oci-gpu-hook.volume": path})
    result = runtime.run(bundle)
    assert result.status != 0
    if runtime.name.startswith("runc"):
        assert "is not an absolute path" in result.complaint()

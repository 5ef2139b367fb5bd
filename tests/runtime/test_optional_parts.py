"""A volume where the driver goes: what is optional is left out with a warning, and the container starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime import rootfs as images

LIBRARIES = images.LIBRARY_DIRECTORY["debian"]
# Where a volume is, the capabilities, a path that it leaves no place for, and one that is there all the same.
CASES = {
    "daemons' sockets": ("/var/run", "utility", "/var/run/nvidia-persistenced", "/usr/bin/nvidia-smi"),
    "by a link of the image": ("/run", "utility", "/var/run/nvidia-fabricmanager", "/usr/bin/nvidia-smi"),
    "OpenCL": ("/etc", "compute,utility", "/etc/OpenCL/vendors/nvidia.icd", "/usr/bin/nvidia-smi"),
    "EGL": ("/etc/nvidia", "graphics", "/etc/nvidia/nvidia-application-profiles-rc.d", "/dev/nvidia0"),
    "firmware": ("/lib/firmware", "utility", "/lib/firmware/nvidia", "/usr/bin/nvidia-smi"),
    "programs": ("/usr/bin", "utility", "/usr/bin/nvidia-smi", f"/{LIBRARIES}/libnvidia-ml.so.1"),
    "data files": ("/usr/share", "graphics", "/usr/share/glvnd", "/dev/nvidia0"),
}


def bind(source, destination: str) -> dict:
    return {"destination": destination, "source": str(source), "type": "bind", "options": ["rbind", "rprivate"]}


def link_to_run(rootfs: Path) -> None:
    """Have /var/run lead to /run, as nearly all images do."""
    (rootfs / "var").mkdir(exist_ok=True)
    (rootfs / "var/run").symlink_to("/run")


def warnings(simulated, bundle) -> list[str]:
    command = [
        Path(sys.executable).with_name("oci-gpu"),
        "--config",
        simulated.config,
        "plan",
        bundle.directory,
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["warnings"]


@pytest.fixture
def logged(simulated, tmp_path):
    """A configuration with a log file; returns its path and what yields the warnings in it."""
    config, log = simulated.directory / "with-log.toml", tmp_path / "log"
    config.write_text(f'{simulated.config.read_text()}\n[log]\nfile = "{log}"\n')
    yield config, lambda: [json.loads(line).get("text") for line in log.read_text().splitlines() if "warning" in line]
    config.unlink()


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_is_optional_is_left_out(runtime, make_bundle, simulated, directory, logged, machine, case):
    destination, capabilities, absent, present = case
    config, warned = logged
    volume = directory / "volume"
    volume.mkdir()
    bundle = make_bundle(
        f"stat={absent}",
        f"stat={present}",
        "open=/dev/nvidia0",
        mounts=(bind(volume, destination),),
        env=("NVIDIA_VISIBLE_DEVICES=all", f"NVIDIA_DRIVER_CAPABILITIES={capabilities}"),
        config=config,
    )
    if destination == "/run":
        link_to_run(bundle.rootfs)
    seen = runtime.run(bundle).seen()
    assert seen[f"stat={absent}"] == "ENOENT"
    assert seen[f"stat={present}"] != "ENOENT"
    assert seen["open=/dev/nvidia0"] == "ENXIO"
    assert list(volume.iterdir()) == [], "nothing is made in the volume"
    bundle.write()
    (said,) = [text for text in warnings(simulated, bundle) if "left out" in text]
    assert absent in said
    assert "is a volume of the host, where the hook creates nothing; to have" in said
    assert "mount the volume elsewhere in the container, or put an empty file or directory of that name into it" in said
    assert said in warned()


CUDA = "dlopen=libcuda.so.1"


def volume_of_libraries(bundle, directory: Path) -> dict:
    """Return a mount of the image's own libraries in their place, from the host."""
    (bundle.rootfs / LIBRARIES).rename(directory / "libraries")
    (bundle.rootfs / LIBRARIES).mkdir()
    return bind(directory / "libraries", f"/{LIBRARIES}")


@pytest.mark.parametrize("options", [(), ("ro",)])
def test_the_driver_is_found_without_a_place_for_the_ld_cache(runtime, make_bundle, directory, options):
    """The volume hides what says that the image is Debian's, and its ld cache."""
    (directory / "etc").mkdir()
    mount = bind(directory / "etc", "/etc")
    mount["options"] += options
    assert (
        runtime.run(make_bundle(CUDA, gpus="all", mounts=(mount,))).seen()[CUDA].startswith(f"/lib/{images.MULTIARCH}/")
    )


def test_where_no_loader_would_look_the_ld_cache_is_not_left_out(runtime, make_bundle, simulated, directory):
    (directory / "etc").mkdir()
    bundle = make_bundle(CUDA, gpus="all")
    bundle.config["mounts"] += [volume_of_libraries(bundle, directory), bind(directory / "etc", "/etc")]
    line = runtime.run(bundle).complaint()
    assert line.startswith("cannot place '/etc/ld.so.cache': '/etc' is a volume of the host")
    assert line.endswith("; or set LD_LIBRARY_PATH=/usr/local/nvidia/lib64 in the container [OGH1508]")
    bundle.config["process"]["env"].append("LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64")
    assert runtime.run(bundle).seen()[CUDA] == "/usr/local/nvidia/lib64/libcuda.so.1"


def test_it_is_there_once_the_volume_has_a_place_for_it(runtime, make_bundle, simulated, directory):
    """Which is what the warning advises."""
    volume = directory / "volume"
    (volume / "nvidia-persistenced").mkdir(parents=True)
    (volume / "nvidia-fabricmanager").mkdir()
    bundle = make_bundle("list=/run/nvidia-persistenced", gpus="all", mounts=(bind(volume, "/run"),))
    link_to_run(bundle.rootfs)
    assert runtime.run(bundle).seen()["list=/run/nvidia-persistenced"] == ["socket"]
    bundle.write()
    assert warnings(simulated, bundle) == []


@pytest.mark.parametrize(
    ("destination", "what"), [("/dev/dri", "/dev/dri/card1"), (f"/{LIBRARIES}/vdpau", f"/{LIBRARIES}/vdpau/libvdpau")]
)
def test_what_was_asked_for_is_not_left_out(runtime, make_bundle, simulated, directory, destination, what):
    volume = directory / "volume"
    volume.mkdir()
    bundle = make_bundle(
        "list=/",
        mounts=(bind(volume, destination),),
        env=("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all"),
    )
    line = runtime.run(bundle).complaint()
    assert line.startswith(f"cannot place '{what}")
    assert line.endswith("or put an empty file or directory of that name into it [OGH1508]")
    assert list(volume.iterdir()) == []


def test_what_was_left_out_is_not_missed_later(runtime, make_bundle, simulated, directory):
    volume = directory / "volume"
    volume.mkdir()
    bundle = make_bundle(args=("/bin/sleep", "60"), gpus="all", mounts=(bind(volume, "/lib/firmware"),))
    with runtime.started(bundle) as container:
        command = [Path(sys.executable).with_name("oci-gpu"), "--config", simulated.config, "verify", container.id]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{container.id}: has what it was given\n"), done

"""What each driver capability and feature brings, seen from inside: by the container's loader, by open, by stat.

The expected names are those of NVIDIA's driver 580 (its README, "Listing of Installed Components") under the capability
to which libnvidia-container's src/nvc_info.c and the toolkit's generated CDI specifications assign them.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.rootfs import LIBRARY_DIRECTORY, MACHINE
from tests.runtime.simulated import SimulatedHost
from tests.runtime.test_libraries import cached

V = "580.159.04"
UTILITY = {"libnvidia-ml.so.1", "libnvidia-cfg.so.1", "libnvidia-nscq.so.2", "libnvidia-sandboxutils.so.1"}
COMPUTE = {
    "libcuda.so.1", "libcuda.so", "libcudadebugger.so.1", "libnvidia-opencl.so.1", "libnvidia-ptxjitcompiler.so.1",
    "libnvidia-nvvm.so.4", "libnvidia-nvvm70.so.4", "libnvidia-allocator.so.1", f"libnvidia-gpucomp.so.{V}",
    f"libnvidia-pkcs11.so.{V}", f"libnvidia-pkcs11-openssl3.so.{V}",
}  # fmt: skip
VIDEO = {
    "libnvcuvid.so.1", "libnvidia-encode.so.1", "libnvidia-opticalflow.so.1", "libnvidia-opticalflow.so",
    "libvdpau_nvidia.so.1",
}  # fmt: skip
GRAPHICS = {
    "libGLX_nvidia.so.0", "libGLX_indirect.so.0", "libEGL_nvidia.so.0", "libGLESv1_CM_nvidia.so.1",
    "libGLESv2_nvidia.so.2", f"libnvidia-eglcore.so.{V}", f"libnvidia-glcore.so.{V}", f"libnvidia-tls.so.{V}",
    f"libnvidia-glsi.so.{V}", f"libnvidia-rtcore.so.{V}", f"libnvidia-glvkspirv.so.{V}", "libnvidia-fbc.so.1",
    "libnvoptix.so.1", "libnvidia-egl-gbm.so.1", "libnvidia-egl-wayland.so.1", "libnvidia-egl-xcb.so.1",
    "libnvidia-egl-xlib.so.1", f"libnvidia-present.so.{V}", "libnvidia-api.so.1", "libnvidia-cfg.so.1",
    "libnvidia-allocator.so.1", f"libnvidia-gpucomp.so.{V}",
}  # fmt: skip
NGX = {"libnvidia-ngx.so.1", "libnvidia-ptxjitcompiler.so.1"}
LIBRARIES = {
    "utility": UTILITY,
    "compute": COMPUTE,
    "video": VIDEO | COMPUTE,
    "graphics": GRAPHICS,
    "display": GRAPHICS,
    "ngx": NGX,
}
EVERY_LIBRARY = set().union(*LIBRARIES.values())
PROGRAMS = {
    "utility": {"nvidia-smi", "nvidia-debugdump", "nvidia-persistenced", "nv-fabricmanager", "nvidia-imex",
                "nvidia-imex-ctl"},
    "compute": {"nvidia-cuda-mps-control", "nvidia-cuda-mps-server"},
    "graphics": {"nvidia-xconfig"},
    "ngx": {"nvidia-ngx-updater"},
}  # fmt: skip
UVM = {"nvidia-uvm", "nvidia-uvm-tools"}
NODES = {"compute": UVM, "video": UVM, "display": {"nvidia-modeset"}}
GRAPHICS_FILES = (
    "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
    "/usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json",
    "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json",
    "/usr/share/egl/egl_external_platform.d/20_nvidia_xcb.json",
    "/usr/share/egl/egl_external_platform.d/20_nvidia_xlib.json",
    "/etc/vulkan/icd.d/nvidia_icd.json",
    "/etc/vulkan/implicit_layer.d/nvidia_layers.json",
)
OTHER_GRAPHICS_FILES = (
    "/etc/OpenCL/vendors/nvidia.icd",
    "/usr/share/nvidia/nvoptix.bin",
    "/usr/share/X11/xorg.conf.d/10-nvidia.conf",
    f"/usr/share/nvidia/nvidia-application-profiles-{V}-rc",
)
FEATURES = {
    "gds": {"/dev/nvidia-fs0", "/dev/nvidia-fs15"},
    "mofed": {"/dev/infiniband/uverbs0", "/dev/infiniband/rdma_cm"},
    "nvswitch": {"/dev/nvidia-nvswitchctl", "/dev/nvidia-nvswitch0", "/dev/nvidia-nvswitch3"},
    "gdrcopy": {"/dev/gdrdrv"},
}
FEATURE_NODES = set().union(*FEATURES.values())
CHANNELS = "/dev/nvidia-caps-imex-channels"
PROFILE = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"
UNDER_LIBRARIES = f"/{LIBRARY_DIRECTORY['debian']}"
KINDS = {"plain": {}, "userns": {"user_namespace": True}}


@pytest.fixture(scope="module")
def second(machine) -> SimulatedHost:
    """A host that tests here may take things away from; its driver is the same."""
    directory = machine.work / "second-host"
    make(str(directory), gpus=2, driver_version=V, seed=7)
    return SimulatedHost(directory)


def asking(capabilities: str, gpus: str = "0", **more: str) -> tuple[str, ...]:
    variables = {"NVIDIA_VISIBLE_DEVICES": gpus, "NVIDIA_DRIVER_CAPABILITIES": capabilities, **more}
    return tuple(f"{name}={value}" for name, value in variables.items())


def loaded(seen: dict) -> set[str]:
    return {
        question.removeprefix("dlopen=")
        for question, answer in seen.items()
        if question.startswith("dlopen=") and answer.startswith("/")
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("capability", LIBRARIES)
def test_what_a_capability_brings(runtime, make_bundle, simulated, capability, kind):
    """All of its libraries load, by their bare names; none of another capability's does; so with programs, nodes."""
    assert simulated.driver_version == V
    loads = sorted(f"dlopen={name}" for name in EVERY_LIBRARY)
    bundle = make_bundle(*loads, "list=/usr/bin", "list=/dev", env=asking(capability), **KINDS[kind])
    before = set(os.listdir(bundle.rootfs / "usr/bin"))
    seen = runtime.run(bundle).seen()
    assert loaded(seen) == LIBRARIES[capability]
    of = "graphics" if capability == "display" else capability
    assert {*seen["list=/usr/bin"]} - before == PROGRAMS.get(of, set())
    nodes = {name for name in seen["list=/dev"] if name.startswith("nvidia")}
    assert nodes == {"nvidia0", "nvidiactl", *NODES.get(capability, ())}


def test_all_capabilities_bring_all_libraries(runtime, make_bundle, simulated):
    loads = sorted(f"dlopen={name}" for name in EVERY_LIBRARY)
    seen = runtime.run(make_bundle(*loads, env=asking("all"))).seen()
    assert loaded(seen) == EVERY_LIBRARY


def test_the_gsps_firmware_comes_with_every_gpu(runtime, make_bundle, simulated):
    place = f"/lib/firmware/nvidia/{V}"
    seen = runtime.run(make_bundle(f"list={place}", f"write={place}/gsp_ga10x.bin", env=asking("utility"))).seen()
    assert sorted(seen[f"list={place}"]) == ["gsp_ga10x.bin", "gsp_tu10x.bin"]
    assert seen[f"write={place}/gsp_ga10x.bin"] == "EROFS"


# Graphics


@pytest.mark.parametrize("image", LIBRARY_DIRECTORY)
@pytest.mark.parametrize("kind", KINDS)
def test_loaders_of_graphics_find_their_drivers_by_the_files_given_to_them(
    runtime, make_bundle, simulated, kind, image
):
    """What libglvnd, libEGL's platforms and the Vulkan loader do: read their JSON, open the library that it names."""
    asked = [f"read={path}" for path in (*GRAPHICS_FILES, "/etc/OpenCL/vendors/nvidia.icd")]
    first = runtime.run(make_bundle(*asked, env=asking("all"), name="reads", image=image, **KINDS[kind])).seen()
    texts = [json.loads(first[f"read={path}"]) for path in GRAPHICS_FILES]
    named = {(text.get("ICD") or text["layer"])["library_path"] for text in texts}
    named.add(first["read=/etc/OpenCL/vendors/nvidia.icd"].strip())
    assert {"libEGL_nvidia.so.0", "libGLX_nvidia.so.0", "libnvidia-opencl.so.1"} < named
    loads = [f"dlopen={name}" for name in sorted(named)]
    seen = runtime.run(make_bundle(*loads, env=asking("all"), name="loads", image=image, **KINDS[kind])).seen()
    assert loaded(seen) == named


def test_the_graphics_set_is_complete(runtime, make_bundle, simulated):
    backend = f"{UNDER_LIBRARIES}/gbm/nvidia-drm_gbm.so"
    modules = f"{UNDER_LIBRARIES}/nvidia/xorg"
    asked = [f"stat={path}" for path in (*GRAPHICS_FILES, *OTHER_GRAPHICS_FILES)]
    asked += [f"dlopen={backend}", f"stat={backend}", f"dlopen={modules}/nvidia_drv.so"]
    asked += [f"stat={modules}/libglxserver_nvidia.so", f"dlopen={modules}/libglxserver_nvidia.so", f"read={PROFILE}"]
    seen = runtime.run(make_bundle(*asked, env=asking("graphics", "1"))).seen()
    for path in (*GRAPHICS_FILES, *OTHER_GRAPHICS_FILES):
        assert seen[f"stat={path}"].startswith("f "), path
    assert seen[f"stat={backend}"] == "l ../libnvidia-allocator.so.1"
    assert seen[f"stat={modules}/libglxserver_nvidia.so"] == f"l libglxserver_nvidia.so.{V}"
    for name in (backend, f"{modules}/nvidia_drv.so", f"{modules}/libglxserver_nvidia.so"):
        assert seen[f"dlopen={name}"].startswith("/"), name
    settings = json.loads(seen[f"read={PROFILE}"].replace("0x2]", '"0x2"]'))["profiles"][0]["settings"]
    assert settings == ["EGLVisibleDGPUDevices", "0x2"]  # GPU 1 alone


def test_without_graphics_none_of_it_is_there(runtime, make_bundle, simulated):
    asked = [f"stat={path}" for path in (*GRAPHICS_FILES, PROFILE, "/dev/dri")]
    seen = runtime.run(make_bundle(*asked, env=asking("compute,utility,video,ngx"))).seen()
    assert {*seen.values()} == {"ENOENT"}


@pytest.mark.parametrize("kind", KINDS)
def test_drm_nodes_of_the_granted_gpu_alone(runtime, make_bundle, simulated, kind):
    names = [_drm(simulated, gpu) for gpu in simulated.gpus()]
    asked = ["list=/dev/dri", "list=/dev/dri/by-path"]
    asked += [f"{verb}=/dev/dri/{name}" for pair in names for name in pair for verb in ("open", "stat")]
    by_path = {
        f"pci-{simulated.gpus()[1].bus_id}-{kind}": name
        for kind, name in zip(("card", "render"), names[1], strict=True)
    }
    asked += [f"stat=/dev/dri/by-path/{name}" for name in by_path]
    major, minor = _numbers(simulated, names[0][1])
    asked += [f"mknod=/dev/mine:{major}:{minor}", "open=/dev/mine"] if kind == "plain" else []
    seen = runtime.run(make_bundle(*asked, env=asking("graphics", "1"), **KINDS[kind])).seen()
    assert sorted(seen["list=/dev/dri"]) == sorted([*names[1], "by-path"])
    assert {name: seen[f"stat=/dev/dri/by-path/{name}"] for name in seen["list=/dev/dri/by-path"]} == {
        link: f"l ../{name}" for link, name in by_path.items()
    }
    for name in names[1]:
        assert seen[f"stat=/dev/dri/{name}"].startswith("c {}:{} ".format(*_numbers(simulated, name)))
        # A user namespace's root is nobody to the node's owner, group and mode, which are 0660.
        assert seen[f"open=/dev/dri/{name}"] == ("ENXIO" if kind == "plain" else "EACCES")
    for name in names[0]:
        assert seen[f"open=/dev/dri/{name}"] == "ENOENT"
    if kind == "plain":
        assert seen["open=/dev/mine"] == "EPERM"


def _drm(host, gpu) -> list[str]:
    """Return cardN and renderDN of a GPU as the host's udev names them by its place."""
    by_path = host.dev / "dri/by-path"
    return [os.path.basename(os.readlink(by_path / f"pci-{gpu.bus_id}-{kind}")) for kind in ("card", "render")]


def _numbers(host, name) -> tuple[int, int]:
    number = os.stat(host.dev / "dri" / name).st_rdev
    return os.major(number), os.minor(number)


def test_a_plan_names_the_groups_that_may_draw(make_bundle, simulated):
    from tests.runtime.fixtures import oci_gpu

    bundle = make_bundle(env=asking("graphics", "0"))
    bundle.write()
    plan = json.loads(oci_gpu("--config", simulated.config, "plan", bundle.directory, "--json"))
    groups = {os.stat(simulated.dev / "dri" / name).st_gid for name in _drm(simulated, simulated.gpus()[0])}
    assert plan["containerEdits"]["additionalGids"] == sorted(groups)
    assert 0 not in groups


# 32 bits


@pytest.mark.skipif(MACHINE != "x86_64", reason="32-bit libraries are x86_64's")
def test_compat32_brings_the_32_bit_builds_of_what_was_asked_for(runtime, make_bundle, simulated):
    place = "/usr/lib/i386-linux-gnu"
    bundle = make_bundle(args=("/bin/sleep", "60"), env=asking("compute,compat32"))
    with runtime.started(bundle) as container:
        inside = cached(container.path("/etc/ld.so.cache"))
        files = {name.partition(".so")[0] for name in os.listdir(container.path(place))}
        header = container.path(f"{place}/libcuda.so.{V}").read_bytes()[:5]
        assert os.readlink(container.path(f"{place}/libcuda.so.1")) == f"libcuda.so.{V}"
    assert header == b"\x7fELF\x01"
    assert {*inside["libcuda.so.1"]} == {f"{UNDER_LIBRARIES}/libcuda.so.1", f"{place}/libcuda.so.1"}
    assert files == {
        "libcuda", "libnvidia-opencl", "libnvidia-gpucomp", "libnvidia-ptxjitcompiler", "libnvidia-nvvm",
        "libnvidia-allocator",
    }  # fmt: skip


def test_without_compat32_there_are_none(runtime, make_bundle, simulated):
    seen = runtime.run(make_bundle("stat=/usr/lib/i386-linux-gnu", env=asking("compute,utility,graphics"))).seen()
    assert seen["stat=/usr/lib/i386-linux-gnu"] == "ENOENT"


# Daemons


def test_a_daemon_that_is_started_again_is_met_again(runtime, make_bundle, simulated):
    """The socket's directory is given, not the socket, which a new daemon replaces."""
    path = simulated.driver_root / "run/nvidia-persistenced/socket"
    bundle = make_bundle(args=("/bin/sleep", "60"), env=asking("utility"))
    inside = "/var/run/nvidia-persistenced"
    with runtime.started(bundle) as container:
        seen = container.exec("/probe", f"list={inside}", f"create={inside}/mine").seen()
        assert seen[f"list={inside}"] == ["socket"]
        assert seen[f"create={inside}/mine"] == "EROFS"
        aside = path.with_name("old")
        path.rename(aside)
        try:
            with socket.socket(socket.AF_UNIX) as daemon:
                daemon.bind(str(path))
                daemon.listen()
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(container.path(f"{inside}/socket")))  # ConnectionRefused by the old one
                    daemon.accept()[0].close()
        finally:
            path.unlink(missing_ok=True)
            aside.rename(path)


def test_sockets_are_utilitys(runtime, make_bundle, simulated):
    asked = [f"stat=/var/run/nvidia-{name}" for name in ("persistenced", "fabricmanager")]
    assert {*runtime.run(make_bundle(*asked, env=asking("compute"))).seen().values()} == {"ENOENT"}


# Features


@pytest.mark.parametrize("feature", FEATURES)
def test_what_a_feature_brings(runtime, make_bundle, simulated, feature):
    asked = [f"open={path}" for path in sorted(FEATURE_NODES)] + ["stat=/run/udev", "stat=/etc/cufile.json"]
    env = asking("compute", **{f"NVIDIA_{feature.upper()}": "enabled"})
    seen = runtime.run(make_bundle(*asked, env=env)).seen()
    # ENODEV: the kernel's driver of miscellaneous devices, which rdma_cm is one of, knows none of that number.
    opened = {path for path in FEATURE_NODES if seen[f"open={path}"] in ("ENXIO", "ENODEV")}
    assert opened == FEATURES[feature]
    assert {seen[f"open={path}"] for path in FEATURE_NODES - opened} == {"ENOENT"}
    files = (seen["stat=/run/udev"][0], seen["stat=/etc/cufile.json"][0])
    assert files == (("d", "f") if feature == "gds" else ("E", "E"))  # ENOENT


def test_a_feature_that_the_host_lacks_is_a_warning(runtime, make_bundle, second):
    """GPUDirect Storage's files come only with its nodes."""
    for path in second.dev.glob("nvidia-fs*"):
        path.unlink()
    env = asking("compute", NVIDIA_GDS="enabled")
    bundle = make_bundle("stat=/etc/cufile.json", "open=/dev/nvidia-uvm", env=env, config=_logging(second))
    seen = runtime.run(bundle).seen()
    assert seen == {"stat=/etc/cufile.json": "ENOENT", "open=/dev/nvidia-uvm": "ENXIO"}
    assert "gds is asked for, but the host has no device of it" in _warnings(second)


def test_display_on_a_headless_host_is_a_warning(runtime, make_bundle, second):
    (second.dev / "nvidia-modeset").unlink(missing_ok=True)
    bundle = make_bundle(
        "open=/dev/nvidia0", "stat=/dev/nvidia-modeset", env=asking("display"), config=_logging(second)
    )
    assert runtime.run(bundle).seen() == {"open=/dev/nvidia0": "ENXIO", "stat=/dev/nvidia-modeset": "ENOENT"}
    assert "the host has no /dev/nvidia-modeset, which display would use" in _warnings(second)


def _logging(host: SimulatedHost) -> Path:
    config = host.directory / "logging.toml"
    (host.directory / "log").unlink(missing_ok=True)
    config.write_text(f'{host.config.read_text()}\n[log]\nfile = "{host.directory}/log"\n')
    return config


def _warnings(host: SimulatedHost) -> list[str]:
    lines = (json.loads(line) for line in (host.directory / "log").read_text().splitlines())
    return [line["text"] for line in lines if line["event"] == "warning"]


# IMEX


def test_imex_channels_that_are_asked_for_alone(runtime, make_bundle, simulated):
    """Channel 5 the host has not made; the driver numbers channels by minor, so it can be given all the same."""
    asked = [f"list={CHANNELS}", *(f"open={CHANNELS}/channel{number}" for number in (0, 1, 5))]
    seen = runtime.run(make_bundle(*asked, env=asking("compute", NVIDIA_IMEX_CHANNELS="1,5"))).seen()
    assert sorted(seen[f"list={CHANNELS}"]) == ["channel1", "channel5"]
    assert seen[f"open={CHANNELS}/channel0"] == "ENOENT"
    assert seen[f"open={CHANNELS}/channel1"] == seen[f"open={CHANNELS}/channel5"] == "ENXIO"


def test_imex_channels_without_a_gpu(runtime, make_bundle, simulated):
    env = asking("compute", "none", NVIDIA_IMEX_CHANNELS="0")
    seen = runtime.run(make_bundle(f"open={CHANNELS}/channel0", "stat=/dev/nvidia0", env=env)).seen()
    assert seen == {f"open={CHANNELS}/channel0": "ENXIO", "stat=/dev/nvidia0": "ENOENT"}

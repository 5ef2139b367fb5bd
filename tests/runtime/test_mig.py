"""MIG devices: by every name, alone in the container, apart from their neighbours; and those who manage them."""

from __future__ import annotations

import json
import os

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.bundle import DOCKER_CAPABILITIES
from tests.runtime.fixtures import oci_gpu
from tests.runtime.simulated import SimulatedHost

PROFILES = ("3g.40gb", "1g.10gb", "1g.10gb")
CAPS = "/dev/nvidia-caps"
CAPABILITIES = "/proc/driver/nvidia/capabilities"
NAMES = ("{uuid}", "{upper}", "{gpu}:{index}", "MIG-{parent}/{gi}/{ci}", "{gpu}:{index},{uuid}")
PRIVILEGED = (*DOCKER_CAPABILITIES, "CAP_SYS_ADMIN")
KINDS = {"plain": {}, "userns": {"user_namespace": True}}


@pytest.fixture(scope="module")
def partitioned(machine) -> SimulatedHost:
    """Two GPUs, their minors not their indices, each cut into three devices, two of them alike."""
    directory = machine.work / "partitioned"
    make(str(directory), gpus=2, product="H100", mig=PROFILES, minors=(4, 2))
    return SimulatedHost(directory)


@pytest.fixture(scope="module")
def devices(partitioned) -> list[dict]:
    """The MIG devices as the kernel and NVML tell of them; the numbers of nodes are read from the kernel's files."""
    info = json.loads(oci_gpu("--config", partitioned.config, "info", "--json"))
    found = []
    for gpu in info["gpus"]:
        for mig in gpu["migDevices"]:
            gi, ci = mig["gpuInstance"], mig["computeInstance"]
            instance = f"gpu{gpu['minor']}/mig/gi{gi}"
            files = [f"{instance}/access", f"{instance}/ci{ci}/access"]
            caps = [_minor(partitioned, path) for path in files]
            found.append({"gpu": gpu, "mig": mig, "instance": instance, "ci": ci, "files": files, "caps": caps})
    assert len(found) == 6
    return found


def _minor(host, path) -> int:
    text = (host.proc / "capabilities" / path).read_text()
    return int(text.splitlines()[0].removeprefix("DeviceFileMinor: "))


def asking(devices, **more) -> tuple[str, ...]:
    return (f"NVIDIA_VISIBLE_DEVICES={devices}", *(f"{name}={value}" for name, value in more.items()))


def look(host, devices, user_namespace=False) -> list[str]:
    asked = ["list=/dev", f"list={CAPS}", "list=/proc/driver/nvidia/gpus", f"list={CAPABILITIES}"]
    for device in devices:
        asked += [f"read={CAPABILITIES}/{path}" for path in device["files"]]
        for number in device["caps"]:
            asked += [f"read={CAPS}/nvidia-cap{number}"]  # their mode is 0444
            if not user_namespace:
                asked += [f"mknod=/dev/mine{number}:{caps_major(host)}:{number}", f"read=/dev/mine{number}"]
    return asked


def caps_major(host) -> int:
    return os.major(os.stat(host.dev / "nvidia-caps/nvidia-cap1").st_rdev)


def assert_sees(seen, host, devices, granted) -> None:
    """Check the answers to `look`: the granted devices and no part of another."""
    gpus = {device["gpu"]["minor"]: device["gpu"]["busId"] for device in granted}
    assert {name for name in seen["list=/dev"] if name[6:].isdigit()} == {f"nvidia{minor}" for minor in gpus}
    assert {name[-12:] for name in seen["list=/proc/driver/nvidia/gpus"]} == {bus[-12:] for bus in gpus.values()}
    own = {number for device in granted for number in device["caps"]}
    assert {*seen[f"list={CAPS}"]} == {f"nvidia-cap{number}" for number in own}
    assert {*seen[f"list={CAPABILITIES}"]} == {f"gpu{minor}" for minor in gpus}
    for device in devices:
        mine = device in granted
        for path, number in zip(device["files"], device["caps"], strict=True):
            text = seen[f"read={CAPABILITIES}/{path}"]
            assert text.startswith(f"DeviceFileMinor: {number}\n") if mine else text == "ENOENT", path
            assert seen[f"read={CAPS}/nvidia-cap{number}"] == ("ENXIO" if mine else "ENOENT")
            if f"read=/dev/mine{number}" in seen:
                assert seen[f"read=/dev/mine{number}"] == ("ENXIO" if mine else "EPERM")


@pytest.mark.parametrize("form", NAMES)
def test_by_every_name(runtime, make_bundle, partitioned, devices, form):
    device = devices[4]
    gpu, mig = device["gpu"], device["mig"]
    name = form.format(
        uuid=mig["uuid"], upper=mig["uuid"].upper(), gpu=gpu["index"], index=mig["index"],
        parent=gpu["uuid"], gi=mig["gpuInstance"], ci=mig["computeInstance"],
    )  # fmt: skip
    bundle = make_bundle(*look(partitioned, devices), env=asking(name), config=partitioned.config)
    assert_sees(runtime.run(bundle).seen(), partitioned, devices, [device])


@pytest.mark.parametrize("kind", KINDS)
def test_two_devices_of_one_gpu_do_not_see_each_other(runtime, make_bundle, partitioned, devices, kind):
    """Two containers at once, each with a device of the same GPU: each opens its own, neither the other's."""
    options = {"env": None, "config": partitioned.config, "args": ("/bin/sleep", "60"), **KINDS[kind]}
    pair = devices[1:3]
    assert pair[0]["gpu"] == pair[1]["gpu"]
    bundles = [
        make_bundle(**{**options, "env": asking(device["mig"]["uuid"])}, name=f"bundle{number}")
        for number, device in enumerate(pair)
    ]
    with runtime.started(bundles[0]) as one, runtime.started(bundles[1]) as other:
        for container, device in zip((one, other), pair, strict=True):
            seen = container.exec("/probe", *look(partitioned, devices, kind == "userns")).seen()
            assert_sees(seen, partitioned, devices, [device])


def test_all_means_all_devices(runtime, make_bundle, partitioned, devices):
    bundle = make_bundle(*look(partitioned, devices), env=asking("all"), config=partitioned.config)
    assert_sees(runtime.run(bundle).seen(), partitioned, devices, devices)


def test_a_gpu_by_name_brings_none_of_its_devices(runtime, make_bundle, partitioned, devices):
    asked = ("open=/dev/nvidia4", "open=/dev/nvidia2", f"list={CAPS}")
    bundle = make_bundle(*asked, env=asking(devices[0]["gpu"]["uuid"]), config=partitioned.config)
    seen = runtime.run(bundle).seen()
    assert seen == {"open=/dev/nvidia4": "ENXIO", "open=/dev/nvidia2": "ENOENT", f"list={CAPS}": "ENOENT"}


def test_by_profile_and_count(runtime, make_bundle, partitioned, devices):
    wish = {"io.oci-gpu-hook.count": "3", "io.oci-gpu-hook.devices": "1g.10gb", "io.oci-gpu-hook.exclusive": "true"}
    bundle = make_bundle(*look(partitioned, devices), annotations=wish, config=partitioned.config)
    seen = runtime.run(bundle).seen()
    small = [device for device in devices if device["mig"]["profile"] == "1g.10gb"]
    assert_sees(seen, partitioned, devices, small[:3])
    too_many = make_bundle("list=/", annotations={**wish, "io.oci-gpu-hook.count": "5"}, config=partitioned.config,
                           name="too-many")  # fmt: skip
    assert "this host has 4" in runtime.run(too_many).complaint()


@pytest.mark.parametrize("number", ["0:3", "2:0", "MIG-11111111-2222-3333-4444-555555555555"])
def test_a_device_that_does_not_exist(runtime, make_bundle, partitioned, number):
    result = runtime.run(make_bundle("list=/", env=asking(number), config=partitioned.config))
    assert f"unknown device '{number}'" in result.complaint()


@pytest.mark.parametrize("role", ["CONFIG", "MONITOR"])
@pytest.mark.parametrize("gpus", ["all", "0,1"])
def test_who_manages_sees_all_capabilities(runtime, make_bundle, partitioned, devices, role, gpus):
    env = asking(gpus, **{f"NVIDIA_MIG_{role}_DEVICES": "all"})
    asked = [f"list={CAPS}", f"list={CAPABILITIES}", f"list={CAPABILITIES}/mig", f"read={CAPABILITIES}/mig/config"]
    numbers = [1, 2, *(number for device in devices for number in device["caps"])]
    asked += [f"read={CAPS}/nvidia-cap{number}" for number in numbers]
    bundle = make_bundle(*asked, env=env, capabilities=PRIVILEGED, config=partitioned.config)
    seen = runtime.run(bundle).seen()
    assert {*seen[f"list={CAPS}"]} == {f"nvidia-cap{number}" for number in numbers}
    assert {*seen[f"list={CAPABILITIES}"]} == {"mig", "gpu4", "gpu2"}
    assert {*seen[f"list={CAPABILITIES}/mig"]} == {"config", "monitor"}
    assert seen[f"read={CAPABILITIES}/mig/config"].startswith("DeviceFileMinor: 1\n")
    assert {seen[f"read={CAPS}/nvidia-cap{number}"] for number in numbers} == {"ENXIO"}


@pytest.mark.parametrize(
    ("devices_asked", "value", "capabilities", "complaint"),
    [
        ("all", "all", DOCKER_CAPABILITIES, "privileged"),
        ("all", "0", PRIVILEGED, "only `all` is valid"),
        ("0:1", "all", PRIVILEGED, "single MIG devices"),
    ],
)
@pytest.mark.parametrize("role", ["CONFIG", "MONITOR"])
def test_who_may_not_manage(runtime, make_bundle, partitioned, role, devices_asked, value, capabilities, complaint):
    env = asking(devices_asked, **{f"NVIDIA_MIG_{role}_DEVICES": value})
    result = runtime.run(make_bundle("list=/", env=env, capabilities=capabilities, config=partitioned.config))
    assert complaint in result.complaint()


def test_info_shows_them(partitioned, devices):
    """To people: index and profile of each in the row above its UUID."""
    lines = oci_gpu("--config", partitioned.config, "info").splitlines()
    for device in devices:
        mig = device["mig"]
        (number,) = [number for number, line in enumerate(lines) if mig["uuid"] in line]
        row = " ".join(lines[number - 1 : number + 1])
        assert mig["profile"] in row
        assert f"{device['gpu']['index']}:{mig['index']}" in row.split()

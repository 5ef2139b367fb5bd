"""Doctor sees two allocators on one node: NVIDIA's device plugin and counts."""

from __future__ import annotations

import json
import os

import pytest

from oci_gpu_hook.admin.doctor import checkup, kubernetes
from oci_gpu_hook.admin.doctor.model import Host
from oci_gpu_hook.allocation import allocate
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.model import Gpu
from oci_gpu_hook.oci.container import Container
from oci_gpu_hook.request.model import Request

GPUS = of_nvidia.of(Gpu(index=i, uuid=f"GPU-{i}", minor=i, bus_id=f"00000000:0{i}:00.0") for i in range(2))


@pytest.fixture
def host(tmp_path):
    return Host(config=Config(state_dir=str(tmp_path / "state")), config_path="", root=str(tmp_path / "root"))


def plugin(host, registered):
    path = host.path("/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint")
    directory = host.path("/var/lib/kubelet/device-plugins")
    os.makedirs(directory, exist_ok=True)
    with open(path, "w") as file:
        text = {"Data": {"PodDeviceEntries": None, "RegisteredDevices": registered}, "Checksum": 1}
        file.write(registered if isinstance(registered, str) else json.dumps(text))


def hold(host, name, **wish):
    container = Container(
        id=name, pid=0, bundle="/b", rootfs="/b/r", root_readonly=False, env=(), mounts=(), annotations={},
        privileged=False, uid=0, gid=0, namespaces=(), uid_mappings=(), gid_mappings=(), cgroups_path="",
        device_rules=(),
    )  # fmt: skip
    request = Request(driver_capabilities=(), source="environment", **wish)
    allocate.allocate(request, GPUS, container, host.config)


def said(host):
    return [(finding.severity, finding.what) for finding in kubernetes.check(host)]


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '{"Data": null}', '{"Data": {"RegisteredDevices": 3}}'])
def test_a_node_without_a_plugin_has_nothing_to_be_told(host, text):
    if text is not None:
        plugin(host, text)
    hold(host, "a", count=1)
    assert said(host) == []


def test_other_plugins_do_not_matter(host):
    plugin(host, {"example.com/fpga": ["GPU-0"], "nvidia.com/gpu": []})
    hold(host, "a", count=1)
    assert said(host) == []


def test_a_plugin_alone_is_worth_a_note(host):
    plugin(host, {"nvidia.com/gpu": ["GPU-0", "GPU-1::0", "GPU-1::1"]})
    hold(host, "by name", devices=("GPU-0",))
    note = "a device plugin hands out 2 GPUs of this node; requests by count would too"
    assert said(host) == [("note", note)]


def test_both_on_one_node_are_a_warning_that_names_who(host):
    plugin(host, {"nvidia.com/gpu": ["GPU-0", "GPU-1"]})
    hold(host, "a", count=1)
    assert said(host) == [("warning", "GPUs of the device plugin are held by count: by 'a'")]


def test_counts_of_other_gpus_do_not_contradict_the_plugin(host):
    plugin(host, {"nvidia.com/gpu": ["GPU-1"]})
    hold(host, "a", count=1)
    assert [severity for severity, _ in said(host)] == ["note"]


def test_it_is_looked_at():
    assert "kubernetes" in checkup.CHECKS

"""Whose devices a request means that leaves the vendor open, by what the host has."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.lifecycle import kinds
from oci_gpu_hook.request.model import Request
from tests.unit.devices.topologies import Machine

NVIDIA, AMD, INTEL = "nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu"


@pytest.fixture
def host(tmp_path):
    """Return the configuration of a host with GPUs of these vendors."""

    def make(*has):
        machine = Machine(tmp_path)
        if "nvidia" in has:
            version = tmp_path / "proc/driver/nvidia/version"
            version.parent.mkdir(parents=True)
            version.touch()
        if "amd" in has:
            machine.amd(1, render=128, card=1, location=0x0500)
        if "intel" in has or "integrated" in has:
            address = "0000:03:00.0" if "intel" in has else "0000:00:02.0"
            device = machine.pci(address, "xe", vendor="0x8086", device="0x56c0", **{"class": "0x030000"})
            machine.drm(device, card=2, render=129)
        return machine.config.replace(proc_root=f"{tmp_path}/proc")

    return make


def count(number=1, **fields):
    return Request(count=number, driver_capabilities=("compute",), source="environment", any_kind=True, **fields)


def named(kind):
    return Request(kind=kind, devices=("all",), driver_capabilities=(), source="environment", any_kind=True)


@pytest.mark.parametrize(
    ("has", "kind"),
    [
        (["nvidia"], NVIDIA),
        (["amd"], AMD),
        (["intel"], INTEL),
        (["nvidia", "integrated"], NVIDIA),
        (["amd", "integrated"], AMD),
        (["integrated"], INTEL),
        ([], NVIDIA),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_a_count_is_of_the_only_vendor_there_is(host, has, kind):
    found = kinds.settled(count(2, memory=5, exclusive=True, wait=7), host(*has))
    assert (found.kind, found.count, found.memory, found.exclusive, found.wait) == (kind, 2, 5, True, 7)
    assert found.driver_capabilities == (("compute",) if kind == NVIDIA else ())
    assert not found.is_open


@pytest.mark.parametrize("has", ["amd", "intel"])
def test_only_what_nvidias_driver_serves_is_left_out_of_a_count(host, has):
    of_nvidia = {
        "requirements": ("cuda>=12",), "mig_config_devices": "all", "mig_monitor_devices": "all",
        "imex_channels": (0,), "features": ("gds",),
    }  # fmt: skip
    common = {
        "memory": 5, "exclusive": True, "wait": 7, "memory_limit": 8 << 30, "cores": 25, "spread": True,
        "share_by": "OCI_GPU_CORES", "warnings": ("a",), "engine_serves": True,
    }  # fmt: skip
    asked = count(2, **of_nvidia, **common)
    unsaid = Request(count=2, driver_capabilities=(), source="environment")
    left_to_say = {name for name, value in asked.__dict__.items() if value == unsaid.__dict__[name]}
    assert left_to_say <= {"kind", "devices", "count", "source", "beside"}, "a field that this test does not set"
    found = kinds.settled(asked, host(has))
    assert found == unsaid.replace(kind=f"{has}.com/gpu", **common)


def test_where_there_are_several_vendors_a_count_without_a_kind_is_a_question(host):
    config = host("nvidia", "amd", "intel")
    with pytest.raises(InvalidInput) as caught:
        kinds.settled(count(2), config)
    assert str(caught.value) == (
        "2 GPUs asked for without a kind: this host has GPUs of nvidia.com/gpu, amd.com/gpu, intel.com/gpu; "
        "say which by OCI_GPU_KIND, or [allocation] default-kind in config.toml"
    )


def test_variables_of_several_vendors_give_what_there_is(host):
    both = named(NVIDIA).replace(beside=(named(AMD),))
    config = host("amd")
    found = kinds.settled(both, config)
    assert (found.kind, found.beside) == (AMD, ())
    assert found.warnings == ("nvidia.com/gpu is left out, since this host has no such GPU; the other kinds are given",)
    assert not found.is_open


def test_on_a_mixed_host_each_vendors_variable_is_heard(host):
    found = kinds.settled(named(NVIDIA).replace(beside=(named(AMD),)), host("nvidia", "amd"))
    assert (found.kind, [part.kind for part in found.beside], found.warnings) == (NVIDIA, [AMD], ())


def test_where_there_is_neither_both_are_asked_for(host):
    """So that the refusal says what is missing."""
    found = kinds.settled(named(NVIDIA).replace(beside=(named(AMD),)), host())
    assert (found.kind, [part.kind for part in found.beside]) == (NVIDIA, [AMD])


def test_what_was_asked_for_beside_stays(host):
    other = Request(kind="v.com/nic", devices=("eth7",), driver_capabilities=(), source="annotations")
    found = kinds.settled(count().replace(beside=(other,)), host("amd"))
    assert (found.kind, found.beside) == (AMD, (other,))


@pytest.mark.parametrize(
    ("uuids", "kind"), [(["GPU-1"], NVIDIA), (["amd.com/gpu=0xab"], AMD), (["v.com/nic=a", "amd.com/gpu=0xab"], AMD)]
)
def test_a_running_containers_devices_say_what_it_meant(uuids, kind):
    other = Request(kind="v.com/nic", devices=("a",), driver_capabilities=(), source="annotations")
    assert kinds.settled_before(count().replace(beside=(other,)), uuids).kind == kind
    both = named(NVIDIA).replace(beside=(named(AMD),))
    assert kinds.settled_before(both, uuids).kind == kind

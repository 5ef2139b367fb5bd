"""Intel's GPUs on the PCI bus: their names, nodes, memory and links."""

from __future__ import annotations

import pytest

from oci_gpu_hook.devices import presence, vendors
from oci_gpu_hook.devices.intel import discovery, products
from tests.unit.devices.topologies import Machine

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def gpu(machine, address, driver="xe", *, card, render, device="0x56c0"):
    path = machine.pci(address, driver, vendor="0x8086", device=device, numa_node="1")
    machine.drm(path, card=card, render=render)
    return machine.root / "sys" / path


def test_the_names_are_those_of_intels_generator_and_the_order_that_of_the_bus(machine):
    gpu(machine, "0000:4d:00.0", "i915", card=1, render=128)
    gpu(machine, "0000:03:00.0", card=2, render=129)
    devices = discovery.look(machine.config, detailed=False).devices
    assert [device.name for device in devices] == [
        "0", "0000-03-00-0-0x56c0", "0000:03:00.0", "card2",
        "1", "0000-4d-00-0-0x56c0", "0000:4d:00.0", "card1",
    ]  # fmt: skip
    first = devices[0]
    assert [node.path for node in first.edits.device_nodes] == ["/dev/dri/card2", "/dev/dri/renderD129"]
    assert [(link.path, link.target) for link in first.links] == [
        ("/dev/dri/by-path/pci-0000:03:00.0-card", "../card2"),
        ("/dev/dri/by-path/pci-0000:03:00.0-render", "../renderD129"),
    ]


def test_four_names_are_one_device(machine):
    gpu(machine, "0000:03:00.0", card=2, render=129)
    inventory = vendors.seen(discovery.KIND, machine.config)
    assert inventory
    (device,) = vendors.of(discovery.KIND).devices(inventory, machine.config)
    assert (device.uuid, device.numa_node) == ("intel.com/gpu=0000-03-00-0-0x56c0", 1)


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        ({}, 0),
        ({"tile0/physical_vram_size_bytes": 16 * GIB}, 16 * GIB),
        ({"tile0/physical_vram_size_bytes": 64 * GIB, "tile1/physical_vram_size_bytes": 64 * GIB}, 128 * GIB),
        ({"drm/card2/lmem_total_bytes": 48 * GIB}, 48 * GIB),
    ],
    ids=["unknown", "xe", "two-tiles", "i915"],
)
def test_memory_as_far_as_the_driver_tells(machine, files, memory):
    path = gpu(machine, "0000:03:00.0", card=2, render=129)
    for name, size in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(f"{size}\n")
    assert {device.memory for device in discovery.look(machine.config, detailed=True).devices} == {memory}


def test_what_has_another_driver_is_none(machine):
    machine.pci("0000:03:00.0", "vfio-pci", vendor="0x8086", device="0x56c0")
    machine.pci("0000:04:00.0", "xe", vendor="0x8086", device="0x56c0")  # and no DRM nodes yet
    assert discovery.look(machine.config, detailed=True).devices == ()
    assert vendors.seen(discovery.KIND, machine.config) is None


@pytest.mark.parametrize(("address", "standing"), [("0000:00:02.0", "integrated"), ("0000:03:00.0", "card")])
def test_a_processors_own_gpu_is_no_card(machine, address, standing):
    gpu(machine, address, card=0, render=128)
    assert discovery.standing(machine.config) == standing
    assert presence.of_host(machine.config) == ("intel.com/gpu",)


@pytest.mark.parametrize(
    ("product", "name"),
    [("0x56c0", "Data Center GPU Flex 170"), ("0xe20b", "Arc B580"), ("0xffff", "Intel 0xffff"), ("", "")],
)
def test_what_a_product_is_called(product, name):
    assert products.name(product) == name

"""AMD's GPUs in the topology that KFD shows: their order, names, parts and places."""

from __future__ import annotations

import pytest

from oci_gpu_hook.devices import presence, vendors
from oci_gpu_hook.devices.amd import discovery
from oci_gpu_hook.request.model import Request
from tests.unit.devices.topologies import Machine, properties

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def names(seen):
    """Return the names of each set of nodes, in order."""
    found: dict[tuple[str, ...], list[str]] = {}
    for device in seen.devices:
        found.setdefault(tuple(node.path for node in device.edits.device_nodes), []).append(device.name)
    return found


def test_gpus_are_in_the_order_of_the_bus_and_processors_are_none(machine):
    properties(machine.nodes / "0/properties", cpu_cores_count=64, simd_count=0, drm_render_minor=0)
    machine.amd(2, render=129, card=2, location=0x0500, unique_id=0xAB)
    machine.amd(1, render=128, card=1, location=0xE500, unique_id=0xCD)
    assert names(discovery.look(machine.config, detailed=False)) == {
        ("/dev/dri/card2", "/dev/dri/renderD129"): ["0", "0xab", "0000:05:00.0"],
        ("/dev/dri/card1", "/dev/dri/renderD128"): ["1", "0xcd", "0000:e5:00.0"],
    }


def test_the_order_is_of_numbers(machine):
    machine.amd(10, render=140, location=0x0500)
    machine.amd(9, render=139, location=0x1500)
    machine.amd(11, render=130, location=0x0500, domain=1)
    assert list(names(discovery.look(machine.config, detailed=False))) == [
        ("/dev/dri/renderD140",),
        ("/dev/dri/renderD139",),
        ("/dev/dri/renderD130",),
    ]


@pytest.mark.parametrize("said", ["9" * 5000, "-1", "0x10", "1 1", "\u0663", "\u00b2", "\0", ""])
def test_what_is_no_number_is_read_as_none(machine, said):
    machine.amd(1, render=128, location=0x0500, gfx_target_version=said, unique_id=said)
    properties(machine.nodes / "1/mem_banks/0/properties", heap_type=1, size_in_bytes=said)
    machine.pci("0000:05:00.0", "amdgpu", numa_node=said)
    (device, *_) = discovery.look(machine.config, detailed=True).devices
    assert (device.name, device.memory, device.numa_node, device.product) == ("0", 0, None, "")


def test_a_gpu_without_a_unique_id_is_called_by_its_place(machine):
    machine.amd(1, render=128, card=0, location=0x0300)
    inventory = vendors.seen(discovery.KIND, machine.config)
    (device,) = vendors.of(discovery.KIND).devices(inventory, machine.config)
    assert (device.uuid, device.name) == ("amd.com/gpu=0000:03:00.0", "0")


def test_parts_are_devices_and_the_gpu_stands_for_them(machine):
    """As of an MI300X in the mode DPX: the parts share address and unique id, and differ in the lowest bits."""
    for part in range(2):
        machine.amd(1 + part, render=128 + part, card=1 + part, location=0x0500 | part, unique_id=0x84CAFEAE17E7696)
    machine.amd(3, render=130, card=3, location=0x1500, unique_id=0xE3AA140F9A5F9E31)
    inventory = vendors.seen(discovery.KIND, machine.config)
    room = vendors.of(discovery.KIND)
    devices = room.devices(inventory, machine.config)
    assert [(device.uuid, device.countable) for device in devices[:3]] == [
        ("amd.com/gpu=0x84cafeae17e7696:0", True),
        ("amd.com/gpu=0x84cafeae17e7696:1", True),
        ("amd.com/gpu=0xe3aa140f9a5f9e31", True),
    ]
    for whole in ("0x84cafeae17e7696", "0000:05:00.0"):
        assert room.resolve([whole], devices) == devices[:2]
    assert room.resolve(["0x84cafeae17e7696:1", "2"], devices) == (devices[1], devices[2])
    assert room.resolve(["all"], devices) == devices[:3]


def test_memory_place_and_links(machine):
    machine.pci("0000:05:00.0", "amdgpu", numa_node="1", product_name="AMD Instinct MI300X OAM")
    machine.amd(1, render=128, location=0x0500, gfx_target_version=90402)
    machine.amd(2, render=129, location=0x0501, gfx_target_version=90402)
    machine.amd(3, render=130, location=0x1500, gfx_target_version=90010)
    properties(machine.nodes / "1/mem_banks/0/properties", heap_type=1, size_in_bytes=64 * GIB)
    properties(machine.nodes / "1/mem_banks/1/properties", heap_type=0, size_in_bytes=512 * GIB)
    for number, (kind, node) in enumerate([(2, 0), (11, 2), (11, 3)]):
        properties(machine.nodes / f"1/io_links/{number}/properties", type=kind, node_to=node)
    seen = vendors.seen(discovery.KIND, machine.config)
    assert seen
    first, _, third = vendors.of(discovery.KIND).devices(seen, machine.config)[:3]
    assert (first.memory, first.numa_node, first.peer_links) == (64 * GIB, 1, ((1, 2), (2, 1)))
    assert [device.product for device in seen.devices if device.name in {"0", "2"}] == [
        "AMD Instinct MI300X OAM",
        "gfx90a",
    ]
    assert (third.memory, third.numa_node) == (0, None)


def test_a_name_that_no_gpu_has_is_refused_with_those_that_there_are(machine):
    machine.amd(1, render=128, card=0, location=0x0300)
    request = Request(kind=discovery.KIND, devices=("7",), driver_capabilities=(), source="environment")
    room = vendors.of(discovery.KIND)
    snapshot = room.snapshot(request, machine.config)
    devices = room.devices(snapshot.inventory, machine.config)
    with pytest.raises(Exception, match=r"device '7' of amd.com/gpu: this host has no such device.* 0, 0000:03:00.0"):
        room.served(request, snapshot.inventory, devices)


def test_a_snapshot_is_fresh_until_the_gpus_change(machine):
    machine.amd(1, render=128, card=0, location=0x0300)
    properties(machine.nodes.parent / "generation_id")
    room = vendors.of(discovery.KIND)
    request = Request(kind=discovery.KIND, devices=("0",), driver_capabilities=(), source="environment")
    snapshot = room.snapshot(request, machine.config)
    assert room.is_fresh(snapshot, machine.config)
    machine.drm("devices/other", card=5, render=133)
    assert not room.is_fresh(snapshot, machine.config)


@pytest.mark.parametrize(
    ("facts", "memory", "standing"),
    [({}, 0, "card"), ({}, 16 * GIB, "card"), ({}, GIB // 2, "integrated"), ({"cpu_cores_count": 8}, 0, "integrated")],
)
def test_a_processors_own_gpu_is_no_card(machine, facts, memory, standing):
    machine.amd(1, render=128, card=0, location=0x0300, **facts)
    properties(machine.nodes / "1/mem_banks/0/properties", heap_type=1, size_in_bytes=memory)
    assert discovery.standing(machine.config) == standing
    assert presence.of_host(machine.config) == ("amd.com/gpu",)
    assert presence.meant_by_count(machine.config) == ("amd.com/gpu",)


@pytest.mark.parametrize("text", ["", "simd_count\n", "drm_render_minor x\nsimd_count 1\n", "\xff\n", "unique_id -1\n"])
def test_a_node_that_says_nothing_of_use_is_none(machine, text):
    path = machine.nodes / "1/properties"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert discovery.look(machine.config, detailed=True).devices == ()

"""The seam for vendors: rooms are found by kind, and no room that is not asked for is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

import oci_gpu_hook
from oci_gpu_hook.allocation import by_count, conflict, lease_table, queue, select, turns
from oci_gpu_hook.allocation.holders import Holder
from oci_gpu_hook.allocation.model import Lease, LeasedDevice, LeaseTable, Waiter, leased
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.model import Device
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.model import Gpu, MigDevice
from oci_gpu_hook.request import qualified_name
from oci_gpu_hook.request import vendors as words
from oci_gpu_hook.request.model import DEFAULT_KIND, Request

HOME = os.path.dirname(os.path.dirname(oci_gpu_hook.__file__))
HOLDER = Holder(pid=1, start_time=2, boot_id="x", pid_namespace=3)
OTHER = "example.com/npu"


def other(index, **fields):
    return Device(kind=OTHER, name=str(index), uuid=f"NPU-{index}", index=index, label=f"NPU {index}", **fields)


def lease(*devices, exclusive=False):
    return Lease(container="a", devices=devices, exclusive=exclusive, holder=HOLDER, since="")


def request(*devices, **fields):
    return Request(devices=devices, driver_capabilities=(), source="environment", **fields)


def test_a_kind_without_a_room_is_what_cdi_specifications_make_of_it():
    assert vendors.of(OTHER).TERMS.whole == "example.com/npu device"
    with pytest.raises(InvalidInput, match=r"CDI device 'example.com/npu=0'.*is in no specification"):
        vendors.of(OTHER).resolve(["0"], ())


def test_the_kind_of_a_device_on_record():
    assert vendors.kind_of("GPU-0123") == DEFAULT_KIND
    assert vendors.kind_of(f"{OTHER}=a:b.c") == OTHER
    assert vendors.kind_of("MIG-GPU-1/2/3") == DEFAULT_KIND


def test_every_kind_that_can_be_asked_for_has_a_room():
    for kind in words.KINDS:
        assert vendors.of(kind).TERMS.whole
        asked = words.of(kind).read_list("environment", "X", ["all"], [])
        assert asked
        assert asked.kind == kind
        assert qualified_name.kind_of(kind.partition("/")[0]) == kind
    assert DEFAULT_KIND == of_nvidia.KIND


@pytest.mark.parametrize(
    ("vendor", "kind"),
    [("nvidia.com", DEFAULT_KIND), ("k8s.device-plugin.nvidia.com", DEFAULT_KIND), ("notnvidia.com", ""), ("com", "")],
)
def test_whose_cdi_names_are_served(vendor, kind):
    assert qualified_name.kind_of(vendor) == kind


def test_no_room_is_imported_before_it_is_asked_for():
    lines = (
        f"import sys; sys.path.append({HOME!r})\n"
        "import oci_gpu_hook.lifecycle.start, oci_gpu_hook.plan.plan, oci_gpu_hook.request.parse\n"
        "print(*(name for name in sys.modules if name.startswith('oci_gpu_hook') and 'nvidia' in name))"
    )
    found = subprocess.run([sys.executable, "-S", "-c", lines], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_what_the_gpus_of_a_host_are_as_devices():
    mig = MigDevice(index=1, uuid="MIG-1", gpu_instance=7, compute_instance=0, profile="1g.10gb", memory=10,
                    gpu_instance_minor=3, compute_instance_minor=4)  # fmt: skip
    plain = Gpu(index=0, uuid="GPU-0", minor=4, bus_id="00000000:01:00.0", memory=80, numa_node=1, links=((1, 2),))
    divided = Gpu(index=1, uuid="GPU-1", minor=5, bus_id="00000000:02:00.0", mig_enabled=True, mig_devices=(mig,))
    first, second, part = of_nvidia.of((plain, divided))
    assert (first.label, first.name, first.memory, first.numa_node, first.peer_links) == (
        "GPU 0",
        "0",
        80,
        1,
        ((1, 2),),
    )
    assert (first.countable, second.countable, part.countable) == (True, False, False)
    assert (second.parts, part.whole, part.position) == (("MIG-1",), "GPU-1", (1, 1))
    assert (part.label, part.name, part.profile, part.memory) == ("MIG 1:1", "1:1", "1g.10gb", 10)
    assert vendors.of(part.kind).of_minors((first, second, part), {5}) == (second, part)
    assert Device(**first.__dict__) == first, "every field is there, though no constructor has looked"


def test_equal_uuids_of_two_kinds_are_two_devices():
    gpu = Device(kind=DEFAULT_KIND, name="0", uuid="0", index=0, label="GPU 0")
    npu = Device(**{**gpu.__dict__, "kind": OTHER})
    held = [lease(leased(gpu, request("0")), exclusive=True)]
    assert conflict.holders(gpu, held) == held
    assert conflict.holders(npu, held) == []
    assert by_count.available([gpu, npu], request("0", kind=OTHER), held) == [npu]


def test_devices_of_any_kind_are_counted():
    devices = [other(0), other(1, memory=5), other(2, countable=False)]
    held = [lease(leased(devices[0], request("0")), exclusive=True)]
    assert select.choose(request(count=1, kind=OTHER), devices, held) == (devices[1],)


def test_who_waits_for_another_kind_keeps_nothing_of_this():
    waiting = Waiter(ticket=1, container="w", holder=HOLDER, request=request(count=1, exclusive=True), since="")
    assert turns.kept([waiting], OTHER, [other(0)], [], 0) == ()


def test_a_record_names_the_kind_of_devices_that_are_not_nvidias():
    one = lease(LeasedDevice(whole="GPU-0"), LeasedDevice(whole="NPU-0", part="NPU-0/1", kind=OTHER))
    waiting = Waiter(
        ticket=1, container="w", holder=HOLDER, since="",
        request=Request(kind=OTHER, devices=("all",), driver_capabilities=(), source="queue"),
    )  # fmt: skip
    table = LeaseTable(leases=(one,), queue=(waiting,), next_ticket=2)
    document: Any = lease_table.to_json(table)
    assert document["leases"][0]["devices"] == [
        {"gpu": "GPU-0", "mig": ""},
        {"gpu": "NPU-0", "mig": "NPU-0/1", "kind": OTHER},
    ]
    assert lease_table.from_json(document) == (table, [])


@pytest.mark.parametrize("kind", [1, None, ["x"]])
def test_a_kind_that_is_no_text_is_complained_of(kind):
    table: Any = lease_table.to_json(LeaseTable(leases=(lease(LeasedDevice(whole="GPU-0")),)))
    table["leases"][0]["devices"][0]["kind"] = kind
    found, complaints = lease_table.from_json(table)
    assert (found.leases, len(complaints)) == ((), 1)
    complaints = []
    entry = queue.to_json(Waiter(ticket=1, container="w", holder=HOLDER, request=request("0"), since=""))
    assert queue.from_json([entry | {"kind": kind}], complaints) == ()
    assert len(complaints) == 1

"""What a refusal says: the truth about what there is, and a remedy in the words of who asked."""

from __future__ import annotations

import time

import pytest

from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.allocation import messages, select, share_messages
from oci_gpu_hook.allocation.holders import Holder
from oci_gpu_hook.allocation.model import Busy, Lease, LeasedDevice
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import AllocationError
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.model import Device
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.model import Gpu
from oci_gpu_hook.oci.container import Container
from oci_gpu_hook.request.model import IN_THE_BUNDLE, Request

GIB = 1 << 30
HOLDER = Holder(pid=1, start_time=1, boot_id="b", pid_namespace=1)


def host(*sizes):
    return of_nvidia.of(
        Gpu(index=i, uuid=f"GPU-{i}", minor=i, bus_id=f"00000000:0{i}:00.0", memory=size)
        for i, size in enumerate(sizes)
    )


def request(devices=(), source="environment", **fields):
    return Request(devices=devices, driver_capabilities=(), source=source, **fields)


def lease(container, uuid):
    return Lease(container=container, devices=(LeasedDevice(whole=uuid),), exclusive=True, holder=HOLDER, since="")


@pytest.mark.parametrize("source", ["environment", IN_THE_BUNDLE])
@pytest.mark.parametrize(
    ("fields", "another"),
    [
        ({"kind": "nvidia.com/gpu"}, "another GPU"),
        ({"kind": "nvidia.com/gpu", "whole": "GPU-0", "part": 0}, "another MIG device"),
        ({"kind": "amd.com/gpu"}, "another amd.com/gpu device"),
        ({"kind": "vendor.com/nic"}, "another vendor.com/nic device"),
    ],
)
def test_another_device_is_one_of_the_same_kind(source, fields, another):
    device = Device(name="0", uuid="U", index=0, label="U", **fields)
    for said in (messages.held, share_messages.no_room):
        if said is share_messages.no_room:
            busy = said(device, request(("0",), source=source, cores=10), [lease("a", "U")])
        else:
            busy = said(device, request(("0",), source=source, kind=fields["kind"]), lease("a", "U"))
        assert another in busy.remedy
        assert ("GPU" in busy.remedy.replace("OCI_GPU_WAIT", "")) == ("GPU" in another)


@pytest.mark.parametrize(
    ("uuids", "called"),
    [
        (("GPU-1", "MIG-2"), "GPUs"),
        (("GPU-1", "amd.com/gpu=0"), "GPUs"),
        (("vendor.com/nic=eth7",), "devices"),
        (("GPU-1", "vendor.com/nic=eth7"), "devices"),
    ],
)
def test_devices_on_record_are_called_what_they_are(uuids, called):
    assert vendors.called(uuids) == called


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("environment", "OCI_GPU_WAIT=60s"),
        ("legacy-image", "OCI_GPU_WAIT=60s"),
        ("swarm", "OCI_GPU_WAIT=60s"),
        ("annotations", "io.oci-gpu-hook.wait=60s"),
        ("mounts", "io.oci-gpu-hook.wait=60s"),
    ],
)
def test_the_remedy_is_in_the_words_of_who_asked(source, name):
    held = [lease("a", "GPU-0")]
    with pytest.raises(Busy) as by_count:
        select.choose(request(count=1, source=source), host(1), held)
    assert by_count.value.why == "0 of 1 available; GPU 0 held by 'a' exclusively"
    assert by_count.value.remedy == f"try again when they are free, or wait for them with {name}"
    with pytest.raises(Busy) as by_name:
        select.choose(request(("0",), source=source), host(1), held)
    assert by_name.value.remedy.endswith(f"wait for it with {name}")


@pytest.mark.parametrize(
    ("sizes", "least", "why", "remedy"),
    [
        (
            (24 * GIB, 80 * GIB),
            100,
            "0 of that size among its 2, the largest is GPU 1 with 80GiB",
            "OCI_GPU_MEMORY to at most 80GiB",
        ),
        (
            (24 * GIB + 7,),
            25,
            "0 of that size among its 1, the largest is GPU 0 with 24576MiB",
            "OCI_GPU_MEMORY to at most 24576MiB",
        ),
        ((0, 24 * GIB), 80, "(the memory of 1 is unknown), the largest is GPU 1", "to at most 24GiB"),
        ((0,), 80, "0 of that size among its 1 (the memory of 1 is unknown)", "another host"),
        ((), 80, "0 of that size among its 0", "another host"),
    ],
)
def test_memory_that_no_gpu_has_is_answered_with_the_largest(sizes, least, why, remedy):
    with pytest.raises(AllocationError) as caught:
        select.choose(request(count=1, memory=least * GIB), host(*sizes), [])
    assert not isinstance(caught.value, Busy)
    assert why in caught.value.why
    assert remedy in caught.value.remedy


def test_what_the_remedy_for_memory_says_is_served():
    devices = host(24 * GIB + 7)
    assert select.choose(request(count=1, memory=24576 << 20), devices, []) == devices


def test_many_holders_are_not_all_named():
    held = [lease(f"c{number}", f"GPU-{number}") for number in range(12)]
    with pytest.raises(Busy, match=r"GPU 7 held by 'c7' exclusively, and 4 more; try"):
        select.choose(request(count=1), host(*[GIB] * 12), held)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h")]
)
def test_times_are_in_words(seconds, words):
    assert messages.duration(seconds) == words


@pytest.mark.parametrize(
    ("longest", "remedy"),
    [(None, "or wait longer"), (5, "or wait longer"), (1, "[allocation] longest-wait of this host allows no longer")],
)
def test_a_refusal_after_a_wait_says_how_long_it_was(tmp_path, longest, remedy):
    config = Config(state_dir=str(tmp_path / "state"), allocation_longest_wait=longest)
    story.allocate(request(count=1, exclusive=True), host(GIB), bundle("a"), config)
    begin = time.monotonic()
    with pytest.raises(Busy) as caught:
        story.allocate(request(count=1, wait=1), host(GIB), bundle("b"), config)
    assert 1 <= time.monotonic() - begin < 5
    assert caught.value.why == "0 of 1 available; GPU 0 held by 'a' exclusively; waited 1 s"
    assert remedy in caught.value.remedy
    assert "OCI_GPU_WAIT" not in caught.value.remedy


def bundle(name):
    return Container(
        id=name, pid=0, bundle="/bundle", rootfs="/bundle/rootfs", root_readonly=False, env=(), mounts=(),
        annotations={}, privileged=False, uid=0, gid=0, namespaces=(), uid_mappings=(), gid_mappings=(),
        cgroups_path="", device_rules=(),
    )  # fmt: skip

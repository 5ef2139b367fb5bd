"""Who gets which device: names as NVIDIA reads them, counts by balance, memory and topology."""

from __future__ import annotations

import pytest

from oci_gpu_hook.allocation import select, turns
from oci_gpu_hook.allocation.model import Busy, Lease, LeasedDevice, Waiter
from oci_gpu_hook.base.errors import AllocationError, InvalidInput
from oci_gpu_hook.devices.nvidia import names
from oci_gpu_hook.devices.nvidia.for_request import needs_details
from tests.unit.allocation.gpus import (
    GIB,
    HOLDER,
    gpu,
    host,
    indices,
    inventory,
    lease,
    mig_gpu,
    mig_uuid,
    plain,
    request,
    uuid,
)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("0", 0),
        ("1", 1),
        ("01", 1),
        (uuid(1), 1),
        (uuid(1).upper(), 1),
        (uuid(1).lower(), 1),
        ("00000000:07:00.0", 1),
        ("0000:07:00.0", 1),
        ("0:7:0.0", 1),
        ("0000:07:00", 1),
        ("0000:0A:00.0", 4),
    ],
)
def test_a_gpu_is_named_by_index_uuid_or_bus_id(name, index):
    assert indices(names.resolve((name,), plain(5))) == [index]


@pytest.mark.parametrize(
    "name",
    [
        "2",
        "-1",
        "+0",
        "0x0",
        "\u0660",  # ARABIC-INDIC DIGIT ZERO, a digit to str.isdigit
        "9" * 5000,
        uuid(0)[:-1],
        "GPU-",
        "MIG-",
        "0-1",
        "*",
        "../0",
        "07:00.0",
        "0000:07:00.1",
        "000000000:07:00.0",
        "0:0",
        "none",
        "nvidia0",
        "\x1b[31m",
    ],
)
def test_an_unknown_device_is_refused_by_name_and_with_what_exists(name):
    with pytest.raises(InvalidInput) as caught:
        names.resolve(("0", name), plain(2))
    line = str(caught.value)
    assert repr(name)[:50] in line
    assert f"GPU 0 ({uuid(0)}), GPU 1 ({uuid(1)})" in line
    assert line.isprintable()


def test_a_mistyped_uuid_is_answered_with_the_nearest():
    with pytest.raises(InvalidInput, match=f"did you mean {uuid(1)}"):
        names.resolve((uuid(1).replace("aaaa", "aaba"),), plain(2))


def test_a_host_without_gpus_says_so():
    with pytest.raises(InvalidInput, match="this host has no GPU"):
        names.resolve(("0",), host())
    assert names.resolve(("all",), host()) == ()


def test_repetitions_and_the_blanks_that_nvidia_makes_of_them_count_once():
    assert indices(names.resolve(("", "1", uuid(1), "0", "00000000:07:00.0"), plain(2))) == [1, 0]


MIXED = host(gpu(0), mig_gpu(1, "1g.10gb", "1g.10gb", "3g.40gb"), mig_gpu(2), mig_gpu(3, "1g.10gb"))


@pytest.mark.parametrize(
    "name",
    [mig_uuid(1, 2), mig_uuid(1, 2).upper(), f"MIG-{uuid(1)}/9/0", "1:2"],
)
def test_a_mig_device_is_named_by_uuid_parent_or_indices(name):
    (device,) = names.resolve((name,), MIXED)
    assert (device.index, device.part, device.uuid) == (1, 2, mig_uuid(1, 2))


@pytest.mark.parametrize("word", ["all", "ALL"])
def test_all_means_gpus_and_in_mig_mode_their_mig_devices(word):
    devices = names.resolve(("0", word), MIXED)
    found = [(device.index, device.part) for device in devices]
    assert found == [(0, -1), (1, 0), (1, 1), (1, 2), (2, -1), (3, 0)]


def test_a_profile_without_a_count_is_answered_with_how_to_count():
    with pytest.raises(InvalidInput, match=r"set io.oci-gpu-hook.count"):
        names.resolve(("1g.10gb",), MIXED)


@pytest.mark.parametrize(
    ("held", "count", "expected"),
    [
        ([], 1, [0]),
        ([], 3, [0, 1, 2]),
        ([("a", 0)], 1, [1]),
        ([("a", 0), ("b", 1), ("c", 2)], 2, [0, 3]),
        ([("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 0), ("f", 2)], 2, [1, 3]),
        ([("a", 0), ("b", 1), ("c", 2), ("d", 3)], 4, [0, 1, 2, 3]),
    ],
)
def test_shared_counts_go_where_the_fewest_holders_are(held, count, expected):
    leases = [lease(name, uuid(index)) for name, index in held]
    assert indices(select.choose(request(count=count), plain(4), leases)) == expected


def test_exclusive_counts_get_only_what_nobody_holds():
    leases = [lease("a", uuid(0)), lease("b", uuid(2), exclusive=True)]
    assert indices(select.choose(request(count=2, exclusive=True), plain(4), leases)) == [1, 3]
    assert indices(select.choose(request(count=3), plain(4), leases)) == [0, 1, 3]


def test_too_busy_says_how_many_are_free_and_who_holds_the_others():
    leases = [lease("trainer", uuid(0), exclusive=True), lease("notebook", uuid(1))]
    with pytest.raises(Busy) as caught:
        select.choose(request(count=2, exclusive=True), plain(3), leases)
    assert str(caught.value).startswith(
        "2 GPUs asked for exclusively: 1 of 3 available; "
        "GPU 0 held by 'trainer' exclusively, GPU 1 held by 'notebook'; "
    )


def test_more_than_the_host_has_is_no_matter_of_waiting():
    with pytest.raises(AllocationError) as caught:
        select.choose(request(count=3), plain(2), [lease("a", uuid(0), exclusive=True)])
    assert not isinstance(caught.value, Busy)
    assert str(caught.value) == (
        "3 GPUs asked for: this host has 2; 1 available; GPU 0 held by 'a' exclusively; ask for at most 2"
    )


def test_least_memory_is_the_memory_of_each():
    mixed = host(gpu(0, memory=24 * GIB), gpu(1, memory=80 * GIB), gpu(2, memory=40 * GIB), gpu(3, memory=0))
    assert indices(select.choose(request(count=2, memory=40 * GIB), mixed, [])) == [1, 2]
    with pytest.raises(
        AllocationError, match=r"3 GPUs of 40GiB asked for: this host has 2 of that size among its 4 \(the memory of 1"
    ):
        select.choose(request(count=3, memory=40 * GIB), mixed, [])


def test_gpus_in_mig_mode_are_not_counted_as_gpus():
    with pytest.raises(AllocationError, match=r"this host has 1, and 3 in MIG mode"):
        select.choose(request(count=2), MIXED, [])


def test_mig_devices_are_counted_by_profile():
    held = [lease("a", mig_uuid(1, 0))]
    chosen = select.choose(request("1G.10GB", count=2), MIXED, held)
    assert [device.uuid for device in chosen] == [mig_uuid(1, 1), mig_uuid(3, 0)]
    with pytest.raises(Busy, match=r"3 MIG devices 1g.10gb asked for exclusively: 2 of 3 .* MIG 1:0 held by 'a'"):
        select.choose(request("1g.10gb", count=3, exclusive=True), MIXED, held)
    with pytest.raises(InvalidInput, match=r"this host has MIG devices of 1g.10gb, 3g.40gb"):
        select.choose(request("2g.20gb", count=1), MIXED, held)
    with pytest.raises(InvalidInput, match="no MIG device"):
        select.choose(request("2g.20gb", count=1), plain(1), held)


def test_a_named_gpu_that_is_held_exclusively_is_refused_with_its_holder():
    with pytest.raises(Busy, match=rf"GPU 1 \({uuid(1)}\) cannot be granted: container 'trainer' holds it"):
        select.choose(request("0", "1"), plain(2), [lease("trainer", uuid(1), exclusive=True)])


def test_a_named_gpu_that_is_shared_can_be_shared_but_not_taken_alone():
    leases = [lease("notebook", uuid(1))]
    assert indices(select.choose(request("1"), plain(2), leases)) == [1]
    with pytest.raises(Busy, match="'notebook' holds it too"):
        select.choose(request("1", exclusive=True), plain(2), leases)


def test_a_mig_device_and_its_gpu_are_in_each_others_way_but_not_its_sister():
    parent = LeasedDevice(whole=uuid(1), part=mig_uuid(1, 0))
    held = [Lease(container="a", devices=(parent,), exclusive=True, holder=HOLDER, since="")]
    assert select.choose(request("1:1", exclusive=True), MIXED, held)
    for name in ("1:0", "1", "all"):
        with pytest.raises(Busy):
            select.choose(request(name), MIXED, held)
    with pytest.raises(Busy):
        select.choose(request("1:1"), MIXED, [lease("b", uuid(1), exclusive=True)])


def test_a_lease_of_a_vanished_gpu_is_nobodys_obstacle():
    gone = lease("a", "GPU-ffffffff-0000-0000-0000-000000000000", mig_uuid(9, 9), exclusive=True)
    assert indices(select.choose(request(count=2, exclusive=True), plain(2), [gone])) == [0, 1]


def waiter(ticket, container, wish):
    return Waiter(ticket=ticket, container=container, holder=HOLDER, request=wish, since="")


def test_those_who_wait_keep_what_is_free_of_what_they_need():
    held = [lease("a", uuid(0), exclusive=True)]
    kept = turns.kept([waiter(1, "big", request(count=4, exclusive=True))], "nvidia.com/gpu", plain(4), held, 0)
    assert [device.whole for device in kept[0].devices] == [uuid(1), uuid(2), uuid(3), uuid(0)]
    with pytest.raises(Busy, match="kept for 'big'"):
        select.choose(request(count=1, exclusive=True), plain(4), [*held, *kept])


def test_new_sharers_do_not_come_as_fast_as_old_ones_go():
    """Two GPUs, both shared: who waits for one alone gets the one that fewer share, and nobody new joins there."""
    held = [lease("a", uuid(0)), lease("b", uuid(0)), lease("c", uuid(1))]
    kept = turns.kept([waiter(1, "alone", request(count=1, exclusive=True))], "nvidia.com/gpu", plain(2), held, 0)
    assert indices(select.choose(request(count=1), plain(2), [*held, *kept])) == [0]
    later = turns.kept(
        [waiter(1, "alone", request(count=1, exclusive=True)), waiter(2, "next", request("1"))],
        "nvidia.com/gpu",
        plain(2),
        held,
        0,
    )
    assert [one.container for one in later] == ["alone"]


def test_those_who_wait_keep_no_more_than_they_need():
    kept = turns.kept([waiter(1, "one", request("2", exclusive=True, wait=5))], "nvidia.com/gpu", plain(4), [], 0)
    assert indices(select.choose(request(count=3, exclusive=True), plain(4), kept)) == [0, 1, 3]


def test_a_waiter_whose_device_vanished_keeps_nothing():
    assert turns.kept([waiter(1, "x", request("7", exclusive=True))], "nvidia.com/gpu", plain(2), [], 0) == ()


@pytest.mark.parametrize(
    ("wish", "needed"),
    [
        (request("0"), False),
        (request(uuid(0)), False),
        (request("0000:06:00.0"), False),
        (request("all"), False),
        (request(), False),
        (request(count=1), False),
        (request(count=2), True),
        (request(count=1, memory=1), True),
        (request("1g.10gb", count=1), True),
        (request("0:1"), True),
        (request("0", "mig-x"), True),
    ],
)
def test_nvml_is_asked_only_for_what_it_alone_knows(wish, needed):
    assert needs_details(wish) is needed
    assert needs_details(wish, inventory(gpu(0), gpu(1))) is needed


def test_all_of_a_host_in_mig_mode_needs_nvml_once():
    undetailed = inventory(gpu(0, mig_enabled=True), detailed=False)
    assert needs_details(request("all"), undetailed)
    assert not needs_details(request("0"), undetailed)
    assert not needs_details(request("all"), inventory(gpu(0, mig_enabled=True)))

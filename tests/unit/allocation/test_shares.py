"""Shares of GPUs: granted as long as they fit, beside what others hold, in turn, and on record."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.admin.cli import leases_json
from oci_gpu_hook.allocation import lease_table, query, rebuild, release, select
from oci_gpu_hook.allocation.model import Busy
from oci_gpu_hook.base.errors import AllocationError
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from tests.unit.allocation import gpus
from tests.unit.allocation.gpus import GIB
from tests.unit.allocation.leasing import grant, in_background, queue, recorded, request, until, uuid

SCHEMAS = Path(__file__).parents[3] / "schemas"
RESERVE = GIB
HOST = of_nvidia.of([gpus.gpu(index) for index in range(2)], reserve=RESERVE)  # 79 GiB of each for shares


def share(*names, memory=0, cores=0, **fields):
    return request(*names, memory_limit=memory * GIB, cores=cores, **fields)


def ask(config, container, *names, **fields):
    return grant(share(*names, **fields), container, config, HOST)


def test_shares_of_one_gpu_fit_to_the_last_byte(config, started):
    for name, memory, cores in (("a", 40, 50), ("b", 30, 25), ("c", 9, 25)):
        assert ask(config, started(name), "0", memory=memory, cores=cores) == [0]
    with pytest.raises(Busy) as refusal:
        grant(request("0", memory_limit=1 << 20), started("d"), config, HOST)
    said = str(refusal.value)
    assert said.startswith(f"1MiB of GPU 0 ({uuid(0)}): it has nothing left: 'a' has 40GiB and 50% of the cores, 'b' ")
    assert said.endswith("; ask for less, for another GPU, or wait for it with OCI_GPU_WAIT=60s")
    started.kill("c")
    with pytest.raises(Busy):
        grant(request("0", memory_limit=9 * GIB + 1), started("e"), config, HOST)
    assert ask(config, started("f"), "0", memory=9, cores=25) == [0]


@pytest.mark.parametrize(
    ("wish", "remedy"),
    [
        ({"memory": 60, "count": 1}, "ask for at most 39GiB, or"),
        ({"memory": 60, "cores": 10, "count": 1}, "ask for at most 39GiB and 50% of the cores, or"),
        ({"memory": 35, "count": 2}, "ask for at most 29GiB of each, or"),
        ({"cores": 80, "count": 1}, "ask for at most 75% of the cores, or"),
        ({"memory": 35, "cores": 80, "names": ("1",)}, "ask for at most 29GiB and 75% of the cores, for another GPU"),
    ],
)
def test_a_refusal_names_the_largest_part_that_is_free(config, started, wish, remedy):
    ask(config, started("a"), "0", memory=40, cores=50)
    ask(config, started("b"), "1", memory=50, cores=25)
    with pytest.raises(Busy) as refusal:
        ask(config, started("c"), *wish.pop("names", ()), **wish)
    assert remedy in str(refusal.value)
    if wish.get("count") == 1 and not wish.get("cores"):
        assert ask(config, started("d"), memory=39, count=1) == [0], "and that is granted"


def test_beside_an_exclusive_holder_nothing_is_offered(config, started):
    assert grant(request("0", exclusive=True), started("a"), config, HOST) == [0]
    assert grant(request("1", exclusive=True), started("b"), config, HOST) == [1]
    with pytest.raises(Busy, match="ask for less, or wait"):
        ask(config, started("c"), memory=8, count=1)


def test_where_all_are_in_mig_mode_that_is_said(config, started):
    host = of_nvidia.of([gpus.mig_gpu(0, "3g.40gb")], reserve=RESERVE)
    with pytest.raises(
        AllocationError, match="has none to share, but 1 in MIG mode, which are granted by MIG profile; "
    ):
        grant(share(memory=8, count=1), started("a"), config, host)


def test_cores_and_memory_are_counted_apart(config, started):
    assert ask(config, started("a"), "0", cores=60) == [0]
    assert ask(config, started("b"), "0", memory=79) == [0]
    with pytest.raises(Busy, match="has no memory and 40% of the cores left"):
        ask(config, started("c"), "0", cores=41)
    assert ask(config, started("d"), "0", cores=40) == [0]


def test_more_than_a_gpu_has_is_never_waited_for(config, started):
    for wish in (share("0", memory=80, wait=60), share(memory=80, count=1, wait=60)):
        with pytest.raises(AllocationError) as refusal:
            grant(wish, started("a"), config, HOST)
        assert not isinstance(refusal.value, Busy)
        assert "containers can have 79GiB of its 80GiB ([sharing] reserve keeps the rest)" in str(refusal.value)
        assert "set OCI_GPU_MEMORY_LIMIT to at most 79GiB" in str(refusal.value)
    with pytest.raises(AllocationError, match="ask for at most 2"):
        grant(share(memory=8, count=3), started("a"), config, HOST)
    unknown = of_nvidia.of([gpus.gpu(0, memory=0)], reserve=RESERVE)
    with pytest.raises(AllocationError, match="how much memory it has is not known here"):
        grant(share("0", memory=8), started("a"), config, unknown)


def test_exclusive_holders_and_shares_exclude_each_other(config, started):
    assert ask(config, started("a"), memory=8, count=1) == [0]
    with pytest.raises(Busy):
        grant(request("0", exclusive=True), started("b"), config, HOST)
    assert grant(request(count=1, exclusive=True), started("c"), config, HOST) == [1]
    with pytest.raises(Busy, match="'c' has it exclusively"):
        ask(config, started("d"), memory=8, count=2)
    with pytest.raises(Busy, match="'c' holds it exclusively"):
        ask(config, started("e"), "1", memory=8)


def test_whole_gpus_are_still_shared_by_name_and_shares_avoid_them(config, started):
    assert ask(config, started("a"), memory=8, count=1) == [0]
    assert grant(request("0"), started("plain"), config, HOST) == [0]
    assert ask(config, started("b"), memory=8, count=1) == [1], "nobody there is without limits"
    assert ask(config, started("c"), "0", memory=8) == [0]


def test_the_fullest_gpu_comes_first_or_the_emptiest(config, started):
    assert ask(config, started("a"), "1", memory=8) == [1]
    for name in ("b", "c"):
        assert ask(config, started(name), memory=8, count=1) == [1]
    assert ask(config, started("d"), memory=60, count=1) == [0]
    assert ask(config, started("e"), memory=16, count=1) == [0], "three GiB are left there, 39 on the other"
    spread = config.replace(allocation_placement="spread")
    assert grant(share(memory=1, count=1), started("f"), spread, HOST) == [1]
    assert ask(config, started("g"), memory=1, count=2) == [0, 1], "of each of two"


def test_under_the_exclusive_policy_shares_are_shared_among_themselves(config, started):
    config = config.replace(allocation_policy="exclusive")
    assert ask(config, started("a"), "0", memory=8) == [0]
    assert ask(config, started("b"), "0", memory=8) == [0]
    with pytest.raises(Busy):
        grant(request("0"), started("c"), config, HOST)


def test_a_container_that_is_granted_twice_keeps_its_share(config, started):
    container = started("a")
    for _ in range(2):
        assert ask(config, container, memory=60, count=1) == [0]
    assert len(query.current(config).leases) == 1
    with pytest.raises(Busy):
        ask(config, started("b"), memory=60, count=2)
    assert release.release_by_hand("a", config, force=True)
    assert ask(config, started("c"), memory=60, count=2) == [0, 1]


def test_who_waits_for_a_share_is_served_when_it_fits_and_not_overtaken(config, started):
    ask(config, started("a"), "0", memory=60)
    ask(config, started("b"), "1", memory=60)
    results: list[tuple[str, list[int] | str]] = []
    thread = in_background(results, "big", share(memory=70, count=1, wait=20), started("big"), config, HOST)
    until(lambda: queue(config) == ["big"])
    (waiting,) = query.current(config).queue
    assert (waiting.request.memory_limit, waiting.request.count) == (70 * GIB, 1)
    with pytest.raises(Busy, match="'big' has waited"):
        ask(config, started("small"), memory=15, count=2)
    assert ask(config, started("other"), memory=15, count=1) == [1], "big needs one GPU, not both"
    started.kill("a")
    thread.join()
    assert results == [("big", [0])]


def test_the_record_has_the_sizes_and_old_records_are_read(config, started):
    ask(config, started("a"), memory=8, cores=25, count=2)
    record = recorded(config)
    jsonschema.validate(record, json.loads((SCHEMAS / "lease-record.schema.json").read_text()))
    assert [(each["memory"], each["cores"]) for each in record["leases"][0]["devices"]] == [(8 * GIB, 25)] * 2
    table = query.current(config)
    listed = leases_json.of_leases(config)
    jsonschema.validate(listed, json.loads((SCHEMAS / "leases.schema.json").read_text()))
    assert listed[0]["shares"] == {uuid(index): {"memory": 8 * GIB, "cores": 25} for index in range(2)}
    for device in record["leases"][0]["devices"]:
        del device["memory"], device["cores"]
    table, complaints = lease_table.from_json(record)
    assert complaints == []
    assert [device.is_share for device in table.leases[0].devices] == [False, False]


@pytest.mark.parametrize("damage", [{"memory": -1}, {"memory": "8GiB"}, {"cores": None}, {"memory": 1 << 63}])
def test_a_damaged_size_makes_the_lease_unreadable(config, started, damage):
    ask(config, started("a"), memory=8, cores=25, count=1)
    record = recorded(config)
    record["leases"][0]["devices"][0] |= damage
    table, complaints = lease_table.from_json(record)
    assert table.leases == ()
    assert len(complaints) == 1


def test_a_lost_record_is_made_anew_with_the_sizes(config, started):
    container = started("a")
    ask(config, container, memory=60, cores=25, count=1)
    (lease,) = query.current(config).leases
    journals = os.path.join(config.state_dir, "containers")
    os.mkdir(journals, 0o700)
    entry = {
        "id": "a", "pid": container.pid, "startTime": lease.holder.start_time, "gpus": [uuid(0), uuid(1)],
        "attached": [uuid(1)], "share": {"memory": 60 * GIB, "cores": 25},
    }  # fmt: skip
    with open(os.path.join(journals, "a.json"), "w") as file:
        json.dump(entry, file)
    os.unlink(os.path.join(config.state_dir, "leases.json"))
    (again,) = query.current(config).leases
    assert [(each.uuid, each.memory, each.cores) for each in again.devices] == [
        (uuid(0), 60 * GIB, 25),
        (uuid(1), 0, 0),
    ]
    assert rebuild.from_journal(entry | {"share": None}, "", 0).devices[0].memory == 0
    with pytest.raises(Busy):
        ask(config, started("b"), "0", memory=20)


def test_a_mig_device_has_shares_of_its_own(config, started):
    host = of_nvidia.of([gpus.mig_gpu(0, "3g.40gb", "3g.40gb")], reserve=RESERVE)
    assert grant(share("0:0", memory=30), started("a"), config, host) == [0]
    assert grant(share("0:1", memory=39), started("b"), config, host) == [0]
    with pytest.raises(Busy):
        grant(share("0:0", memory=10), started("c"), config, host)


def test_the_choice_depends_on_nothing_else():
    held = [gpus.lease("x", uuid(1))]
    assert gpus.indices(select.choose(share(memory=8, count=1), HOST, held)) == [0]

"""The record of leases: granted, kept, released; with real processes as the containers."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.allocation import query, release, store
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import AllocationError, InvalidInput
from tests.unit.allocation.leasing import HOST, bundle, edit, grant, holders, host, recorded, request, uuid


def test_containers_by_count_get_different_gpus(config, started):
    assert grant(request(count=2), started("a"), config) == [0, 1]
    assert grant(request(count=2), started("b"), config) == [2, 3]
    assert holders(config) == {"a": [uuid(0), uuid(1)], "b": [uuid(2), uuid(3)]}


def test_a_container_granted_twice_gets_the_same(config, started, events):
    a = started("a")
    grant(request(count=1), started("other"), config)
    first = grant(request(count=2, exclusive=True), a, config)
    since = query.current(config).leases[-1].since
    assert grant(request(count=2, exclusive=True), a, config) == first == [1, 2]
    assert grant(request(*[uuid(i) for i in first]), a, config) == first
    assert [lease.since for lease in query.current(config).leases if lease.container == "a"] == [since]
    assert query.current(config).leases[-1].exclusive, "asking again by name must not soften the lease"
    assert [event for event, _ in events] == ["granted", "granted"]


def test_what_a_runtime_was_granted_before_there_was_a_container_is_the_containers(config, started):
    before = grant(request(count=2), bundle("a", 0), config)
    assert recorded(config)["leases"][0]["pid"] == os.getpid()
    assert recorded(config)["leases"][0]["starting"] is True
    grant(request(count=1), started("b"), config)
    a = started("a")
    assert grant(request(count=2), a, config) == before
    assert [(lease["container"], lease["pid"], lease["starting"]) for lease in recorded(config)["leases"]] == [
        ("b", started.processes["b"].pid, False),
        ("a", a.pid, False),
    ]


def test_two_living_containers_of_one_name_are_two(config, started):
    """Each --root of runc is a name space of its own."""
    one = started("same")
    first = grant(request(count=1, exclusive=True), one, config)
    other = bundle("same", started("other").pid)
    assert grant(request(count=1, exclusive=True), other, config) != first
    assert len(recorded(config)["leases"]) == 2
    started.kill("other")
    assert release.release("same", config)
    assert [lease["pid"] for lease in recorded(config)["leases"]] == [one.pid]


def test_a_container_that_asks_anew_for_others_gets_others(config, started):
    a = started("a")
    grant(request("0"), a, config)
    assert grant(request("2", "3"), a, config) == [2, 3]
    assert holders(config) == {"a": [uuid(2), uuid(3)]}


def test_none_takes_no_lease(config, started):
    assert story.allocate(request(), HOST, started("a"), config) == ()
    assert not os.path.exists(config.state_dir)


def test_the_dead_hold_nothing(config, started, events):
    grant(request(count=4, exclusive=True), started("a"), config)
    with pytest.raises(AllocationError, match="'a' exclusively"):
        grant(request(count=1), started("b"), config)
    started.kill("a")
    assert grant(request(count=1), started("b"), config) == [0]
    gpus = [uuid(i) for i in range(4)]
    assert ("released", {"container": "a", "gpus": gpus, "exclusive": True, "reason": "holder is gone"}) in events


def test_among_many_leases_a_plain_request_drops_the_dead_that_matter_and_some_others(config, started):
    for number in range(store.JUDGED * 2):
        grant(request("0"), started(f"shared{number}"), config)
    grant(request("1", exclusive=True), started("alone"), config)
    started("gone")
    grant(request("0"), bundle("gone", started.processes["gone"].pid), config)
    edit(config, lambda lease: lease.update(startTime=lease["startTime"] - 1))  # other processes have their pids by now
    started.kill("gone")
    assert grant(request("1"), started("b"), config) == [1], "nobody is kept from a GPU by the dead"
    left = [lease["container"] for lease in recorded(config)["leases"]]
    assert len(left) == store.JUDGED + 1
    assert not {"alone", "gone"} & set(left)
    assert holders(config) == {"b": [uuid(1)]}
    grant(request("2"), started("c"), config)
    assert {lease["container"] for lease in recorded(config)["leases"]} == {"b", "c"}, "all have their turn"


def test_the_living_stay_where_there_are_many(config, started):
    names = [f"c{number}" for number in range(store.JUDGED + 3)]
    for name in names:
        grant(request("0"), started(name), config)
    assert sorted(holders(config)) == sorted(names)
    with pytest.raises(AllocationError, match="holds it too"):
        grant(request("0", exclusive=True), started("alone"), config)


def test_poststop_releases_what_has_ended_and_nothing_that_lives(config, started):
    grant(request("0"), started("a"), config)
    assert not release.release("a", config)
    assert holders(config) == {"a": [uuid(0)]}
    started.kill("a")
    assert release.release("a", config)
    assert recorded(config)["leases"] == []
    assert not release.release("a", config)
    assert not release.release("never was", config)


def test_people_can_release_what_lives(config, started, events):
    grant(request("0"), started("a"), config)
    assert release.release_by_hand("a", config, force=True)
    assert holders(config) == {}
    assert events[-1][0] == "released"


def test_reconcile_drops_the_dead_and_names_them(config, started):
    grant(request("0"), started("a"), config)
    grant(request("1"), started("b"), config)
    started.kill("a")
    assert [lease.container for lease in release.reconcile(config)] == ["a"]
    assert [lease["container"] for lease in recorded(config)["leases"]] == ["b"]


def test_a_preview_shows_the_choice_and_records_nothing(config, started):
    assert [device.index for device in query.preview(request(count=1), HOST, config)] == [0]
    assert not os.path.exists(config.state_dir)
    grant(request("0"), started("a"), config)
    before = store.stamp_of(config.state_dir)
    assert [device.index for device in query.preview(request(count=1), HOST, config)] == [1]
    with pytest.raises(AllocationError):
        query.preview(request("0", exclusive=True), HOST, config)
    assert store.stamp_of(config.state_dir) == before


def test_the_policy_exclusive_refuses_every_held_gpu(config, started):
    strict = Config(state_dir=config.state_dir, allocation_policy="exclusive")
    grant(request("0"), started("a"), strict)
    with pytest.raises(AllocationError, match="container 'a' holds it exclusively"):
        grant(request("all"), started("b"), strict)
    assert grant(request(count=2), started("c"), strict) == [1, 2]


def test_a_refusal_is_logged_with_its_reason(config, started, events):
    with pytest.raises(InvalidInput):
        grant(request("9"), started("a"), config)
    assert events[0][0] == "refused"
    assert events[0][1]["container"] == "a"
    assert "unknown device '9'" in events[0][1]["reason"]


def test_a_gpu_that_fell_off_the_bus_breaks_only_its_own_container(config, started):
    a = started("a")
    grant(request("2"), a, config)
    assert grant(request(count=2, exclusive=True), started("b"), config, host(2)) == [0, 1]
    with pytest.raises(AllocationError, match=f"unknown device '{uuid(2)}'"):
        grant(request("2"), a, config, host(2))


def test_a_container_that_is_gone_gets_nothing(config, started):
    a = started("a")
    started.kill("a")
    with pytest.raises(AllocationError, match="its process is gone"):
        grant(request("0"), a, config)


def test_a_grant_that_came_to_nothing_is_taken_back_from_its_own_process_only(config, started):
    one, other = started("same"), bundle("same", started("other").pid)
    grant(request("0"), one, config)
    grant(request("1"), other, config)
    grant(request("2"), bundle("same", 0), config)
    assert release.withdraw("same", 0, config)
    assert [lease["pid"] for lease in recorded(config)["leases"]] == [one.pid, other.pid]
    assert release.withdraw("same", other.pid, config)
    assert not release.withdraw("same", other.pid, config)
    assert [lease["pid"] for lease in recorded(config)["leases"]] == [one.pid]

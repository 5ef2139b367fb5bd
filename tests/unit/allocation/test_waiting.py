"""Waiting for GPUs: in order, not for ever, and not for what can never be."""

from __future__ import annotations

import os
import signal
import time

import pytest

from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.allocation import release
from oci_gpu_hook.base.errors import AllocationError
from tests.unit.allocation.leasing import HOST, bundle, grant, in_background, queue, recorded, request, until


def test_waiting_ends_with_the_grant_and_keeps_the_order(config, started):
    grant(request(count=4, exclusive=True), started("a"), config)
    results: list[tuple[str, list[int] | str]] = []
    threads = []
    for name, count in (("large", 3), ("small", 1), ("last", 1)):
        threads.append(
            in_background(results, name, request(count=count, exclusive=True, wait=20), started(name), config)
        )
        until(lambda: queue(config)[-1:] == [name])  # noqa: B023
    assert queue(config) == ["large", "small", "last"]
    assert release.release_by_hand("a", config, force=True)
    until(lambda: len(results) == 2)
    assert sorted(results) == [("large", [0, 1, 2]), ("small", [3])]
    started.kill("large")
    threads[2].join()
    assert results[2] == ("last", [0])
    assert queue(config) == []


def test_nobody_overtakes_those_who_wait_but_others_are_not_held_up(config, started):
    grant(request("0", exclusive=True), started("a"), config)
    results: list[tuple[str, list[int] | str]] = []
    thread = in_background(results, "big", request(count=4, exclusive=True, wait=20), started("big"), config)
    until(lambda: queue(config) == ["big"])
    with pytest.raises(AllocationError, match="kept for 'big'"):
        grant(request(count=1, exclusive=True), started("b"), config)
    assert story.allocate(request(), HOST, started("none"), config) == ()
    assert grant(request("3"), started("plain"), config) == [3], "a plain name means what it means to NVIDIA"
    started.kill("plain")
    started.kill("a")
    thread.join()
    assert results == [("big", [0, 1, 2, 3])]


def test_when_time_is_up_the_place_is_given_back(config, started):
    grant(request("0", exclusive=True), started("a"), config)
    begin = time.monotonic()
    with pytest.raises(AllocationError, match="'a' holds it exclusively"):
        grant(request("0", wait=1), started("b"), config)
    assert 1 <= time.monotonic() - begin < 3
    assert queue(config) == []


def test_what_nobody_uses_is_given_back_before_the_wait(config, started):
    grant(request("0", exclusive=True), started("a"), config)
    begin = time.monotonic()
    freed = lambda config: release.release_by_hand("a", config, force=True)  # noqa: E731
    wish = request("0", exclusive=True, wait=30)
    assert [device.index for device in story.allocate(wish, HOST, started("b"), config, freed=freed)] == [0]
    assert time.monotonic() - begin < 1
    assert queue(config) == []


def test_who_finds_something_to_give_back_at_the_end_of_the_wait_waits_no_second_time(config, started):
    """The first look finds nothing; the last one something that does not help."""
    grant(request("0", exclusive=True), started("a"), config)
    finds = iter([False, True, False])
    begin = time.monotonic()
    with pytest.raises(AllocationError, match="holds it exclusively"):
        story.allocate(request("0", wait=1), HOST, started("b"), config, freed=lambda _config: next(finds))
    assert 1 <= time.monotonic() - begin < 1.9
    assert list(finds) == []
    assert queue(config) == []


def test_what_can_never_be_is_not_waited_for(config, started):
    begin = time.monotonic()
    with pytest.raises(AllocationError, match="this host has 4"):
        grant(request(count=5, wait=60), started("a"), config)
    assert time.monotonic() - begin < 1


def test_a_container_that_ends_while_it_waits_gives_up_its_place(config, started):
    grant(request("0", exclusive=True), started("a"), config)
    results: list[tuple[str, list[int] | str]] = []
    thread = in_background(results, "b", request("0", wait=30), started("b"), config)
    until(lambda: queue(config) == ["b"])
    started.kill("b")
    thread.join(timeout=10)
    assert "ended while it waited" in results[0][1]
    assert queue(config) == []


def test_a_hook_that_was_killed_while_it_waited_waits_no_more(config, started):
    grant(request(count=4, exclusive=True), started("a"), config)
    hook = os.fork()
    if not hook:
        grant(request(count=4, exclusive=True, wait=60), bundle("b", os.getppid()), config)
        os._exit(0)
    until(lambda: queue(config) == ["b"])
    os.kill(hook, signal.SIGKILL)
    os.waitpid(hook, 0)
    started.kill("a")
    assert grant(request(count=1), started("c"), config) == [0]
    assert recorded(config)["queue"] == []


def test_no_more_wait_than_may(config, started, monkeypatch):
    """Each looks at the record under the lock of all, so that many enough of them would hold up every start."""
    monkeypatch.setattr("oci_gpu_hook.base.limits.WAITERS", 2)
    grant(request(count=4, exclusive=True), started("a"), config)
    results: list[tuple[str, list[int] | str]] = []
    threads = []
    for name in ("first", "second"):
        asked = request(count=1, exclusive=True, wait=30)
        threads.append(in_background(results, name, asked, started(name), config))
        until(lambda: queue(config)[-1:] == [name])  # noqa: B023
    begin = time.monotonic()
    with pytest.raises(AllocationError, match="2 containers are waiting already, which is the limit"):
        grant(request(count=1, exclusive=True, wait=30), started("third"), config)
    assert time.monotonic() - begin < 2
    assert queue(config) == ["first", "second"]
    started.kill("a")
    for thread in threads:
        thread.join()
    assert sorted(name for name, _ in results) == ["first", "second"]

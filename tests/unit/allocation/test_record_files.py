"""The record's files: a state directory that fails or is not trusted, and the lock."""

from __future__ import annotations

import errno
import os

import psutil
import pytest

from oci_gpu_hook.allocation import query, release, store
from oci_gpu_hook.allocation.holders import Processes
from oci_gpu_hook.base import limits
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import AllocationError
from tests.unit.allocation.leasing import as_text, bundle, grant, holders, recorded, request, uuid


@pytest.mark.parametrize("call", ["write", "open"])
def test_a_full_state_directory_fails_counts_and_lets_names_pass(call, config, started, events, monkeypatch):
    grant(request("0", exclusive=True), started("a"), config)
    before = recorded(config)
    real = getattr(os, call)

    def full(*arguments, **options):
        if call == "write" or arguments[1] & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    b = started("b")
    monkeypatch.setattr(os, call, full)
    for wish in (request(count=1), request("1", exclusive=True)):
        with pytest.raises(
            AllocationError, match=r"cannot use the record of who holds which device in .*: No space left on device"
        ):
            grant(wish, b, config)
    assert grant(request("1"), b, config) == [1]
    with pytest.raises(AllocationError, match="'a' holds it exclusively"):
        grant(request("0"), b, config)
    monkeypatch.undo()
    assert recorded(config) == before
    assert set(os.listdir(config.state_dir)) == {"leases.json", "leases.lock"}


def test_a_state_directory_that_cannot_be_made_lets_names_pass(config, started, events):
    as_text(b"")(config.state_dir)
    for nowhere in (config, Config(state_dir=os.path.join(config.state_dir, "below"))):
        assert grant(request("1"), started("a"), nowhere) == [1]
        assert "lease not recorded" in [event for event, _ in events]
        with pytest.raises(AllocationError, match="Not a directory"):
            grant(request(count=1), started("b"), nowhere)
        events.clear()


def test_a_state_directory_is_made_with_those_above_it(config, started):
    deep = Config(state_dir=os.path.join(config.state_dir, "deep", "down"))
    assert grant(request(count=1), started("a"), deep) == [0]
    assert holders(deep) == {"a": [uuid(0)]}


def test_a_state_directory_that_others_may_write_to_is_not_believed(config, started):
    os.mkdir(config.state_dir)
    os.chmod(config.state_dir, 0o777)
    with pytest.raises(AllocationError, match="could be written by others"):
        grant(request(count=1), started("a"), config)
    assert os.listdir(config.state_dir) == []


def test_a_lock_that_is_never_given_back_is_an_error_and_no_hang(config, started, monkeypatch):
    grant(request("0"), started("a"), config)
    monkeypatch.setattr(limits, "LEASES_LOCK_SECONDS", 0.2)
    with store.Store(config.state_dir, Processes()) as stuck:
        stuck.lock()
        with pytest.raises(AllocationError, match="another process has held its lock"):
            grant(request(count=1), started("b"), config)
    assert grant(request(count=1), started("b"), config) == [1]


def test_a_lock_file_that_was_taken_away_locks_nobody_out_and_nobody_in(config, started):
    grant(request("0"), started("a"), config)
    with store.Store(config.state_dir, Processes()) as first:
        first.lock()
        os.unlink(os.path.join(config.state_dir, "leases.lock"))
        assert grant(request(count=1), started("b"), config) == [1]


def test_no_descriptor_is_left_open(config, started):
    grant(request("0"), started("a"), config)
    before = psutil.Process().num_fds()
    for _ in range(3):
        grant(request(count=1), bundle("b", started.processes["a"].pid), config)
        release.release_by_hand("b", config, force=True)
        query.current(config)
    assert psutil.Process().num_fds() == before


def test_the_lock_is_for_root_alone(config, started):
    """Whoever can open a file can lock it."""
    previous = os.umask(0)
    try:
        grant(request("0"), started("a"), config)
    finally:
        os.umask(previous)
    modes = {
        name: os.stat(os.path.join(config.state_dir, name)).st_mode & 0o777 for name in os.listdir(config.state_dir)
    }
    assert modes == {"leases.lock": 0o600, "leases.json": 0o644}
    assert os.stat(config.state_dir).st_mode & 0o777 == 0o700

"""A record that is not what it should be is kept aside and made again, from what is known."""

from __future__ import annotations

import json
import os

import pytest

from oci_gpu_hook.allocation import query
from oci_gpu_hook.allocation.holders import Processes
from oci_gpu_hook.base import limits
from tests.unit.allocation.leasing import (
    HOST,
    as_text,
    bundle,
    grant,
    holders,
    in_background,
    kept_aside,
    queue,
    recorded,
    request,
    until,
    uuid,
)


def as_huge(path):
    with open(path, "wb") as file:
        file.truncate(limits.LEASES + 1)


def as_writable_for_all(path):
    os.chmod(path, 0o666)


def as_foreign(path):
    os.chown(path, 12345, 12345)


HOSTILE = {
    "empty": as_text(b""),
    "not JSON": as_text(b"\x00\xff not json"),
    "half written": as_text(b'{"version": 1, "leases": [{"contai'),
    "another type": as_text(b"[1, 2]"),
    "another version": as_text(b'{"version": 2, "nextTicket": 1, "leases": [], "queue": []}'),
    "members missing": as_text(b'{"version": 1}'),
    "nested deeply": as_text(b"[" * 100000),
    "huge": as_huge,
    "symlink": lambda path: os.symlink("/etc/passwd", path),
    "dangling symlink": lambda path: os.symlink("/nowhere", path),
    "directory": os.mkdir,
    "fifo": os.mkfifo,
    "writable for all": as_writable_for_all,
    "foreign owner": as_foreign,
}


def journal(config, container, gpus, *, exclusive):
    directory = os.path.join(config.state_dir, "containers")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    entry = {
        "id": container.id,
        "pid": container.pid,
        "startTime": Processes().start_time(container.pid),
        "gpus": gpus,
        "exclusive": exclusive,
        "unknown": {"members": "are not looked at"},
    }
    with open(os.path.join(directory, f"{container.id}.json"), "w") as file:
        json.dump(entry, file)


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind != "foreign owner" or os.geteuid() == 0])
def test_a_record_that_cannot_be_trusted_is_kept_aside_and_made_anew(kind, config, started, events):
    a, dead = started("a"), started("dead")
    grant(request("0", exclusive=True), a, config)
    journal(config, a, [uuid(0)], exclusive=True)
    journal(config, dead, [uuid(1)], exclusive=True)
    started.kill("dead")
    for name, text in (("x.json", "{}"), ("y.json", '{"id": "y", "pid": 0, "startTime": 1, "gpus": ["z"]}'), ("z", "")):
        as_text(text.encode())(os.path.join(config.state_dir, "containers", name))
    passwd = os.stat("/etc/passwd")
    path = os.path.join(config.state_dir, "leases.json")
    if "writable" not in kind and "foreign" not in kind:
        os.unlink(path)
    HOSTILE[kind](path)
    assert [device.index for device in query.preview(request(count=1), HOST, config)] == [1]
    assert kept_aside(config) == [], "looking changes nothing"
    assert grant(request(count=1), started("b"), config) == [1]
    assert holders(config) == {"a": [uuid(0)], "b": [uuid(1)]}
    (aside,) = kept_aside(config)
    troubles = [fields for event, fields in events if event.startswith("lease record was unusable")]
    assert troubles[-1]["kept_as"] == aside
    assert troubles[-1]["reason"]
    assert os.stat("/etc/passwd") == passwd


def test_readable_entries_of_a_damaged_record_are_kept(config, started):
    grant(request("0", exclusive=True), started("a"), config)
    grant(request("1", exclusive=True), started("b"), config)
    record = recorded(config)
    record["leases"][1]["pid"] = "many"
    record["leases"] += [None, 7, {"container": "x"}]
    as_text(json.dumps(record).encode())(os.path.join(config.state_dir, "leases.json"))
    assert grant(request(count=1, exclusive=True), started("c"), config) == [1]
    assert set(holders(config)) == {"a", "c"}
    assert len(kept_aside(config)) == 1


def test_a_record_that_was_deleted_is_made_anew_from_the_journals(config, started):
    a = started("a")
    grant(request("0", "1", exclusive=True), a, config)
    journal(config, a, [uuid(0), uuid(1)], exclusive=True)
    os.unlink(os.path.join(config.state_dir, "leases.json"))
    assert grant(request(count=1), started("b"), config) == [2]


def test_a_waiter_keeps_its_place_when_the_record_is_made_anew(config, started):
    grant(request("0", exclusive=True), started("a"), config)
    journal(config, bundle("a", started.processes["a"].pid), [uuid(0)], exclusive=True)
    results: list[tuple[str, list[int] | str]] = []
    thread = in_background(results, "b", request("0", wait=30), started("b"), config)
    until(lambda: queue(config) == ["b"])
    as_text(b"garbage")(os.path.join(config.state_dir, "leases.json"))
    until(lambda: kept_aside(config) and queue(config) == ["b"])
    started.kill("a")
    thread.join()
    assert results == [("b", [0])]

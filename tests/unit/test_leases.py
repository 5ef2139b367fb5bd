"""The record of leases: granted, kept, released, rebuilt; with real processes as the containers."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import jsonschema
import psutil
import pytest

from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.allocation import lease_table, query, release, store
from oci_gpu_hook.allocation.holders import INITIAL_PID_NAMESPACE, Holder, Processes, same
from oci_gpu_hook.allocation.model import Lease, LeasedDevice, LeaseTable, Waiter
from oci_gpu_hook.base import document, limits
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import AllocationError, InvalidInput
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.model import Gpu, MigDevice
from oci_gpu_hook.oci.container import Container
from oci_gpu_hook.request.model import Request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def uuid(index):
    return f"GPU-{index:08x}-aaaa-bbbb-cccc-0123456789ab"


def host(size):
    gpus = (
        Gpu(index=i, uuid=uuid(i), minor=i, bus_id=f"00000000:{i + 6:02x}:00.0", memory=80 << 30) for i in range(size)
    )
    return of_nvidia.of(gpus)


HOST = host(4)


def request(*devices, **fields):
    return Request(devices=devices, driver_capabilities=("compute",), source="environment", **fields)


def bundle(name, pid):
    return Container(
        id=name, pid=pid, bundle="/bundle", rootfs="/bundle/rootfs", root_readonly=False, env=(), mounts=(),
        annotations={}, privileged=False, uid=0, gid=0, namespaces=(), uid_mappings=(), gid_mappings=(),
        cgroups_path="", device_rules=(),
    )  # fmt: skip


@pytest.fixture
def config(tmp_path):
    os.chmod(tmp_path, 0o755)
    return Config(state_dir=str(tmp_path / "state"))


@pytest.fixture
def events(monkeypatch):
    seen = []
    for level in ("info", "warning"):
        monkeypatch.setattr(story.log, level, lambda event, **fields: seen.append((event, fields)))
    return seen


@pytest.fixture
def started():
    """Return a function that starts a container, which is a process that sleeps."""
    processes = {}
    every = []

    def start(name):
        processes[name] = subprocess.Popen(["/bin/sleep", "600"])
        every.append(processes[name])
        return bundle(name, processes[name].pid)

    def kill(name):
        processes[name].kill()
        processes[name].wait()

    start.kill = kill
    start.processes = processes
    yield start
    for process in every:
        process.kill()
        process.wait()


def grant(wish, container, config, inventory=HOST):
    return [device.index for device in story.allocate(wish, inventory, container, config)]


def recorded(config):
    with open(os.path.join(config.state_dir, "leases.json")) as file:
        return json.load(file)


def holders(config):
    return {lease.container: [device.uuid for device in lease.devices] for lease in query.current(config).leases}


def kept_aside(config):
    return [name for name in os.listdir(config.state_dir) if ".corrupt-" in name]


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


def test_a_zombie_holds_nothing(config, started):
    grant(request(count=4, exclusive=True), started("a"), config)
    started.processes["a"].kill()
    os.waitid(os.P_PID, started.processes["a"].pid, os.WEXITED | os.WNOWAIT)
    assert grant(request(count=1), started("b"), config) == [0]


def test_a_process_whose_first_thread_ended_still_holds(config, tmp_path):
    """It is a zombie to ps, and its other threads compute on."""
    number = {"x86_64": 60, "aarch64": 93}[os.uname().machine]  # exit(2), which ends the calling thread alone
    code = "import threading, time, ctypes, sys; threading.Thread(target=time.sleep, args=(600,)).start(); "
    code += "print(flush=True); ctypes.CDLL(None).syscall(int(sys.argv[1]), 0)"
    with subprocess.Popen([sys.executable, "-c", code, str(number)], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            deadline = time.monotonic() + 5
            while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
                time.sleep(0.01)
            assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
            assert Processes().holder(process.pid) is not None
        finally:
            process.kill()


def test_a_reused_pid_is_no_holder(config, started):
    a = started("a")
    grant(request(count=4, exclusive=True), a, config)
    edit(config, lambda lease: lease.update(startTime=lease["startTime"] - 1))
    assert grant(request(count=1), started("b"), config) == [0]


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


def test_another_boot_voids_every_lease(config, started):
    grant(request(count=4, exclusive=True), started("a"), config)
    edit(config, lambda lease: lease.update(bootId="00000000-0000-0000-0000-000000000000"))
    assert grant(request(count=1), started("b"), config) == [0]


def edit(config, change):
    record = recorded(config)
    for lease in record["leases"]:
        change(lease)
    with open(os.path.join(config.state_dir, "leases.json"), "w") as file:
        json.dump(record, file)


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


# --- waiting -----------------------------------------------------------------------------------------------------


def in_background(results, name, wish, container, config):
    def run():
        try:
            results.append((name, grant(wish, container, config)))
        except AllocationError as error:
            results.append((name, str(error)))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def queue(config):
    return [waiter.container for waiter in query.current(config).queue]


def test_waiting_ends_with_the_grant_and_keeps_the_order(config, started):
    grant(request(count=4, exclusive=True), started("a"), config)
    results = []
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
    results = []
    thread = in_background(results, "big", request(count=4, exclusive=True, wait=20), started("big"), config)
    until(lambda: queue(config) == ["big"])
    with pytest.raises(AllocationError, match="'big' exclusively"):
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


def test_what_can_never_be_is_not_waited_for(config, started):
    begin = time.monotonic()
    with pytest.raises(AllocationError, match="this host has 4"):
        grant(request(count=5, wait=60), started("a"), config)
    assert time.monotonic() - begin < 1


def test_a_container_that_ends_while_it_waits_gives_up_its_place(config, started):
    grant(request("0", exclusive=True), started("a"), config)
    results = []
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


# --- a record that is not what it should be ------------------------------------------------------------------------


def as_text(text):
    def write(path):
        with open(path, "wb") as file:
            file.write(text)

    return write


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
    troubles = [fields for event, fields in events if event.startswith("lease record was not usable")]
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
    results = []
    thread = in_background(results, "b", request("0", wait=30), started("b"), config)
    until(lambda: queue(config) == ["b"])
    as_text(b"garbage")(os.path.join(config.state_dir, "leases.json"))
    until(lambda: kept_aside(config) and queue(config) == ["b"])
    started.kill("a")
    thread.join()
    assert results == [("b", [0])]


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
    monkeypatch.setattr(store.os, call, full)
    for wish in (request(count=1), request("1", exclusive=True)):
        with pytest.raises(
            AllocationError, match=r"cannot use the record of who holds which GPU in .*: No space left on device"
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
        with pytest.raises(AllocationError, match="another process holds its lock"):
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


# --- the form of the record ----------------------------------------------------------------------------------------


def schema(name):
    with open(os.path.join(ROOT, "schemas", name)) as file:
        document = json.load(file)
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def a_book():
    holder = Holder(pid=7, start_time=8, boot_id="b", pid_namespace=9)
    mig = MigDevice(index=0, uuid="MIG-1", gpu_instance=1, compute_instance=0, profile="1g.10gb", memory=1,
                    gpu_instance_minor=1, compute_instance_minor=2)  # fmt: skip
    devices = (LeasedDevice(whole=uuid(0)), LeasedDevice(whole=uuid(1), part=mig.uuid))
    lease = Lease(container="a", devices=devices, exclusive=True, holder=holder, since="2026-01-01T00:00:00Z")
    wish = Request(devices=("0",), count=None, memory=1, exclusive=False, driver_capabilities=(), source="queue")
    waiter = Waiter(ticket=3, container="w", holder=holder, request=wish, since="2026-01-01T00:00:00Z")
    return LeaseTable(leases=(lease,), queue=(waiter,), next_ticket=4)


def test_the_record_comes_back_as_it_went():
    book = a_book()
    assert lease_table.from_json(document.parse(document.dump(lease_table.to_json(book)), "record")) == (book, [])


def mutations(value):
    """Return documents that differ from a good one in one place, each wrong."""
    for path in (
        ("version",), ("nextTicket",), ("leases",), ("queue",),
        *(("leases", 0, name) for name in lease_table.to_json(a_book())["leases"][0]),
        *(("queue", 0, name) for name in lease_table.to_json(a_book())["queue"][0] if name != "count"),
        ("leases", 0, "devices", 0, "gpu"),
    ):  # fmt: skip
        for wrong in (None, {}, 1.5, -1, "\0deleted"):
            copy = json.loads(json.dumps(value))
            place = copy
            for step in path[:-1]:
                place = place[step]
            if wrong == "\0deleted":
                del place[path[-1]]
            else:
                place[path[-1]] = wrong
            yield f"{path} = {wrong!r}", copy


def test_schema_and_parser_agree():
    good = json.loads(document.dump(lease_table.to_json(a_book())))
    validator = schema("lease-record.schema.json")
    validator.validate(good)
    seen = 0
    for name, wrong in mutations(good):
        assert not validator.is_valid(wrong), name
        assert lease_table.from_json(wrong)[1], name
        seen += 1
    assert seen > 80


def test_a_written_record_is_valid(config, started):
    grant(request(count=2, exclusive=True), started("a"), config)
    schema("lease-record.schema.json").validate(recorded(config))


# --- processes -----------------------------------------------------------------------------------------------------


def test_start_times_are_those_of_psutil(started):
    container = started("a (with) blanks")
    ticks = Processes().start_time(container.pid)
    boot = psutil.boot_time()
    assert abs(boot + ticks / os.sysconf("SC_CLK_TCK") - psutil.Process(container.pid).create_time()) < 0.1
    assert Processes().start_time(1 << 22) == 0


def test_a_process_name_cannot_forge_a_start_time(tmp_path):
    target = tmp_path / "x) Z 1 2 3 4 (5"
    target.symlink_to("/bin/sleep")
    with subprocess.Popen([str(target), "60"]) as process:
        assert Processes().start_time(process.pid) > 0
        expected = psutil.Process(process.pid).create_time() - psutil.boot_time()
        assert abs(Processes().start_time(process.pid) / os.sysconf("SC_CLK_TCK") - expected) < 0.1
        process.kill()


def test_one_process_seen_from_two_pid_namespaces_is_one():
    inner = Holder(pid=1, start_time=5, boot_id="b", pid_namespace=77)
    outer = Holder(pid=4711, start_time=5, boot_id="b", pid_namespace=INITIAL_PID_NAMESPACE)
    assert same(inner, outer)
    assert not same(inner, Holder(pid=2, start_time=5, boot_id="b", pid_namespace=77))
    assert not same(inner, Holder(pid=4711, start_time=6, boot_id="b", pid_namespace=INITIAL_PID_NAMESPACE))


IN_A_NAMESPACE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from tests.unit.test_leases import *
config = Config(state_dir=sys.argv[2])
print(grant(request(count=1, exclusive=True), bundle("inside", os.getpid()), config), flush=True)
print(sorted(holders(config)), flush=True)
sys.stdin.read()
"""


@pytest.mark.root
def test_a_lease_made_inside_a_pid_namespace_is_judged_from_the_host(config, started):
    """Mesos runs its hooks inside the container: pid 1 of the record is not the host's pid 1."""
    grant(request("0", exclusive=True), started("outside"), config)
    command = ["/usr/bin/unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable]
    command += ["-c", IN_A_NAMESPACE, ROOT, config.state_dir]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as inside:
        assert inside.stdout.readline() == "[1]\n"
        assert inside.stdout.readline() == "['inside', 'outside']\n", "from inside, the host's processes are unknown"
        assert [lease["pid"] for lease in recorded(config)["leases"]] == [started.processes["outside"].pid, 1]
        assert set(holders(config)) == {"inside", "outside"}
        inside.stdin.close()
        inside.wait()
    assert set(holders(config)) == {"outside"}
    assert [lease.container for lease in release.reconcile(config)] == ["inside"]


# --- everything at once --------------------------------------------------------------------------------------------


def hammer(seed, config, size):
    """Be a host's worth of hooks: grant to a fresh process, check, end it in one of three ways, again and again."""
    rng = random.Random(seed)
    for turn in range(25):
        process = subprocess.Popen(["/bin/sleep", "60"])
        name = f"{seed}-{turn}"
        try:
            granted = grant(
                request(count=rng.randint(1, 2), exclusive=True, wait=20), bundle(name, process.pid), config, host(size)
            )
            for index in granted:  # an exclusive GPU is a file that only one may make
                os.close(os.open(f"{config.state_dir}.gpu{index}", os.O_CREAT | os.O_EXCL, 0o600))
            time.sleep(rng.random() * 0.005)
            for index in granted:
                os.unlink(f"{config.state_dir}.gpu{index}")
        finally:
            process.kill()
            process.wait()
        if rng.random() < 0.5:
            release.release(name, config)


def test_processes_that_die_at_random_never_share_an_exclusive_gpu_nor_lose_one(config):
    """Eight processes of hooks; two more are killed by SIGKILL at random places of the story, over and over."""
    size = 4
    workers = []
    for seed in range(8):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                hammer(seed, config, size)
                status = 0
            finally:
                os._exit(status)
        workers.append(pid)
    rng = random.Random(0)
    killed = 0
    deadline = time.monotonic() + 60
    while workers and time.monotonic() < deadline:
        victim = os.fork()
        if not victim:
            try:
                while True:
                    grant(
                        request(count=1, exclusive=True, wait=5), bundle(f"victim{os.getpid()}", 0), config, host(size)
                    )
                    release.release_by_hand(f"victim{os.getpid()}", config, force=True)
            finally:
                os._exit(1)
        time.sleep(rng.random() * 0.02)
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        killed += 1
        for worker in list(workers):
            done, status = os.waitpid(worker, os.WNOHANG)
            if done:
                workers.remove(worker)
                assert status == 0
    assert not workers
    assert killed > 10
    assert kept_aside(config) == []
    assert grant(request(count=size, exclusive=True), bundle("all", os.getpid()), config, host(size)) == list(
        range(size)
    )

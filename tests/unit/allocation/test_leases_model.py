"""The record of leases against a model of it: any order of grants, ends, crashes, reused pids, reboots and damage."""

from __future__ import annotations

import json
import os
import shutil
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.allocation import query, queue, release, store
from oci_gpu_hook.allocation.model import Claim, Moment
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import AllocationError
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.model import Gpu, MigDevice
from oci_gpu_hook.oci.container import Container
from oci_gpu_hook.request.model import Request
from tests.unit.allocation.worlds import FakeProcesses, World


def gpu(index, **facts):
    return Gpu(index=index, uuid=f"GPU-{index}", minor=index, bus_id=f"00000000:0{index}:00.0", memory=1, **facts)


def mig(index):
    return MigDevice(
        index=index, uuid=f"MIG-{index}", gpu_instance=index, compute_instance=0, profile="1g.10gb", memory=1,
        gpu_instance_minor=index, compute_instance_minor=index,
    )  # fmt: skip


HOST = of_nvidia.of((gpu(0), gpu(1), gpu(2), gpu(3, mig_enabled=True, mig_devices=(mig(0), mig(1)))))
# What a device is made of: two devices are in each other's way when they have a part in common.
PARTS = {
    "GPU-0": {"GPU-0"},
    "GPU-1": {"GPU-1"},
    "GPU-2": {"GPU-2"},
    "GPU-3": {"GPU-3", "MIG-0", "MIG-1"},
    "MIG-0": {"MIG-0"},
    "MIG-1": {"MIG-1"},
}
COUNTED = {(): ("GPU-0", "GPU-1", "GPU-2"), ("1g.10gb",): ("MIG-0", "MIG-1")}
NAMED = {
    "0": {"GPU-0"},
    "GPU-1": {"GPU-1"},
    "0000:02:00.0": {"GPU-2"},
    "3": {"GPU-3"},
    "3:0": {"MIG-0"},
    "MIG-1": {"MIG-1"},
    "all": {"GPU-0", "GPU-1", "GPU-2", "MIG-0", "MIG-1"},
}


def request(devices=(), **fields):
    return Request(devices=tuple(devices), driver_capabilities=(), source="environment", **fields)


wishes = st.one_of(
    st.builds(
        lambda devices, count, exclusive: request(devices, count=count, exclusive=exclusive),
        st.sampled_from(list(COUNTED)),
        st.integers(1, 4),
        st.booleans(),
    ),
    st.builds(
        lambda devices, exclusive: request(devices, exclusive=exclusive),
        st.lists(st.sampled_from(list(NAMED)), min_size=1, max_size=2),
        st.booleans(),
    ),
)


numbers = st.integers(0, 99)
somebody_lives = precondition(lambda self: bool(getattr(self, "living", None)))


def lets_pass(waited):
    """Tell whether one that waits lets others pass: not in its first minute and in a quarter of each doubling."""
    doubled = 60
    while waited >= 2 * doubled:
        doubled *= 2
    return waited >= 60 if waited < 120 else waited >= 1.25 * doubled


class Held:
    def __init__(self, name, pid, start, granted, wish):
        self.name, self.pid, self.start, self.granted, self.wish = name, pid, start, granted, wish
        self.exclusive = wish.exclusive
        self.parts = set().union(*(PARTS[uuid] for uuid in granted))


class Leases(RuleBasedStateMachine):
    @initialize()
    def boot(self):
        self.directory = tempfile.mkdtemp()
        self.config = Config(state_dir=os.path.join(self.directory, "state"))
        self.world = FakeProcesses.world = World()
        self.patch = pytest.MonkeyPatch()
        for module in (story, release, query):
            self.patch.setattr(module, "Processes", FakeProcesses)
        self.living = []
        self.waiting = []
        self.dead_pids = []
        self.names = 0

    def teardown(self):
        if hasattr(self, "directory"):
            self.patch.undo()
            shutil.rmtree(self.directory)

    # -- what the model expects

    def obstacles(self, uuid, wish, others):
        return [one for one in others if one.parts & PARTS[uuid] and (wish.exclusive or one.exclusive)]

    def load(self, uuid, others):
        return sum(bool(one.parts & PARTS[uuid]) for one in others)

    def free(self, wish, others):
        return [uuid for uuid in COUNTED[wish.devices] if not self.obstacles(uuid, wish, others)]

    def needs(self, uuids, others):
        """Return how many of these devices those who wait could claim at the most."""
        queue = [waiter for waiter in self.waiting if COUNTED[waiter.request.devices] == uuids]
        if queue and self.lets_pass(queue[0], others):
            queue = [waiter for waiter in queue if self.could(waiter, others) == waiter.request.count]
        return sum(waiter.request.count for waiter in queue)

    def lets_pass(self, waiter, others):
        """Tell whether a waiter cannot be served, and it is the turn of others."""
        waited = self.world.uptime - waiter.uptime
        return self.could(waiter, others) < waiter.request.count and lets_pass(waited)

    def check_grant(self, wish, granted, others):
        if wish.count is None:
            assert granted == set().union(
                *(NAMED[name] for name in (("all",) if "all" in wish.devices else wish.devices))
            )
        else:
            assert len(granted) == wish.count
            assert granted <= set(COUNTED[wish.devices])
            rest = set(self.free(wish, others)) - granted
            if not self.waiting:
                heaviest = max(self.load(uuid, others) for uuid in granted)
                assert all(self.load(uuid, others) >= heaviest for uuid in rest), "not balanced"
        for uuid in granted:
            assert not self.obstacles(uuid, wish, others), "two holders, one of them exclusive"

    def check_refusal(self, wish, others):
        if wish.count is None:
            names = ("all",) if "all" in wish.devices else wish.devices
            wanted = set().union(*(NAMED[name] for name in names))
            blocked = [uuid for uuid in wanted if self.obstacles(uuid, wish, others)]
            assert blocked or (wish.exclusive and self.waiting), "a free device was refused"
        else:
            left = len(self.free(wish, others)) - self.needs(COUNTED[wish.devices], others)
            assert left < wish.count, "a GPU is lost"

    def ask(self, name, pid, wish, others):
        container = self.container(name, pid)
        first = [waiter for waiter in self.waiting[:1] if not self.lets_pass(waiter, others)]
        could = [self.could(waiter, others) for waiter in first]
        try:
            granted = {device.uuid for device in story.allocate(wish, HOST, container, self.config)}
        except AllocationError:
            self.check_refusal(wish, others)
            return None
        self.check_grant(wish, granted, others)
        one = Held(name, pid, self.world.alive[pid], granted, wish)
        if wish.count is not None or wish.exclusive:
            assert could == [self.could(waiter, [*others, one]) for waiter in first], "somebody overtook"
        return one

    def container(self, name, pid):
        return Container(
            id=name, pid=pid, bundle="/b", rootfs="/b/r", root_readonly=False, env=(), mounts=(), annotations={},
            privileged=False, uid=0, gid=0, namespaces=(), uid_mappings=(), gid_mappings=(), cgroups_path="",
            device_rules=(),
        )  # fmt: skip

    def could(self, waiter, others):
        """Return how many of the devices that a waiter needs it could have at once."""
        return min(waiter.request.count, len(self.free(waiter.request, others)))

    def end(self, one):
        self.living.remove(one)
        del self.world.alive[one.pid]
        self.dead_pids.append(one.pid)

    # -- what may happen

    @rule(wish=wishes)
    def start(self, wish):
        self.start_named(self.new_name(), self.world.start(), wish)

    @precondition(lambda self: bool(getattr(self, "dead_pids", None)))
    @rule(wish=wishes, number=numbers)
    def start_with_a_reused_pid(self, wish, number):
        pid = self.dead_pids.pop(number % len(self.dead_pids))
        self.start_named(self.new_name(), self.world.start(pid), wish)

    def new_name(self):
        self.names += 1
        return f"c{self.names}"

    def start_named(self, name, pid, wish):
        one = self.ask(name, pid, wish, self.living)
        if one:
            self.living.append(one)

    @somebody_lives
    @rule(number=numbers)
    def hook_runs_again(self, number):
        one = self.one(number)
        container = self.container(one.name, one.pid)
        again = {device.uuid for device in story.allocate(one.wish, HOST, container, self.config)}
        assert again == one.granted

    @somebody_lives
    @rule(number=numbers)
    def crash(self, number):
        self.end(self.one(number))

    @somebody_lives
    @rule(number=numbers)
    def stop(self, number):
        one = self.one(number)
        self.end(one)
        assert release.release(one.name, self.config) is True

    @somebody_lives
    @rule(number=numbers)
    def poststop_of_what_lives(self, number):
        assert release.release(self.one(number).name, self.config) is False

    @somebody_lives
    @rule(number=numbers, wish=wishes, told=st.booleans())
    def restart_under_the_same_name(self, number, wish, told):
        one = self.one(number)
        self.end(one)
        if told:
            release.release(one.name, self.config)
        self.start_named(one.name, self.world.start(), wish)

    def one(self, number):
        return self.living[number % len(self.living)]

    @rule(seconds=st.sampled_from([1, 15, 59, 60, 100, 1000]))
    def time_passes(self, seconds):
        self.world.uptime += seconds

    @rule()
    def reboot(self):
        self.world.reboot()
        self.living = []
        self.waiting = []
        self.dead_pids = []

    @rule()
    def reconcile(self):
        release.reconcile(self.config)
        if os.path.exists(self.path()):
            with open(self.path()) as file:
                names = sorted(lease["container"] for lease in json.load(file)["leases"])
            assert names == sorted(one.name for one in self.living)

    @rule(devices=st.sampled_from(list(COUNTED)), count=st.integers(1, 2), exclusive=st.booleans())
    def a_container_waits(self, devices, count, exclusive):
        """Wait without blocking: what a hook does between two looks."""
        processes = FakeProcesses()
        wish = request(devices, count=count, exclusive=exclusive)
        holder = processes.holder(self.world.start())
        assert holder
        claim = Claim(container=self.new_name(), holder=holder, request=wish)
        with story._opened(self.config.state_dir, processes) as opened:
            opened.lock()
            waiter, book = queue.enqueue(opened.read(), claim, holder, Moment(date="", uptime=self.world.uptime))
            opened.write(book)
        self.waiting.append(waiter)

    @precondition(lambda self: bool(getattr(self, "waiting", None)))
    @rule(number=numbers)
    def a_waiting_hook_is_killed(self, number):
        waiter = self.waiting.pop(number % len(self.waiting))
        del self.world.alive[waiter.holder.pid]

    @precondition(lambda self: getattr(self, "waiting", None) == [] and os.path.exists(self.path()))
    @rule(damage=st.sampled_from([b"", b"{", b'{"version": 1, "leases": 3}', None]))
    def the_record_is_damaged(self, damage):
        journals = os.path.join(self.config.state_dir, "containers")
        shutil.rmtree(journals, ignore_errors=True)
        os.mkdir(journals, 0o700)
        for one in self.living:
            entry = {"id": one.name, "pid": one.pid, "startTime": one.start, "gpus": sorted(one.granted)}
            entry["bootId"] = f"boot-{self.world.boot}"
            with open(os.path.join(journals, f"{one.name}.json"), "w") as file:
                json.dump(entry | {"exclusive": one.exclusive}, file)
        os.unlink(self.path())
        if damage is not None:
            with open(self.path(), "wb") as file:
                file.write(damage)

    @precondition(lambda self: hasattr(self, "directory") and os.path.isdir(self.config.state_dir))
    @rule()
    def a_hook_is_killed_while_it_writes(self):
        with open(self.path() + ".new", "wb") as file:
            file.write(b'{"version": 1, "nex')

    def path(self):
        return os.path.join(self.config.state_dir, store.RECORD)

    # -- what holds always

    @invariant()
    def the_record_says_what_is(self):
        if not hasattr(self, "directory"):
            return
        book = query.current(self.config)
        recorded = {(lease.container, frozenset(device.uuid for device in lease.devices)) for lease in book.leases}
        assert recorded == {(one.name, frozenset(one.granted)) for one in self.living}
        assert {waiter.ticket for waiter in book.queue} == {waiter.ticket for waiter in self.waiting}
        for place, one in enumerate(self.living):
            for other in self.living[:place]:
                assert not (one.parts & other.parts and (one.exclusive or other.exclusive))


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=100, stateful_step_count=40)

"""Starts, attachments, detachments, kills, restarts and poststops in any order, against a model of who has what.

OCI_GPU_MODEL_STEPS: how many steps (default 600); OCI_GPU_MODEL_SEED: of the choices, to have them again.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.allocation import attached, query, release
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import AllocationError, InvalidInput
from tests.unit.allocation.leasing import bundle, host, request, uuid
from tests.unit.allocation.worlds import FakeProcesses, World

STEPS = int(os.environ.get("OCI_GPU_MODEL_STEPS", "600"))
SEED = int(os.environ.get("OCI_GPU_MODEL_SEED", random.randrange(1 << 32)))
GPUS = 6
CONTAINERS = 8
HOST = host(GPUS)


class Modelled:
    """A living container: what it was granted at its start and what was attached, each as UUID → exclusive."""

    def __init__(self, pid, granted):
        self.pid = pid
        self.has = dict(granted)


class Model:
    """The host, the steps that may happen to it, and what is expected."""

    def __init__(self, config, chance):
        self.config = config
        self.chance = chance
        self.world = FakeProcesses.world = World()
        self.living = {}
        self.counted: Counter[str] = Counter()

    def wish(self):
        exclusive = self.chance.random() < 0.4
        if self.chance.random() < 0.5:
            return request(count=self.chance.randint(1, 3), exclusive=exclusive)
        names = self.chance.sample(range(GPUS), self.chance.randint(1, 2))
        return request(*map(str, names), exclusive=exclusive)

    def available(self, wish, name):
        """Return the GPUs that a container can be granted, given what the others have."""
        return {
            device.uuid
            for device in HOST
            if not any(
                device.uuid in other.has and (wish.exclusive or other.has[device.uuid])
                for its_name, other in self.living.items()
                if its_name != name
            )
        }

    def expect(self, wish, free, granted):
        """Check a grant, or None for a refusal: no GPU is given that is not free, and no free one refused."""
        if wish.count is not None:
            if granted is None:
                assert len(free) < wish.count, "a GPU is lost"
                return
            assert len(granted) == wish.count
        else:
            wanted = {uuid(int(index)) for index in wish.devices}
            if granted is None:
                assert wanted - free, "a free GPU was refused"
                return
            assert granted == wanted
        assert granted <= free, "a GPU is held twice"

    def start(self, name):
        wish, pid = self.wish(), self.world.start()
        free = self.available(wish, name)
        try:
            granted = {device.uuid for device in story.allocate(wish, HOST, bundle(name, pid), self.config)}
        except AllocationError:
            granted = None
        self.expect(wish, free, granted)
        if granted is None and self.chance.random() < 0.5:  # otherwise one that has asked for nothing
            del self.world.alive[pid]
            return
        self.living[name] = Modelled(pid, dict.fromkeys(granted or (), wish.exclusive))

    def attach(self, name):
        one, wish = self.living[name], self.wish()
        free = self.available(wish, name) - one.has.keys()
        try:
            granted = {device.uuid for device in attached.grant(wish, HOST, bundle(name, one.pid), self.config)}
        except (AllocationError, InvalidInput):
            granted = None
        self.expect(wish, free, granted)
        if granted:
            if self.chance.random() < 0.1:  # what follows fails, and the attachment is taken back
                attached.give_back(name, one.pid, granted, self.config)
            else:
                one.has |= dict.fromkeys(granted, wish.exclusive)

    def detach(self, name):
        one = self.living[name]
        going = self.chance.sample(sorted(one.has), self.chance.randint(0, len(one.has)))
        attached.give_back(name, one.pid, going, self.config)
        for gone in going:
            del one.has[gone]

    def kill(self, name):
        del self.world.alive[self.living.pop(name).pid]
        if self.chance.random() < 0.5:
            release.release(name, self.config)  # its poststop

    def restart(self, name):
        self.kill(name)
        self.start(name)

    def poststop(self, name):
        assert release.release(name, self.config) is False, "it lives, so it keeps what it has"

    def step(self):
        name = f"c{self.chance.randrange(CONTAINERS)}"
        steps = (self.attach, self.detach, self.detach, self.kill, self.restart, self.poststop, self.attach)
        act = self.chance.choice(steps) if name in self.living else self.start
        act(name)
        self.counted[act.__name__] += 1
        self.check()

    def check(self):
        found: dict[str, dict[str, bool]] = {name: {} for name in self.living}
        for lease in query.current(self.config).leases:
            for device in lease.devices:
                assert device.uuid not in found[lease.container], "it is on record twice"
                found[lease.container][device.uuid] = lease.exclusive
        assert found == {name: one.has for name, one in self.living.items()}


def test_a_refusal_says_how_many_the_container_has(config: Config, monkeypatch):
    world = FakeProcesses.world = World()
    monkeypatch.setattr(attached, "Processes", FakeProcesses)
    container = bundle("c", world.start())
    attached.grant(request(count=GPUS - 1), HOST, container, config)
    with pytest.raises(
        AllocationError, match="has 5 already; beside them this host has 1; 1 available; ask for at most 1"
    ):
        attached.grant(request(count=2), HOST, container, config)
    attached.grant(request(count=1), HOST, container, config)
    with pytest.raises(
        AllocationError, match="has 6 already; beside them this host has 0; there is no other to attach"
    ):
        attached.grant(request(count=1), HOST, container, config)


def test_no_gpu_is_doubled_none_is_lost_and_nothing_is_left(config: Config, monkeypatch, capsys):
    for module in (story, release, query, attached):
        monkeypatch.setattr(module, "Processes", FakeProcesses)
    model = Model(config, random.Random(SEED))
    for number in range(STEPS):
        try:
            model.step()
        except BaseException:
            print(f"seed {SEED}, step {number}")
            raise
    for name in [*model.living]:
        model.kill(name)
    release.reconcile(config)
    assert query.current(config).leases == ()
    with capsys.disabled():
        print(f"\n{STEPS} steps, seed {SEED}: {dict(sorted(model.counted.items()))}")

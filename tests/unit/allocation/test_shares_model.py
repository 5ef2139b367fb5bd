"""Ten thousand random starts, ends, kills and reboots on eight GPUs: never over by a byte, none lost. And packing."""

from __future__ import annotations

import random

import pytest

from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.allocation import query, release, select
from oci_gpu_hook.allocation.model import Busy, Lease, leased
from oci_gpu_hook.base.errors import AllocationError
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from tests.unit.allocation import gpus
from tests.unit.allocation.gpus import GIB, HOLDER
from tests.unit.allocation.leasing import bundle, request
from tests.unit.allocation.worlds import FakeProcesses, World

STEPS = 10_000
SIZE = 8
ROOM = 79 * GIB
HOST = of_nvidia.of([gpus.gpu(index) for index in range(SIZE)], reserve=GIB)
MIXED = (2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40)  # GiB


@pytest.fixture
def world(monkeypatch):
    made = FakeProcesses.world = World()
    for module in (story, release, query):
        monkeypatch.setattr(module, "Processes", FakeProcesses)
    return made


class Model:
    """What each GPU has, counted apart from the code under test: {container: (GPUs, bytes, cores, exclusive)}."""

    def __init__(self):
        self.held = {}

    def room(self, index):
        on_it = [each for each in self.held.values() if index in each[0]]
        return ROOM - sum(each[1] for each in on_it), 100 - sum(each[2] for each in on_it), on_it

    def fits(self, index, memory, cores, exclusive):
        left, left_cores, on_it = self.room(index)
        if any(each[3] for each in on_it) or (exclusive and on_it):
            return False
        return memory <= left and cores <= left_cores

    def check(self):
        for index in range(SIZE):
            left, left_cores, on_it = self.room(index)
            assert left >= 0
            assert left_cores >= 0
            assert len(on_it) == 1 or not any(each[3] for each in on_it)


def wish_of(dice):
    """Return a random request: (names, count, bytes, cores, exclusive)."""
    kind = dice.choice(("share", "share", "share", "named", "whole", "plain"))
    memory = dice.choice((0, 1, 5 * GIB + 1, *(size * GIB for size in MIXED), ROOM, ROOM + 1))
    cores = dice.choice((0, 0, 1, 10, 25, 33, 50, 100))
    if kind == "share" or not (memory or cores):
        return (), dice.choice((1, 1, 1, 2, 8)), memory, cores, False
    if kind == "named":
        return (str(dice.randrange(SIZE)),), None, memory, cores, False
    if kind == "whole":
        return (), dice.choice((1, 2)), 0, 0, True
    return (str(dice.randrange(SIZE)),), None, 0, 0, False


def attempt(wish, container, config):
    """Return the refusal, or the GPUs that are granted."""
    try:
        return None, {each.index for each in story.allocate(wish, HOST, container, config)}
    except AllocationError as error:
        return error, set()


def test_never_too_much_and_none_lost(config, world):
    dice = random.Random(20251128)
    pids: dict[str, int] = {}
    model, granted, refused = Model(), 0, 0
    for step in range(STEPS):
        act = dice.random()
        if act < 0.002:
            world.reboot()
            model.held, pids = {}, {}
        elif act < 0.45 and pids:
            name = dice.choice(list(pids))
            del world.alive[pids.pop(name)]  # killed: nobody says so
            del model.held[name]
            if act < 0.3:
                assert release.release(name, config) is True
        else:
            name = f"c{step}"
            names, count, memory, cores, exclusive = wish_of(dice)
            wish = request(*names, count=count, memory_limit=memory, cores=cores, exclusive=exclusive)
            pid = world.start()
            among = map(int, names) if names else range(SIZE)
            possible = [index for index in among if model.fits(index, memory, cores, exclusive)]
            error, found = attempt(wish, bundle(name, pid), config)
            if error:
                assert len(possible) < (count or 1), f"step {step}: a GPU is lost: {error}"
                assert isinstance(error, Busy) or memory > ROOM
                del world.alive[pid]
                refused += 1
            else:
                assert len(found) == (count or 1)
                assert found <= set(possible), f"step {step}: what does not fit was granted"
                model.held[name] = (found, memory, cores, exclusive)
                pids[name] = pid
                granted += 1
        model.check()
        if step % 50 == 0:
            recorded = {
                lease.container: {(device.uuid, device.memory, device.cores) for device in lease.devices}
                for lease in query.current(config).leases
            }
            assert recorded == {
                name: {(gpus.uuid(index), memory, cores) for index in found}
                for name, (found, memory, cores, _) in model.held.items()
            }
    assert granted > 2000
    assert refused > 500


@pytest.mark.parametrize("load", [0.8, 0.9, 1.0, 1.2, 1.5, 2.0])
def test_packing_is_near_the_best_possible(load):
    """No packing places more than everything, or than all GPUs hold: 40 mixes against this bound."""
    ratios = []
    for seed in range(40):
        dice = random.Random(seed)
        sizes: list[int] = []
        while sum(sizes) < 79 * SIZE * load:
            sizes.append(dice.choice(MIXED))
        held: list[Lease] = []
        placed = 0
        for size in sizes:
            wish = request(count=1, memory_limit=size * GIB)
            try:
                found = select.choose(wish, HOST, held)
            except Busy:
                continue
            placed += size
            devices = tuple(leased(device, wish) for device in found)
            held.append(Lease(container="", devices=devices, exclusive=False, holder=HOLDER, since=""))
        ratios.append(placed / min(sum(sizes), 79 * SIZE))
    assert sum(ratios) / len(ratios) >= 0.95

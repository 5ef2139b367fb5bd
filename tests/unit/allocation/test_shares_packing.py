"""How well shares with memory and cores are packed, against the exact best of two GPUs.

Two bests are known exactly, by all states that two GPUs can come into: the best that can be made of a sequence when
nothing is refused that fits, which is the rule of every engine, so that only the places are chosen, with knowledge of
what comes; and the best when requests may also be refused, to keep room for better ones.
"""

from __future__ import annotations

import random

from oci_gpu_hook.allocation import select
from oci_gpu_hook.allocation.model import Busy, Lease, leased
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from tests.unit.allocation import gpus
from tests.unit.allocation.gpus import GIB, HOLDER
from tests.unit.allocation.leasing import request

ROOM, CORES = 79, 100
HOST = of_nvidia.of([gpus.gpu(index) for index in range(2)], reserve=GIB)
MEMORY = (2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40)  # GiB
Items = list[tuple[int, int]]  # GiB and percent
Left = tuple[int, int]


def apart(dice, _memory):
    """Cores that have nothing to do with the memory."""
    return dice.choice((5, 10, 15, 20, 25, 30, 40, 50))


def alike(dice, memory):
    """Cores in proportion to the memory, more or less."""
    return max(1, round(memory / ROOM * 100 * dice.uniform(0.5, 1.5)))


def sometimes(dice, _memory):
    """Cores are limited for some."""
    return dice.choice((0, 0, 10, 25, 50))


def mix(seed, load, cores_of) -> Items:
    dice, items = random.Random(seed), Items()
    while max(sum(item[0] for item in items) / ROOM, sum(item[1] for item in items) / CORES) < load * len(HOST):
        memory = dice.choice(MEMORY)
        items.append((memory, cores_of(dice, memory)))
    return items


def worth(memory: int, cores: int) -> float:
    return memory / ROOM + cores / CORES


def best(items: Items, *, refusing: bool) -> float:
    """Return the worth of the best packing: every state is followed, and equal ones only once."""
    states: set[tuple[Left, ...]] = {((ROOM, CORES),) * len(HOST)}
    for memory, cores in items:
        after = set()
        for state in states:
            places = [place for place, left in enumerate(state) if left[0] >= memory and left[1] >= cores]
            for place in places:
                rest = (state[place][0] - memory, state[place][1] - cores)
                after.add(tuple(sorted((*state[:place], rest, *state[place + 1 :]))))
            if refusing or not places:
                after.add(state)
        states = after
    return max(sum(worth(ROOM - memory, CORES - cores) for memory, cores in state) for state in states)


def packed(items: Items) -> float:
    """Return the worth of what is granted, each request as it comes."""
    held: list[Lease] = []
    total = 0.0
    for memory, cores in items:
        wish = request(count=1, memory_limit=memory * GIB, cores=cores)
        try:
            found = select.choose(wish, HOST, held)
        except Busy:
            continue
        total += worth(memory, cores)
        devices = tuple(leased(device, wish) for device in found)
        held.append(Lease(container="", devices=devices, exclusive=False, holder=HOLDER, since=""))
    return total


def mean(numbers):
    return sum(numbers) / len(numbers)


MIXES = [(seed, load, cores_of) for seed in range(40) for load in (0.9, 1.0, 1.2, 1.5) for cores_of in (apart, alike)]
MIXES += [(seed, load, sometimes) for seed in range(40) for load in (0.9, 1.0, 1.2, 1.5)]


def test_what_is_placed_is_near_the_best_of_the_same_requests():
    ratios = [packed(items) / best(items, refusing=False) for items in (mix(*each) for each in MIXES)]
    print(f"{mean(ratios):.3f} of the best, the worst {min(ratios):.3f}, of {len(ratios)}")
    assert all(ratio < 1 + 1e-9 for ratio in ratios), "or the best is none"
    assert mean(ratios) >= 0.95


def test_no_rule_that_refuses_nothing_comes_near_to_a_free_choice():
    """The bound for every rule: not even one that knows what comes is near to a choice of whom to refuse."""
    mixes = [mix(seed, 1.5, cores_of) for seed in range(5) for cores_of in (apart, sometimes)]
    assert mean([best(items, refusing=False) / best(items, refusing=True) for items in mixes]) < 0.95

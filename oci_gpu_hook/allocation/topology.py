"""Chooses devices that are close to each other: by links, then NUMA node, PCIe switch, lowest index. Pure."""

from __future__ import annotations

from itertools import combinations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.devices.model import Device

# How many pairs may be compared. This allows all sets of 8 GPUs (at most 70 sets of 6 pairs) and all pairs and triples
# of 16. Beyond it sets are grown GPU by GPU, from each GPU in turn, which is cubic and not exponential.
MOST_PAIRS: Final = 2000
# A weight combines three numbers; each outweighs the greatest sum of the next over all pairs of 64 GPUs.
_LINK: Final = 1 << 24
_NUMA: Final = 1 << 12


def best(given: Sequence[Device], pool: Sequence[Device], wanted: int) -> tuple[Device, ...]:
    """Return the `wanted` devices of `pool` that are closest to each other and to those `given`. Deterministic."""
    pool = sorted(pool, key=lambda device: device.index)
    if wanted >= len(pool) or wanted <= 0:
        return tuple(pool[:wanted])
    pool = _distinct(given, pool, wanted)
    if wanted == len(pool):
        return tuple(pool)
    fabric = _Fabric([*given, *pool])
    if fabric.uniform:
        return tuple(pool[:wanted])
    start = tuple(range(len(given)))
    free = range(len(given), len(given) + len(pool))
    if _sets(len(free), wanted) * (wanted + len(given)) ** 2 // 2 <= MOST_PAIRS:
        candidates = [start + chosen for chosen in combinations(free, wanted)]
    elif start:
        candidates = [fabric.grown(start, free, wanted)]
    else:
        candidates = [fabric.grown((seed,), free, wanted - 1) for seed in free]
    chosen = max(candidates, key=fabric.rank)
    return tuple(fabric.devices[number] for number in chosen[len(start) :])


class _Fabric:
    """How close each pair of devices is; devices are indices into `devices`."""

    def __init__(self, devices: list[Device]) -> None:
        self.devices = devices
        known = [(device, dict(device.peer_links)) for device in devices]
        self.weights = [[_weight(*one, *other) for other in known] for one in known]
        pairs = {self.weights[i][j] for i in range(len(devices)) for j in range(i)}
        self.uniform = len(pairs) <= 1

    def rank(self, chosen: tuple[int, ...]) -> tuple[bool, int, list[int]]:
        """Return a key that orders sets: connected by links, then the sum over pairs, then the lowest indices."""
        weights = self.weights
        total = sum(weights[one][other] for one, other in combinations(chosen, 2))
        return self._joined(chosen), total, sorted((-number for number in chosen), reverse=True)

    def grown(self, start: tuple[int, ...], free: range, wanted: int) -> tuple[int, ...]:
        """Add to `start` the device that improves the set most, `wanted` times; of equals the lowest."""
        chosen = list(start)
        rest = [number for number in free if number not in start]
        gains = {number: sum(self.weights[number][other] for other in start) for number in rest}
        for _ in range(wanted):
            taken = max(rest, key=lambda number: (gains[number], -number))
            rest.remove(taken)
            chosen.append(taken)
            for number in rest:
                gains[number] += self.weights[number][taken]
        return (*chosen[: len(start)], *sorted(chosen[len(start) :]))

    def _joined(self, chosen: tuple[int, ...]) -> bool:
        reached = {chosen[0]}
        border = [chosen[0]]
        while border:
            row = self.weights[border.pop()]
            fresh = [number for number in chosen if number not in reached and row[number] >= _LINK]
            reached.update(fresh)
            border += fresh
        return len(reached) == len(chosen)


def _distinct(given: Sequence[Device], pool: Sequence[Device], wanted: int) -> Sequence[Device]:
    """Return the pool without the devices of no known place that nobody would choose before as many others of these.

    All are equally far from everything, so the lowest go first. CDI files may have thousands.
    """
    linked = {index for device in (*given, *pool) for index, _ in device.peer_links}
    rest = [device for device in pool if not _has_a_place(device) and device.index not in linked]
    surplus = {device.index for device in rest[wanted:]}
    return [device for device in pool if device.index not in surplus]


def _has_a_place(device: Device) -> bool:
    return bool(device.peer_links or device.pcie_switch) or device.numa_node is not None


def _weight(one: Device, its: Mapping[int, int], other: Device, others: Mapping[int, int]) -> int:
    """Return how close two devices are. its, others: how many links each has to which index."""
    if one.index == other.index:
        return 0
    links = max(its.get(other.index, 0), others.get(one.index, 0))
    same_node = one.numa_node is not None and one.numa_node == other.numa_node
    same_switch = bool(one.pcie_switch) and one.pcie_switch == other.pcie_switch
    return links * _LINK + same_node * _NUMA + same_switch


def _sets(size: int, chosen: int) -> int:
    """Return the number of ways to choose, without importing math."""
    ways = 1
    for step in range(min(chosen, size - chosen)):
        ways = ways * (size - step) // (step + 1)
    return ways

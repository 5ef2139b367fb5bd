"""Of several sets of GPUs the one that is joined best is chosen: by NVLink, NUMA nodes and switches."""

from __future__ import annotations

import time
from itertools import combinations

import pytest

from oci_gpu_hook.allocation import select, topology
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from tests.unit.allocation.gpus import gpu, host, indices, lease, linked, request, uuid

# The pairs of an NVIDIA DGX-1V: a hybrid cube mesh in which some pairs have two NVLinks, some one, some none.
CUBE_MESH = {
    **dict.fromkeys([(0, 3), (0, 4), (1, 2), (1, 5), (2, 3), (4, 7), (5, 6), (6, 7)], 2),
    **dict.fromkeys([(0, 1), (0, 2), (1, 3), (2, 6), (3, 7), (4, 5), (4, 6), (5, 7)], 1),
}
ISLANDS = {(a, b): 4 for start in (0, 2, 4, 6) for a, b in [(start, start + 1)]}


def test_a_pair_joined_by_nvlink_is_preferred_to_a_lower_index():
    islands = linked(8, ISLANDS)
    assert indices(select.choose(request(count=2), islands, [lease("a", uuid(0), exclusive=True)])) == [2, 3]
    assert indices(select.choose(request(count=4), islands, [lease("a", uuid(1), exclusive=True)])) == [2, 3, 4, 5]


def test_the_pair_with_more_nvlinks_is_preferred():
    assert indices(select.choose(request(count=2), linked(8, CUBE_MESH), [])) == [0, 3]


def test_a_joined_set_is_preferred_to_more_links_in_two_parts():
    host_of_six = linked(6, {(0, 1): 12, (2, 3): 12, (3, 4): 1, (4, 5): 1, (2, 5): 1})
    assert indices(select.choose(request(count=4), host_of_six, [])) == [2, 3, 4, 5]


def test_without_nvlink_one_numa_node_then_one_switch_decide():
    nodes = host(*(gpu(i, numa_node=i % 2, pcie_switch=f"{i // 4}") for i in range(8)))
    assert indices(select.choose(request(count=2), nodes, [])) == [0, 2]
    assert indices(select.choose(request(count=2), nodes, [lease("a", uuid(0), exclusive=True)])) == [1, 3]
    unknown = host(*(gpu(i, numa_node=None, pcie_switch="") for i in range(4)))
    assert indices(select.choose(request(count=2), unknown, [])) == [0, 1]


def test_what_balance_has_chosen_draws_what_topology_chooses():
    islands = linked(4, {(0, 3): 4, (1, 2): 4})
    leases = [lease("a", uuid(0)), lease("b", uuid(1)), lease("c", uuid(2))]
    assert indices(select.choose(request(count=2), islands, leases)) == [0, 3]


def rank(gpus, chosen):
    weights = topology._Fabric(list(gpus))
    return weights.rank(tuple(chosen))[:2]


@pytest.mark.parametrize(
    ("taken", "wanted"),
    [(taken, wanted) for taken in [(), (0,), (3, 4, 9), (1, 2, 5, 8, 10, 14)] for wanted in range(1, 17 - len(taken))],
)
def test_sixteen_gpus_get_as_good_a_set_as_trying_all_would_find(taken, wanted):
    """Two boards of 8, each an NVLink mesh, as in a DGX-2 cut in half: beyond the bound the search is greedy."""
    links = {(a + board, b + board): 6 for board in (0, 8) for a, b in combinations(range(8), 2)}
    machine = linked(16, links)
    pool = [one for one in machine if one.index not in taken]
    chosen = topology.best([], pool, wanted)
    assert len({one.index for one in chosen}) == wanted
    # By hand: all from one board if it suffices, else the larger board whole and the rest from the other.
    boards = sorted((sum(one.index < 8 for one in pool), sum(one.index >= 8 for one in pool)), reverse=True)
    counts = sorted((sum(one.index < 8 for one in chosen), sum(one.index >= 8 for one in chosen)), reverse=True)
    assert counts == ([wanted, 0] if wanted <= boards[0] else [boards[0], wanted - boards[0]])


@pytest.mark.parametrize("wanted", range(2, 8))
def test_growing_finds_what_trying_all_finds_on_a_cube_mesh(wanted, monkeypatch):
    machine = linked(8, CUBE_MESH)
    exhaustive = topology.best([], machine, wanted)
    monkeypatch.setattr(topology, "MOST_PAIRS", 0)
    grown = topology.best([], machine, wanted)
    assert rank(machine, [one.index for one in grown]) == rank(machine, [one.index for one in exhaustive])


def test_the_search_is_bounded(monkeypatch):
    looked_at = 0
    weigh = topology._Fabric.rank

    def counting(self, chosen):
        nonlocal looked_at
        looked_at += len(chosen) * (len(chosen) - 1) // 2
        return weigh(self, chosen)

    monkeypatch.setattr(topology._Fabric, "rank", counting)
    machine = linked(64, {(a, a + 1): 1 for a in range(0, 64, 2)})
    for wanted in range(1, 64):
        looked_at = 0
        assert len(topology.best([], machine, wanted)) == wanted
        assert looked_at <= max(topology.MOST_PAIRS, 64 * wanted * (wanted - 1) // 2)


def test_thousands_of_devices_that_tell_no_place_are_not_compared_by_pairs():
    """As a CDI file may describe: every pair of 5,000 would take ten seconds, under the lock of the leases."""
    many = of_nvidia.of(tuple(gpu(i, numa_node=None, pcie_switch="") for i in range(5000)))
    started = time.process_time()
    assert [device.index for device in topology.best(many[:1], many[1:], 3)] == [1, 2, 3]
    near = gpu(5000, numa_node=0, pcie_switch=""), gpu(5001, numa_node=0, pcie_switch="")
    some = (*many, *of_nvidia.of(near))
    assert [device.index for device in topology.best(many[:1], some[1:], 3)] == [1, 5000, 5001]
    assert time.process_time() - started < 1

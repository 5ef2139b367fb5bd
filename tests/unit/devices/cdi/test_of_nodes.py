"""Which devices a container can use by nodes that others have put into it."""

from __future__ import annotations

import pytest

from oci_gpu_hook.devices.cdi import devices as of_cdi
from oci_gpu_hook.devices.cdi import of_nodes
from oci_gpu_hook.devices.cdi.model import Described, Inventory
from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode

KIND = "vendor.com/thing"


def devices(**nodes: tuple[int, ...]):
    """Return devices by name, each with nodes of major 240 and these minors."""
    described = tuple(
        Described(
            name=name,
            file=0,
            edits=ContainerEdits(
                device_nodes=tuple(
                    DeviceNode(path=f"/dev/t{minor}", type="c", major=240, minor=minor, host_path=f"/host/t{minor}")
                    for minor in minors
                )
            ),
        )
        for name, minors in nodes.items()
    )
    inventory = Inventory(kind=KIND, directories=(), files=(("f", ContainerEdits()),), devices=described)
    return of_cdi.of(inventory)


CASES = [
    ({"a": (0, 9), "b": (1, 9)}, (0, 9), {"a"}),
    ({"a": (0, 9), "b": (1, 9)}, (9,), set()),
    ({"a": (0, 9), "b": (1, 9)}, (0, 1), {"a", "b"}),
    ({"a": (0, 9), "b": (1, 9)}, (7,), set()),
    ({"a": (0, 9), "b": (1, 9), "all": (0, 1, 9)}, (0, 1, 9), {"a", "b"}),
    ({"a": (0, 9)}, (9,), {"a"}),
    ({"whole": (0, 1, 2, 3), "p1": (0, 1), "p2": (0, 2)}, (0, 1), {"p1"}),
    ({"whole": (0, 1, 2, 3), "p1": (0, 1), "p2": (0, 2)}, (0, 1, 2, 3), {"whole"}),
    ({"all": (0, 1, 2), "p1": (0, 1), "p2": (0, 2)}, (0, 1, 2), {"p1", "p2"}),
]


@pytest.mark.parametrize(("nodes", "minors", "expected"), CASES)
@pytest.mark.parametrize("bound", [False, True], ids=["numbers", "paths"])
def test_a_device_is_told_by_a_node_that_no_other_has(nodes, minors, expected, bound):
    numbers = () if bound else tuple((240, minor) for minor in minors)
    paths = tuple(f"/host/t{minor}" for minor in minors) if bound else ()
    found = of_nodes.used(devices(**nodes), numbers, paths)
    assert {device.name for device in found} == expected


def test_what_has_no_node_is_not_told():
    one = Described(name="a", file=0, edits=ContainerEdits(env=("A=1",)))
    fifo = Described(name="b", file=0, edits=ContainerEdits(device_nodes=(DeviceNode(path="/dev/p", type="p"),)))
    inventory = Inventory(kind=KIND, directories=(), files=(("f", ContainerEdits()),), devices=(one, fifo))
    found = of_cdi.of(inventory)
    assert of_nodes.used(found, ((240, 0),), ()) == ()
    assert [device.name for device in of_nodes.used(found, (), ("/dev/p",))] == ["b"]

"""What of a specification's edits config.json has already."""

from __future__ import annotations

import pytest

from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice
from oci_gpu_hook.plan import there

NODE = DeviceNode(path="/dev/x", host_path="/dev/y", type="u", major=1, minor=2)
EDITS = ContainerEdits(
    env=("A=1",),
    device_nodes=(NODE,),
    net_devices=(NetDevice(host_interface_name="eth7", name="eth0"),),
    mounts=(Mount(host_path="/a", container_path="/b/"),),
    hooks=(Hook(hook_name="poststop", path="/h", args=("h", "x")),),
    additional_gids=(5,),
    intel_rdt=IntelRdt(clos_id="c"),
)
APPLIED = {
    "process": {"env": ["A=1"], "user": {"gid": 0, "additionalGids": [5]}},
    "mounts": [{"destination": "/b", "source": "/a"}],
    "hooks": {"poststop": [{"path": "/h", "args": ["h", "x"], "timeout": 9}]},
    "linux": {
        "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 2}],
        "netDevices": {"eth7": {"name": "eth0"}},
        "intelRdt": {"closID": "c"},
    },
}


def test_what_is_applied_is_there():
    assert there.remaining(EDITS, APPLIED) == ContainerEdits()


@pytest.mark.parametrize("config", [{}, {"process": None, "mounts": 1, "hooks": [], "linux": "x"}])
def test_nothing_is_there_of_what_is_not(config):
    assert there.remaining(EDITS, config) == EDITS


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"process": {"env": ["A=2"]}}, "env"),
        ({"mounts": [{"destination": "/b", "source": "/other"}]}, "mounts"),
        ({"hooks": {"prestart": [{"path": "/h", "args": ["h", "x"]}]}}, "hooks"),
        ({"hooks": {"poststop": [{"path": "/h"}]}}, "hooks"),
        ({"linux": {"devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]}}, "device_nodes"),
        ({"linux": {"devices": [{"path": "/dev/x", "type": "b", "major": 1, "minor": 2}]}}, "device_nodes"),
        ({"linux": {"intelRdt": {"closID": "d"}}}, "intel_rdt"),
    ],
)
def test_another_in_its_place_is_not_it(config, field):
    assert getattr(there.remaining(EDITS, config), field) == getattr(EDITS, field)


def test_a_place_has_several_names():
    node = {"path": "/dev//x/", "type": "c", "major": 1, "minor": 2}
    left = there.remaining(EDITS, {"mounts": [{"destination": "/b//.", "source": "/a"}], "linux": {"devices": [node]}})
    assert (left.mounts, left.device_nodes) == ((), ())


def test_a_node_that_is_bound_is_there():
    bound = {"mounts": [{"destination": "/dev/x", "source": "/dev/y", "type": "bind"}]}
    assert there.remaining(EDITS, bound).device_nodes == ()

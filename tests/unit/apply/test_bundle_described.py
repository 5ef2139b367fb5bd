"""What CDI specifications bring, in config.json: as CDI's own library writes it, and taken out again."""

from __future__ import annotations

import copy
import json
import os
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oci_gpu_hook.apply import bundle_described, bundle_record
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice

EDITS = ContainerEdits(
    env=("A=1", "PATH=/mine"),
    device_nodes=(
        DeviceNode(path="/dev/c", host_path="/dev/c", type="u", major=1, minor=2, file_mode=0o640, uid=3, gid=4,
                   permissions="rwm"),
        DeviceNode(path="/dev/e", host_path="/dev/host", type="b", major=1, minor=3, permissions="r"),
        DeviceNode(path="/dev/none", host_path="/dev/none", type="c", major=1, minor=4, permissions="none"),
        DeviceNode(path="/dev/p", host_path="/dev/p", type="p", permissions="rwm"),
    ),
    net_devices=(NetDevice(host_interface_name="eth7", name="eth0"),),
    mounts=(
        Mount(host_path="/a", container_path="/deep/er/place", options=("rbind", "rslave")),
        Mount(host_path="/f", container_path="/deep", options=("ro",)),
        Mount(host_path="tmpfs", container_path="/t", type="tmpfs", options=("size=1k",)),
    ),
    hooks=(Hook(hook_name="createContainer", path="/h", args=("h", "x"), env=("B=2",), timeout=5),),
    additional_gids=(44,),
    intel_rdt=IntelRdt(clos_id="c", schemata=("x",), enable_monitoring=True),
)  # fmt: skip
BEFORE: dict[str, Any] = {
    "process": {"env": ["PATH=/bin", "HOME=/"], "user": {"uid": 0, "gid": 0, "additionalGids": [1]}},
    "mounts": [{"destination": "/proc", "source": "proc"}, {"destination": "/deep", "source": "/other"}],
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "devices": [{"path": "/dev/c", "type": "c", "major": 9, "minor": 9}],
        "intelRdt": {"closID": "old"},
    },
}


def put_in(config, edits=EDITS, *, user_namespace=False):
    record = bundle_described.put_in(config, edits, user_namespace=user_namespace)
    return json.loads(json.dumps(record))  # as it is kept


def by_destination(config):
    return config | {"mounts": sorted(config["mounts"], key=lambda entry: entry["destination"])}


def test_the_forms_are_those_of_the_runtime_specification():
    config = copy.deepcopy(BEFORE)
    put_in(config)
    linux, process = config["linux"], config["process"]
    assert process["env"] == ["HOME=/", "A=1", "PATH=/mine"]
    assert process["user"]["additionalGids"] == [1, 44]
    assert linux["devices"] == [
        {"path": "/dev/c", "type": "c", "major": 1, "minor": 2, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/e", "type": "b", "major": 1, "minor": 3},
        {"path": "/dev/none", "type": "c", "major": 1, "minor": 4},
        {"path": "/dev/p", "type": "p"},
    ]
    assert linux["resources"]["devices"][1:] == [
        {"allow": True, "type": "c", "major": 1, "minor": 2, "access": "rwm"},
        {"allow": True, "type": "b", "major": 1, "minor": 3, "access": "r"},
    ]
    assert config["mounts"] == [
        {"destination": "/proc", "source": "proc"},
        {"destination": "/deep", "source": "/f", "options": ["ro", "bind"], "type": "bind"},
        {"destination": "/t", "source": "tmpfs", "options": ["size=1k"], "type": "tmpfs"},
        {"destination": "/deep/er/place", "source": "/a", "options": ["rbind", "rslave"], "type": "bind"},
    ]
    assert config["hooks"] == {"createContainer": [{"path": "/h", "args": ["h", "x"], "env": ["B=2"], "timeout": 5}]}
    assert linux["intelRdt"] == {"closID": "c", "schemata": ["x"], "enableMonitoring": True}
    assert linux["netDevices"] == {"eth7": {"name": "eth0"}}


def test_in_a_user_namespace_the_hook_binds_what_the_runtime_would_not_find():
    config = copy.deepcopy(BEFORE)
    put_in(config, user_namespace=True)
    assert [entry["path"] for entry in config["linux"]["devices"]] == ["/dev/c", "/dev/none", "/dev/p"]
    assert len(config["linux"]["resources"]["devices"]) == 3, "the rules are there all the same"
    assert config["process"]["user"]["additionalGids"] == [1]


def test_what_is_there_is_not_put_in_twice():
    config = copy.deepcopy(BEFORE)
    put_in(config)
    once = copy.deepcopy(config)
    assert put_in(config) == {"added": [], "removed": [], "replaced": []}
    assert config == once


def test_what_was_put_in_comes_out():
    config = copy.deepcopy(BEFORE)
    bundle_described.take_out(config, put_in(config))
    config["linux"].pop("netDevices")
    config.pop("hooks")
    config["process"]["env"].sort()
    before = copy.deepcopy(BEFORE)
    before["process"]["env"].sort()
    assert by_destination(config) == by_destination(before)


def test_what_others_have_changed_since_stays():
    config = copy.deepcopy(BEFORE)
    record = put_in(config)
    config["process"]["env"] = ["PATH=/theirs"]
    config["mounts"][1]["options"] = ["rw"]
    config["linux"]["intelRdt"] = {"closID": "theirs"}
    bundle_described.take_out(config, record)
    assert "PATH=/theirs" in config["process"]["env"]
    assert {"destination": "/deep", "source": "/f", "options": ["rw"], "type": "bind"} in config["mounts"]
    assert config["linux"]["intelRdt"] == {"closID": "theirs"}


_names = st.sampled_from(["a", "b", "c"])
_edits = st.builds(
    ContainerEdits,
    env=st.lists(st.builds("{}={}".format, _names, _names), max_size=3).map(tuple),
    mounts=st.lists(
        st.builds(Mount, host_path=_names, container_path=st.builds("/{}/{}".format, _names, _names)), max_size=3
    ).map(tuple),
    device_nodes=st.lists(
        st.builds(
            DeviceNode, path=st.builds("/dev/{}".format, _names), type=st.sampled_from("cb"), major=st.integers(0, 2),
            minor=st.integers(0, 2), permissions=st.sampled_from(["rw", "rwm"]),
        ),
        max_size=3, unique_by=lambda node: node.path,
    ).map(tuple),
    additional_gids=st.lists(st.integers(0, 3), unique=True).map(tuple),
)  # fmt: skip


@given(_edits, _edits)
def test_whatever_was_put_in_comes_out(first, second):
    """What a bundle has, be it what another specification has brought, is there again."""
    config: dict[str, Any] = {}
    put_in(config, first)
    before = copy.deepcopy(config)
    bundle_described.take_out(config, put_in(config, second))
    assert _contents(config) == _contents(before)


def test_thousands_of_nodes_and_mounts_are_put_in_and_taken_out_at_once():
    """A file may have some ten thousand; each was compared with each, for minutes while the engine waited."""
    many = range(10_000)
    edits = ContainerEdits(
        device_nodes=tuple(
            DeviceNode(path=f"/dev/{number}", type="c", major=9, minor=number, permissions="rw") for number in many
        ),
        mounts=tuple(Mount(host_path="/a", container_path=f"/a/{number}") for number in many),
    )
    config: dict[str, Any] = {"mounts": [{"destination": "/proc", "source": "proc"}]}
    began = time.process_time()
    record = put_in(config, edits)
    assert len(config["linux"]["resources"]["devices"]) == len(many)
    assert put_in(config, edits)["added"] == []
    bundle_described.take_out(config, record)
    assert time.process_time() - began < 3
    assert _contents(config) == _contents({"mounts": [{"destination": "/proc", "source": "proc"}]})


_json: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["/dev/a", "path", "a=b"]),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(["path", "env", "devices", "resources", "user", "destination"]), inside, max_size=3
        )
    ),
    max_leaves=12,
)


_MOUNT = ContainerEdits(mounts=(Mount(host_path="/a", container_path="/a"),))


@example({"mounts": [{"destination": []}]}, _MOUNT)
@given(st.dictionaries(st.sampled_from(["process", "mounts", "hooks", "linux"]), _json), _edits)
def test_a_config_of_any_form_is_no_internal_error(config, edits):
    put_in(config, edits.replace(hooks=EDITS.hooks, net_devices=EDITS.net_devices, intel_rdt=EDITS.intel_rdt))


def _contents(value: Any) -> Any:
    """Return what a config.json says: empty members say nothing, and no list's order says anything here."""
    if isinstance(value, dict):
        return {name: content for name, each in value.items() if (content := _contents(each)) not in ({}, [])}
    if isinstance(value, list):
        return sorted(json.dumps(_contents(each), sort_keys=True) for each in value)
    return value


@pytest.fixture
def config(tmp_path):
    return Config(state_dir=str(tmp_path / "state"))


def test_the_record_is_kept_for_as_long_as_the_bundle_is_there(tmp_path, config):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    bundle_record.write(str(bundle), {"added": [], "removed": [], "replaced": []}, config)
    found = bundle_record.read(str(bundle), config)
    assert found is not None
    assert found["bundle"] == str(bundle)
    assert bundle_record.read(str(tmp_path), config) is None
    bundle.rmdir()
    other = tmp_path / "other"
    other.mkdir()
    bundle_record.write(str(other), {}, config)
    assert len(os.listdir(tmp_path / "state/bundles")) == 1

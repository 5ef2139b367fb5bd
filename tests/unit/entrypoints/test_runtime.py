"""oci-gpu-runtime without a runtime: its command line, and what it writes into a config.json."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci_gpu_hook.apply import bundle
from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode
from oci_gpu_hook.entrypoints.runtime_call import read_call
from oci_gpu_hook.request.model import PREPARED

CALLS = {
    "create --bundle /b c": ("/b", "c", ""),
    "--root /r --log /l --log-format json --systemd-cgroup create --bundle=/b --pid-file /p c": ("/b", "c", "/l"),
    "--log=/l run -d -b /b c": ("/b", "c", "/l"),
    "run -b/b c": ("/b", "c", ""),
    "create --unknown --bundle /b c": ("/b", "c", ""),
    "--unknown x create --bundle /b c": ("/b", "c", ""),
    "create --console-socket /create --bundle /b run": ("/b", "run", ""),
}
OTHERS = ["", "--version", "state create", "--root run state create", "--log create start c", "delete run", "create"]


@pytest.mark.parametrize("line", CALLS)
def test_calls_that_create(line):
    call = read_call(line.split())
    assert call
    assert (call.bundle, call.container, call.log) == CALLS[line]


@pytest.mark.parametrize("line", OTHERS[:-1])
def test_calls_that_do_not(line):
    assert read_call(line.split()) is None


def test_without_a_bundle_it_is_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = read_call(["run", "c"])
    assert call
    assert call.bundle == str(tmp_path)


def node(minor: int, path: str = "") -> DeviceNode:
    path = path or f"/dev/nvidia{minor}"
    owner = {"file_mode": 0o666, "uid": 0, "gid": 0}
    return DeviceNode(path=path, host_path=path, type="c", major=195, minor=minor, permissions="rw", **owner)


def grant(*minors: int, groups=(), user_namespace: bool = False) -> bundle.Grant:
    edits = ContainerEdits(device_nodes=tuple(map(node, minors)), additional_gids=tuple(groups))
    uuids = tuple(f"GPU-{minor}" for minor in minors)
    return bundle.Grant(uuids=uuids, edits=edits, hook="/x/oci-gpu-hook", user_namespace=user_namespace)


def without_hooks(config: dict) -> dict:
    config = copy.deepcopy(config)
    config.pop("hooks", None)
    return config


configs = st.fixed_dictionaries(
    {},
    optional={
        "process": st.fixed_dictionaries(
            {},
            optional={
                "env": st.lists(
                    st.sampled_from(["A=b", "NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=x"]), unique=True
                ),
                "user": st.just({"uid": 0, "additionalGids": [44]}),
            },
        ),
        "linux": st.fixed_dictionaries(
            {},
            optional={
                "devices": st.lists(
                    st.sampled_from(
                        [{"path": f"/dev/nvidia{n}", "type": "c", "major": 195, "minor": n} for n in range(3)]
                    ),
                    unique_by=str,
                ),
                "resources": st.fixed_dictionaries(
                    {},
                    optional={
                        "devices": st.lists(
                            st.sampled_from(
                                [
                                    {"allow": False, "access": "rwm"},
                                    {"allow": True, "type": "c", "major": 195, "minor": 1, "access": "rw"},
                                ]
                            )
                        )
                    },
                ),
            },
        ),
    },
)


def meaning(config: dict) -> tuple:
    """Return what a config.json says: absent and empty are one, and the order of variables says nothing."""
    process, linux = config.get("process", {}), config.get("linux", {})
    return (
        sorted(process.get("env") or []),
        (process.get("user") or {}).get("additionalGids") or [],
        linux.get("devices") or [],
        (linux.get("resources") or {}).get("devices") or [],
        config.get("annotations") or {},
    )


@settings(max_examples=60)
@given(configs, st.lists(st.integers(0, 2), min_size=1, unique=True), st.sets(st.sampled_from([44, 107])))
def test_what_is_prepared_can_be_restored(config, minors, groups):
    before = meaning(copy.deepcopy(config))
    bundle.prepare(config, grant(*minors, groups=groups))
    prepared = json.loads(json.dumps(config))
    assert bundle.restore(config) is True
    assert meaning(config) == before
    bundle.prepare(config, grant(*minors, groups=groups))
    assert meaning(config) == meaning(prepared)
    assert [len(config["hooks"][stage]) for stage in ("prestart", "poststop")] == [1, 1]


def test_a_forged_note_can_only_take_away():
    denied = {"allow": False, "type": "c", "major": 195, "minor": 0, "access": "rwm"}
    note = {"devices": ["/dev/null"], "rules": [[195, 0], [1, 3]], "groups": [5], "visibleDevices": ["all", "void"]}
    config: dict[str, Any] = {
        "annotations": {PREPARED: json.dumps(note)},
        "process": {"env": ["NVIDIA_VISIBLE_DEVICES=0"]},
        "linux": {"resources": {"devices": [denied]}, "devices": [{"path": "/dev/zero"}]},
    }
    assert bundle.restore(config) is True
    assert config["linux"] == {"resources": {"devices": [denied]}, "devices": [{"path": "/dev/zero"}]}
    assert config["process"]["env"] == ["NVIDIA_VISIBLE_DEVICES=0"]


@pytest.mark.parametrize("text", ["", "null", "[]", "{", '{"devices": 7}', '{"visibleDevices": [1]}', "\ud800"])
def test_what_is_no_note_restores_nothing(text):
    config = {"annotations": {PREPARED: text}, "linux": {"devices": [{"path": "/dev/a"}]}}
    assert bundle.restore(config) is False
    assert config["linux"] == {"devices": [{"path": "/dev/a"}]}


def test_a_node_that_was_there_with_other_numbers_is_the_host_s_now():
    config = {"linux": {"devices": [{"path": "/dev/nvidia0", "type": "c", "major": 1, "minor": 3}]}}
    bundle.prepare(config, grant(0))
    (entry,) = config["linux"]["devices"]
    assert (entry["major"], entry["minor"]) == (195, 0)


def test_a_grant_of_no_gpu_leaves_the_variable():
    config = {"process": {"env": ["NVIDIA_VISIBLE_DEVICES=none"]}}
    bundle.prepare(config, grant())
    assert config["process"]["env"] == ["NVIDIA_VISIBLE_DEVICES=none"]


@pytest.mark.parametrize("stage", ["prestart", "createRuntime"])
def test_a_registered_hook_is_enough(stage):
    config = {"hooks": {stage: [{"path": "/y/oci-gpu-hook"}]}}
    bundle.prepare(config, grant(0))
    assert config["hooks"][stage] == [{"path": "/y/oci-gpu-hook"}]
    assert [entry["path"] for entry in config["hooks"]["poststop"]] == ["/x/oci-gpu-hook"]
    assert sum(len(config["hooks"].get(each, [])) for each in ("prestart", "createRuntime")) == 1

"""What the door of Mesos does to recorded launches: one insertion where GPUs are asked for, nothing elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.entrypoints.mesos import bundle as bundles
from oci_gpu_hook.entrypoints.mesos import launch_info, shim
from oci_gpu_hook.entrypoints.mesos.launch_info import Call
from tests.paths import DATA

RECORDS = json.loads((DATA / "mesos/launches.json").read_text())["records"]
LAUNCHES = [record for record in RECORDS if record["argv"][1:2] == ["launch"]]
ASKING = [
    record for record in LAUNCHES if record["launch_info"].get("rootfs") and "NVIDIA" in str(record["launch_info"])
]
SILENT = [record for record in LAUNCHES if record not in ASKING]
FRONT = "/usr/libexec/oci-gpu-hook/mesos/mesos-containerizer"


def call_of(record: dict) -> Call:
    """Return the recorded call, with the launch information that the agent sent, not what its recorder made of it."""
    text = json.dumps(record["launch_info"], separators=(",", ":"))
    arguments = [f"--launch_info={text}" if a.startswith("--launch_info=") else a for a in record["argv"]]
    environment = record["env"]
    if "MESOS_CONTAINERIZER_LAUNCH_INFO" in environment:
        environment = {**environment, "MESOS_CONTAINERIZER_LAUNCH_INFO": text}
    entries = tuple(f"{name}={value}".encode() for name, value in environment.items())
    return Call(arguments=tuple(map(os.fsencode, arguments)), environment=entries)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host without GPUs and agents: a state directory, and the recorded cgroups."""
    config = tmp_path / "config.toml"
    config.write_text(f'[state]\ndir = "{tmp_path}/state"\n')

    def host(record: dict) -> str:
        monkeypatch.setattr(shim, "read_file", lambda _path: "\n".join(record["cgroup"]).encode())
        return str(config)

    return host


def ids(records: list[dict]) -> list[str]:
    return [record["what"] for record in records]


@pytest.mark.parametrize("record", SILENT, ids=ids(SILENT))
def test_launches_that_ask_for_nothing(record, host):
    assert shim.find(call_of(record), host(record)) is None


def found(call, config: str) -> shim.Launch:
    """Return the launch that asks for GPUs, as one of ASKING does."""
    launch = shim.find(call, config)
    assert launch
    return launch


@pytest.mark.parametrize("record", ASKING, ids=ids(ASKING))
def test_launches_that_ask(record, host, tmp_path):
    call = call_of(record)
    launch = found(call, host(record))
    changed = shim.with_hook(launch, call, FRONT)
    place = launch_info.place_of(b"launch_info", call)
    assert place
    before, after = (launch_info.value_at(place, each) for each in (call, changed))
    (bundle,) = (tmp_path / "state/mesos").iterdir()
    command = {"shell": False, "value": FRONT, "arguments": ["mesos-containerizer", "attach-gpus", str(bundle)]}
    assert json.loads(after) == {**json.loads(before), "pre_exec_commands": [command]}
    assert after.replace(f'"pre_exec_commands":[{json.dumps(command)}],', "", 1) == before
    texts = [call.arguments + call.environment, changed.arguments + changed.environment]
    assert sum(one != other for one, other in zip(*texts, strict=True)) == 1

    config = json.loads((bundle / "config.json").read_text())
    assert (bundle / "config.json").stat().st_mode & 0o777 == 0o600
    assert config["root"] == {"path": record["launch_info"]["rootfs"]}
    variables = record["launch_info"]["environment"]["variables"]
    assert config["process"]["env"] == [f"{v['name']}={v['value']}" for v in variables]
    freezer = next(line.split(":", 2)[2] for line in record["cgroup"] if ":freezer:" in line)
    assert config["annotations"]["mesos.cgroup"] == freezer
    name = ".".join(freezer.removeprefix("/mesos/").split("/mesos/"))
    assert launch.container == name == config["annotations"]["mesos.container"]
    assert bundle.name.startswith(f"{name}~")
    devices = next(line.split(":", 2)[2] for line in record["cgroup"] if ":devices:" in line)
    assert config["linux"]["cgroupsPath"] == devices  # of the topmost container: none of these has its own
    assert "/proc" in [mount["destination"] for mount in config["mounts"]]
    assert "/sys/fs/cgroup/devices" in [mount["destination"] for mount in config["mounts"]]


def test_bundles_of_containers_that_are_gone_are_taken_away(host, tmp_path):
    for record in ASKING[:2]:
        call = call_of(record)
        shim.with_hook(found(call, host(record)), call, FRONT)
    (left,) = os.listdir(tmp_path / "state/mesos")
    assert left.partition("~")[0].rpartition(".")[2] in ASKING[1]["cgroup"][3]


def test_launches_of_one_name_have_a_bundle_each(tmp_path):
    """A nested container may have any id, also that of one whose command has yet to read its bundle."""
    config = Config(state_dir=str(tmp_path / "state"))
    made = [bundles.write({"number": number}, "same" * 60, config) for number in range(3)]
    read = [json.loads((Path(directory) / "config.json").read_text())["number"] for directory in made]
    assert read == [0, 1, 2]


def test_configuration_without_memory_of_a_container(host, tmp_path):
    """A damaged bundle of another container fails nobody."""
    (tmp_path / "state/mesos/other").mkdir(parents=True, mode=0o700)
    (tmp_path / "state").chmod(0o700)
    (tmp_path / "state/mesos/other/config.json").write_text("{")
    call = call_of(ASKING[0])
    assert shim.with_hook(found(call, host(ASKING[0])), call, FRONT) != call


@pytest.mark.parametrize("record", LAUNCHES, ids=ids(LAUNCHES))
def test_bug_fails_only_who_may_ask(record, monkeypatch):
    def bug(*_arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(shim, "find", bug)
    call = call_of(record)
    if "NVIDIA" in str(record["launch_info"]):
        with pytest.raises(ZeroDivisionError):
            shim._find_or_pass(call, "/nowhere")
    else:
        assert shim._find_or_pass(call, "/nowhere") is None

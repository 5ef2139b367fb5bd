"""The compiled form of the specification files: what makes it stale, and what broken and huge ones cost others."""

from __future__ import annotations

import json
import os
import time

import pytest

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.devices.cdi import compiled, compiling
from oci_gpu_hook.devices.cdi.room import Room
from oci_gpu_hook.devices.cdi.spec_files import directories, reading
from oci_gpu_hook.request.model import Request


@pytest.fixture
def config(tmp_path):
    for name in ("etc", "run"):
        (tmp_path / name).mkdir(mode=0o755)
    return Config(cdi_spec_dirs=(str(tmp_path / "etc"), str(tmp_path / "run")), state_dir=str(tmp_path / "state"))


def put(config, name, *, kind="v.com/d", device="a", place=0, **edits):
    path = os.path.join(config.cdi_spec_dirs[place], name)
    edits = edits or {"env": ["A=1"]}
    document = {"cdiVersion": "1.1.0", "kind": kind, "devices": [{"name": device, "containerEdits": edits}]}
    with open(path, "w") as file:
        json.dump(document, file)
    os.chmod(path, 0o644)
    return path


def names(config, kind="v.com/d"):
    return [device.name for device in compiled.of_kind(kind, config).inventory.devices]


def settle():
    time.sleep(0.03)  # longer than a tick of the file system's clock


def test_the_files_are_read_once(config, monkeypatch):
    put(config, "v.json")
    settle()
    assert names(config) == ["a"]
    monkeypatch.setattr(compiling, "compiled", lambda _: pytest.fail("read again"))
    snapshot = compiled.of_kind("v.com/d", config)
    assert [device.name for device in snapshot.inventory.devices] == ["a"]
    assert compiled.is_fresh(snapshot, config)
    assert compiled.kinds(config) == ("v.com/d",)


CHANGES = {
    "another file": lambda config: put(config, "w.json", device="b"),
    "a file of a later directory": lambda config: put(config, "v.json", device="b", place=1),
    "a file written in place": lambda config: put(config, "v.json", device="b"),
    "a file removed": lambda config: os.unlink(os.path.join(config.cdi_spec_dirs[0], "v.json")),
    "a file that others may write": lambda config: os.chmod(os.path.join(config.cdi_spec_dirs[0], "v.json"), 0o666),
    "a directory that others may write": lambda config: os.chmod(config.cdi_spec_dirs[0], 0o777),
    "a directory above that others may write": lambda config: os.chmod(os.path.dirname(config.cdi_spec_dirs[0]), 0o777),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_makes_it_stale(config, change):
    put(config, "v.json")
    settle()
    before = compiled.of_kind("v.com/d", config)
    CHANGES[change](config)
    assert not compiled.is_fresh(before, config)
    expected = {"another file": ["a", "b"], "a file of a later directory": ["a", "b"], "a file written in place": ["b"]}
    assert names(config) == expected.get(change, [])


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_while_it_is_read_is_read_again(config, monkeypatch, change):
    """Of a file that was read before it changed the old text is there, and the new facts would keep it for good."""
    put(config, "v.json")
    settle()
    read = directories.read

    def read_slowly(*arguments):
        found = read(*arguments)
        CHANGES[change](config)
        settle()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(directories, "read", read_slowly)
        before = names(config)
    expected = {"another file": ["a", "b"], "a file of a later directory": ["a", "b"], "a file written in place": ["b"]}
    assert (before, names(config)) == (["a"], expected.get(change, []))


def test_a_directory_that_comes_into_being_counts(config):
    later = os.path.join(os.path.dirname(config.state_dir), "later")
    config = config.replace(cdi_spec_dirs=(*config.cdi_spec_dirs, later))
    put(config, "v.json")
    settle()
    assert names(config) == ["a"]
    os.mkdir(later, 0o755)
    put(config, "v.json", device="b", place=2)
    assert names(config) == ["a", "b"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"facts": 1}', b'{"paths": [1], "above": [], "facts": []}'])
def test_a_compiled_form_that_is_none_is_made_again(config, data):
    put(config, "v.json")
    os.mkdir(config.state_dir, 0o700)
    path = os.path.join(config.state_dir, compiled.NAME)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o600)
    assert names(config) == ["a"]


def test_a_compiled_form_that_others_wrote_is_not_believed(config):
    put(config, "v.json")
    settle()
    assert names(config) == ["a"]
    path = os.path.join(config.state_dir, compiled.NAME)
    with open(path) as file:
        forged = file.read().replace('"a"', '"forged"')
    with open(path, "w") as file:
        file.write(forged)
    assert names(config) == ["forged"], "this user's own is believed"
    os.chmod(path, 0o666)
    assert names(config) == ["a"]


def test_every_field_survives(config):
    edits = {
        "env": ["A=1"],
        "deviceNodes": [
            {"path": "/dev/x", "hostPath": "/dev/y", "type": "c", "major": 0, "minor": 0, "fileMode": 0,
             "permissions": "r", "uid": 0, "gid": 5},
        ],
        "netDevices": [{"hostInterfaceName": "eth0", "name": "net1"}],
        "mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["ro"], "type": "bind"}],
        "hooks": [{"hookName": "poststop", "path": "/h", "args": ["h"], "env": ["B=2"], "timeout": 3}],
        "additionalGids": [1],
        "intelRdt": {"closID": "c", "l3CacheSchema": "l", "memBwSchema": "m", "schemata": ["s"],
                     "enableMonitoring": True},
    }  # fmt: skip
    path = put(config, "v.json", **edits)
    with open(path, "rb") as file:
        said = reading.parse(file.read(), is_json=True).specification
    assert said is not None
    (device,) = compiled.of_kind("v.com/d", config).inventory.devices
    assert device.edits == said.devices[0].edits


def test_huge_and_broken_files_leave_the_others_to_those_who_ask(config):
    """The largest files are left out until the rest can be read in time."""
    put(config, "good.json", device="good")
    for number in range(12):
        path = put(config, f"huge-{number:02}.json", kind="h.com/d", device=f"h{number}", env=[f"A={'x' * 450_000}"])
        assert os.path.getsize(path) < limits.CDI_SPEC
    for number in range(40):
        path = os.path.join(config.cdi_spec_dirs[0], f"broken-{number}.yaml")
        with open(path, "w") as file:
            file.write("a: &a [" + "x," * 20 + "]\n" + "b: [*a, {]\n")
        os.chmod(path, 0o644)
    settle()
    started = time.monotonic()
    inventory = compiled.of_kind("v.com/d", config).inventory
    assert time.monotonic() - started < limits.CDI_SECONDS
    assert [device.name for device in inventory.devices] == ["good"]
    assert len(inventory.broken) >= 40
    assert any("have more than" in text or "too much" in text for text in inventory.broken)
    assert os.path.getsize(os.path.join(config.state_dir, compiled.NAME)) <= limits.CDI_COMPILED


def test_an_alias_of_a_long_text_counts_as_often_as_it_stands(config):
    path = os.path.join(config.cdi_spec_dirs[0], "bomb.yaml")
    with open(path, "w") as file:
        file.write('cdiVersion: "0.6.0"\nkind: v.com/d\ndevices:\n- name: a\n  containerEdits:\n    env:\n')
        file.write(f"    - &a A={'x' * 400_000}\n" + "    - *a\n" * 5000)
    os.chmod(path, 0o644)
    put(config, "good.json", kind="g.com/d")
    inventory = compiled.of_kind("g.com/d", config).inventory
    assert [device.name for device in inventory.devices] == ["a"]
    assert any("has more than 200000 values" in text for text in inventory.broken)


def test_what_the_engine_may_have_served_does_not_fail_by_files_that_cannot_be_read(config, monkeypatch):
    def refuse(_directories):
        raise DriverError("CDI specifications", "python3 has no module yaml", "install PyYAML")

    monkeypatch.setattr(compiling, "compiled", refuse)
    asked = Request(kind="v.com/d", devices=("a",), driver_capabilities=(), source="annotations")
    with pytest.raises(DriverError, match="no module yaml"):
        Room("v.com/d").snapshot(asked, config)
    asked = asked.replace(engine_serves=True)
    snapshot = Room("v.com/d").snapshot(asked, config)
    served, (warning,) = Room("v.com/d").served(asked, snapshot.inventory, ())
    assert served == ()
    assert "no module yaml" in warning


def test_files_that_take_too_long_are_an_error_in_time(config, monkeypatch):
    put(config, "v.json")
    monkeypatch.setattr(limits, "CDI_SECONDS", 0.2)
    monkeypatch.setattr(compiling, "_read", lambda _: time.sleep(60))
    started = time.monotonic()
    with pytest.raises(DriverError, match=r"could not be read within 0.2 s"):
        names(config)
    assert time.monotonic() - started < 5

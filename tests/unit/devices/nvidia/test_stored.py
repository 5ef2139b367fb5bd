"""What is stored may be damaged, or another's: then the host is looked at again."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from oci_gpu_hook.devices.nvidia import for_request, snapshot, stored, vendor
from oci_gpu_hook.request.model import Request
from tests.paths import ROOT
from tests.unit.devices.nvidia import driver_trees as trees

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="device nodes and other owners need root")
pytestmark = pytest.mark.usefixtures("x86_64")


def stored_in(config):
    return os.path.join(config.state_dir, stored.NAME)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"inventory": null}',
        b'{"inventory": {"gpus": 3}}',
    ],
)
def test_a_damaged_file_is_made_anew(host, damage):
    expected = snapshot.load(host)
    with open(stored_in(host), "rb+") as file:
        file.truncate()
        file.write(damage)
    assert snapshot.load(host) == expected
    with open(stored_in(host)) as file:
        assert json.load(file)["inventory"]["driver_version"] == "580.95.05"


def test_a_file_cut_anywhere_is_made_anew(host):
    expected = snapshot.load(host)
    with open(stored_in(host), "rb") as file:
        whole = file.read()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        with open(stored_in(host), "wb") as file:
            file.write(whole[:length])
        assert snapshot.load(host) == expected


@pytest.mark.parametrize("part", ["candidates", "watched", "present", "facts", "inventory"])
@pytest.mark.parametrize("value", [None, 3, "x", [3], [[]]])
def test_parts_of_another_form_are_made_anew(host, part, value):
    expected = snapshot.load(host)
    with open(stored_in(host)) as file:
        document = json.load(file)
    document[part] = value
    with open(stored_in(host), "w") as file:
        json.dump(document, file)
    assert snapshot.load(host) == expected


@needs_root
@pytest.mark.parametrize("change", ["writable", "foreign", "link", "fifo"])
def test_a_file_that_others_could_have_written_is_not_believed(host, tmp_path, change):
    expected = snapshot.load(host)
    with open(stored_in(host)) as file:
        forged = file.read().replace("libcuda.so.1", "libevil.so.1")
    os.unlink(stored_in(host))
    if change == "fifo":
        os.mkfifo(stored_in(host), 0o600)
    elif change == "link":
        trees.link(stored_in(host), trees.write(str(tmp_path / "forged"), forged.encode()))
    else:
        with open(stored_in(host), "w") as file:
            file.write(forged)
        os.chmod(stored_in(host), 0o622 if change == "writable" else 0o600)
        os.chown(stored_in(host), 0 if change == "writable" else 12345, 0)
    assert snapshot.load(host) == expected


def test_a_state_directory_that_cannot_be_written_costs_only_time(host, tmp_path, discoveries):
    trees.write(str(tmp_path / "occupied"))
    config = trees.config(tmp_path, state_dir=str(tmp_path / "occupied/state"))
    assert snapshot.load(config) == snapshot.load(config)
    assert len(discoveries) == 2


def test_many_at_once_look_once(host, tmp_path):
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.devices.nvidia import snapshot as cache, discovery
real = discovery.discover
discovery.discover = lambda config: print("looked") or real(config)
assert len(cache.load(Config(**{host.__dict__!r})).gpus) == 2
"""
    command = [sys.executable, "-c", program]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    outputs = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0] * 8
    assert "".join(outputs) == "looked\n"
    assert sorted(os.listdir(host.state_dir)) == [stored.NAME, "inventory.lock"]


def test_what_a_process_has_parsed_serves_for_the_same_bytes_only(host):
    """As a worker of the resident reads it, for one container after another."""
    snapshot.load(host)
    first = stored.whole(host)
    assert first
    assert stored.whole(host) == first
    with open(stored_in(host), "r+") as file:
        document = json.load(file)
        document["inventory"]["gpus"][0]["name"] = "another name"
        file.seek(0)
        json.dump(document, file)
        file.truncate()
    second = stored.whole(host)
    assert second
    assert [gpu.name for gpu in second.inventory.gpus] == ["another name", first.inventory.gpus[1].name]
    os.remove(stored_in(host))
    assert stored.whole(host) is None


def test_nobody_changes_what_a_process_has_parsed(host):
    """The next container's inventory is made of it, too."""
    snapshot.load(host)
    assert stored.whole(host)
    for capabilities in (("compute", "utility"), ("all",), ("graphics", "display"), ()):
        request = Request(devices=("all",), driver_capabilities=capabilities, source="environment")
        found = for_request.get(request, host)
        vendor.devices(found.inventory, host)
        assert for_request.is_fresh(found, host)
    data, parsed = stored._parsed
    assert data
    assert parsed == json.loads(data)

"""Inventory and CDI files of a simulated host follow what changes there; while nothing does, nothing is asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from oci_gpu_hook.admin.cdi import refresh
from oci_gpu_hook.admin.simulate.host import make, upgrade
from oci_gpu_hook.admin.watch.inventory import Keeper
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.devices.nvidia.devices import KIND

pytestmark = pytest.mark.root  # nodes are made
NEW = "590.48.01"


@pytest.fixture
def host(tmp_path):
    return make(str(tmp_path / "host"), gpus=2)


@pytest.fixture
def said():
    return []


@pytest.fixture
def keeper(host, tmp_path, said):
    config = configs.load(host.config)
    (tmp_path / "cdi").mkdir()
    return Keeper(config, host.config, str(tmp_path / "cdi"), lambda *words, **fields: said.append((*words, fields)))


def test_a_new_driver_is_noticed_once(host, keeper, said):
    assert not keeper.look()
    assert not keeper.look()
    upgrade(host.directory, NEW)
    assert keeper.look()
    assert not keeper.look()
    assert said == [("info", "inventory refreshed", {"driver": NEW, "gpus": 2})]


def test_one_gpu_less(host, keeper, said):
    keeper.look()
    make(host.directory, gpus=1)
    assert keeper.look()
    assert said[0][2]["gpus"] == 1


def test_a_driver_that_goes_and_comes_is_told_of_once(host, keeper, said):
    keeper.look()
    version = Path(host.proc_root, "driver/nvidia/version")
    text = version.read_text()
    version.unlink()
    assert keeper.look()
    assert not keeper.look()
    assert [line[1] for line in said] == ["no inventory"]
    version.write_text(text)
    assert not keeper.look()
    assert [line[1] for line in said] == ["no inventory"]


def test_cdi_files_are_written_again_where_there_are_some(host, keeper, said, tmp_path):
    path = Path(refresh.path_of(str(tmp_path / "cdi"), KIND))
    keeper.look()
    upgrade(host.directory, NEW)
    keeper.look()
    assert not path.exists(), "nobody who has none gets one"
    path.write_text("")
    upgrade(host.directory, host.settings.driver_version)
    keeper.look()
    assert f"libcuda.so.{host.settings.driver_version}" in path.read_text()
    assert ("info", "CDI file written", {"file": str(path)}) in said


def test_a_look_at_what_has_not_changed_opens_no_device_and_starts_nothing(host, keeper):
    keeper.look()
    seen = []
    is_looking = True

    def note(event, arguments):
        if is_looking and event in ("open", "os.fork", "os.posix_spawn", "subprocess.Popen", "import", "ctypes.dlopen"):
            seen.append((event, str(arguments[0]) if arguments else ""))

    sys.addaudithook(note)
    keeper.look()
    is_looking = False
    assert {event for event, _ in seen} == {"open"}
    assert not [path for _, path in seen if "/dev/" in path], seen

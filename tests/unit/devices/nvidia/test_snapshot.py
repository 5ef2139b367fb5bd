"""The stored inventory: good for as long as its facts hold, and never believed further than that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import jsonschema
import pytest

from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.devices.nvidia import discovery, facts, nvml, snapshot, stored
from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory, MigDevice
from tests.paths import ROOT
from tests.unit.devices.nvidia import driver_trees as trees

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="device nodes and other owners need root")
pytestmark = pytest.mark.usefixtures("x86_64")


def stored_in(config):
    return os.path.join(config.state_dir, stored.NAME)


def test_the_host_is_looked_at_once(host, discoveries):
    first = snapshot.load(host)
    assert snapshot.load(host) == snapshot.load(host) == first
    assert len(discoveries) == 1
    assert first.driver_version == "580.95.05"
    assert [gpu.uuid for gpu in first.gpus] == [trees.uuid_of(0), trees.uuid_of(1)]
    assert dict(first.proc_files)["params"].count("ModifyDeviceFiles: 0") == 1
    assert not first.detailed


def test_refresh_looks_again(host, discoveries):
    snapshot.load(host)
    snapshot.load(host, refresh=True)
    assert len(discoveries) == 2


def test_the_stored_form_matches_its_schema(host):
    snapshot.load(host)
    with open(os.path.join(ROOT, "schemas", "inventory.schema.json")) as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    with open(stored_in(host)) as file:
        jsonschema.Draft202012Validator(schema).validate(json.load(file))


CHANGES = {
    "driver": lambda d: trees.write(f"{d}/proc/driver/nvidia/version", trees.VERSION_TEXT.format("580.95.06").encode()),
    "gpu gone": lambda d: shutil.rmtree(d / "proc/driver/nvidia/gpus/0000:02:00.0"),
    "library": lambda d: trees.library(d / "driver/usr/lib/x86_64-linux-gnu/libnvidia-cfg.so.580.95.05"),
    "ld cache": lambda d: trees.write(f"{d}/driver/etc/ld.so.cache", b"new"),
    "socket": lambda d: (d / "driver/run/nvidia-persistenced").mkdir(parents=True),
    "capability nodes": lambda d: (d / "dev/dev/nvidia-caps").mkdir(),
    "mig minors": lambda d: trees.write(f"{d}/proc/driver/nvidia-caps/mig-minors", b"config 1\n"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_fact_makes_the_host_be_looked_at_again(host, discoveries, tmp_path, name):
    snapshot.load(host)
    CHANGES[name](tmp_path)
    if name == "driver":
        with pytest.raises(DriverError, match=r"the kernel runs version 580\.95\.06"):
            snapshot.load(host)
    else:
        snapshot.load(host)
    assert len(discoveries) == 2


def test_mig_instances_are_facts(host, discoveries, tmp_path, monkeypatch):
    monkeypatch.setattr(nvml, "complete", lambda inventory, _hidden: inventory)
    snapshot.load(host)
    instance = tmp_path / "proc/driver/nvidia/capabilities/gpu1/mig/gi7/ci0"
    instance.mkdir(parents=True)
    trees.write(f"{tmp_path}/proc/driver/nvidia-caps/mig-minors", b"gpu1/gi7/access 66\ngpu1/gi7/ci0/access 67\n")
    gpu = snapshot.load(host).gpus[1]
    assert gpu.mig_enabled
    assert [(mig.gpu_instance_minor, mig.compute_instance_minor) for mig in gpu.mig_devices] == [(66, 67)]
    assert gpu.mig_devices[0].uuid == f"MIG-{trees.uuid_of(1)}/7/0"
    trees.settle(tmp_path)
    count = len(discoveries)
    snapshot.load(host)
    count = len(discoveries)
    os.utime(instance, (1, 1))  # made anew under its old number
    snapshot.load(host)
    assert len(discoveries) == count + 1
    shutil.rmtree(instance.parent)
    assert not snapshot.load(host).gpus[1].mig_enabled


@pytest.mark.parametrize("field", ["driver_root", "dev_root", "proc_root", "sys_root", "library_search_paths"])
def test_the_configuration_is_a_fact(host, discoveries, tmp_path, field):
    snapshot.load(host)
    other = ("/x",) if field == "library_search_paths" else f"{getattr(host, field)}/."
    snapshot.load(trees.config(tmp_path, **{field: other}))
    assert len(discoveries) == 2


@pytest.mark.parametrize("name", ["FORMAT", "__version__", "_BOOT_ID"])
def test_version_and_boot_are_facts(host, discoveries, monkeypatch, name):
    snapshot.load(host)
    monkeypatch.setattr(facts, name, "/proc/version" if name == "_BOOT_ID" else "other")
    snapshot.load(host)
    assert len(discoveries) == 2


def test_what_changes_all_the_time_is_no_fact(host, discoveries, tmp_path):
    (tmp_path / "driver/run/udev").mkdir(parents=True)
    trees.settle(tmp_path)
    snapshot.load(host)
    for path in ("driver/run/udev/queue", "dev/dev/loop0", "sys/x"):
        trees.write(str(tmp_path / path))
    snapshot.load(host)
    assert len(discoveries) == 1


def test_a_host_that_changes_while_it_is_looked_at_is_not_stored(host, monkeypatch, tmp_path):
    real = discovery.discover

    def changing(config):
        trees.library(tmp_path / "driver/usr/lib/x86_64-linux-gnu/libnvidia-cfg.so.580.95.05", "libnvidia-cfg.so.1")
        return real(config)

    monkeypatch.setattr(discovery, "discover", changing)
    assert len(snapshot.load(host).libraries) == 3
    assert not os.path.exists(stored_in(host))


def test_no_driver_is_an_error(tmp_path):
    with pytest.raises(DriverError) as caught:
        snapshot.load(trees.config(tmp_path))
    assert str(caught.value).startswith("no NVIDIA driver is loaded: ")


def test_a_driver_that_was_unloaded_is_noticed(host, tmp_path):
    snapshot.load(host)
    shutil.rmtree(tmp_path / "proc/driver")
    with pytest.raises(DriverError, match="no NVIDIA driver is loaded"):
        snapshot.load(host)


def detail(inventory, _hidden=()):
    gpus = tuple(Gpu(**{**gpu.__dict__, "architecture": "9.0", "links": ((1, 18),)}) for gpu in inventory.gpus)
    return Inventory(**{**inventory.__dict__, "cuda_version": "13.0", "detailed": True, "gpus": gpus})


def test_details_complete_what_is_stored(host, discoveries, monkeypatch):
    asked: list[int] = []

    def complete(inventory, _hidden=()):
        asked.append(1)
        return detail(inventory)

    monkeypatch.setattr(nvml, "complete", complete)
    assert snapshot.load(host).cuda_version == ""
    assert snapshot.load(host, detailed=True).cuda_version == "13.0"
    assert snapshot.load(host, detailed=True) == snapshot.load(host)
    assert snapshot.load(host).gpus[0].links == ((1, 18),)
    assert (len(discoveries), len(asked)) == (1, 1)


def test_where_nvml_fails_a_warning_says_why(host, monkeypatch):
    def fail(inventory, _hidden):
        raise DriverError("cannot ask NVML", "it is Sunday", "wait")

    monkeypatch.setattr(nvml, "complete", fail)
    found = snapshot.load(host, detailed=True)
    assert not found.detailed
    assert found.warnings == ("cannot ask NVML: it is Sunday; wait",)
    assert snapshot.load(host, detailed=True).warnings == found.warnings
    monkeypatch.setattr(nvml, "complete", detail)
    assert snapshot.load(host, detailed=True).detailed


def test_nvml_is_asked_for_a_uuid_that_proc_does_not_tell(tmp_path, monkeypatch):
    trees.driver(tmp_path / "driver")
    trees.proc(tmp_path / "proc", gpus=2, unknown=(1,))
    monkeypatch.setattr(nvml, "complete", lambda inventory, _hidden: inventory)
    assert [gpu.uuid for gpu in snapshot.load(trees.config(tmp_path)).gpus] == [trees.uuid_of(0), "00000000:02:00.0"]


def test_records_come_back_from_the_file_as_they_went(host, monkeypatch):
    mig = MigDevice(
        index=0, uuid="MIG-x", gpu_instance=1, compute_instance=0, profile="1g.10gb", memory=1,
        gpu_instance_minor=3, compute_instance_minor=4,
    )  # fmt: skip

    def with_mig(inventory, _hidden):
        gpus = tuple(Gpu(**{**gpu.__dict__, "mig_devices": (mig,), "drm": ("card1",)}) for gpu in inventory.gpus)
        return Inventory(**{**inventory.__dict__, "gpus": gpus, "detailed": True, "unclaimed": ("/x",)})

    monkeypatch.setattr(nvml, "complete", with_mig)
    made = snapshot.load(host, detailed=True)
    read = snapshot.load(host)
    assert read == made
    assert read.gpus[0].mig_devices == (mig,)


def test_a_start_with_a_stored_inventory_imports_little(host):
    snapshot.load(host)
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.devices.nvidia import snapshot as cache
before = set(sys.modules)
cache.load(Config(**{host.__dict__!r}))
print(*sorted(set(sys.modules) - before))
print(*sorted({{"re", "json", "enum", "typing", "functools", "collections", "fcntl"}} & set(sys.modules)))
"""
    command = ["/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable, "-I", "-S", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["_json", ""]

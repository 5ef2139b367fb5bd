"""The stored inventory: good for as long as its facts hold, and never believed further than that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import jsonschema
import pytest

from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.devices.nvidia import discovery, facts, for_request, nvml, snapshot, stored
from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory, MigDevice
from oci_gpu_hook.request.model import Request
from tests.paths import ROOT
from tests.unit.devices.nvidia import driver_trees as trees

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="device nodes and other owners need root")


@pytest.fixture(autouse=True)
def x86_64(monkeypatch):
    trees.machine(monkeypatch)


@pytest.fixture
def host(tmp_path):
    """A host with two GPUs that has not changed for a while; returns its configuration."""
    trees.driver(tmp_path / "driver")
    trees.proc(tmp_path / "proc", gpus=2)
    config = trees.config(tmp_path)
    settle(tmp_path)
    return config


def settle(tmp_path):
    """Let everything have changed a minute ago."""
    past = time.time() - 60
    for directory, _, names in os.walk(tmp_path):
        for path in (directory, *(os.path.join(directory, name) for name in names)):
            os.utime(path, (past, past), follow_symlinks=False)


@pytest.fixture
def discoveries(monkeypatch):
    """Count how often the host is looked at."""
    count = []
    real = discovery.discover
    monkeypatch.setattr(discovery, "discover", lambda config: count.append(1) or real(config))
    return count


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
    monkeypatch.setattr(nvml, "complete", lambda inventory: inventory)
    snapshot.load(host)
    instance = tmp_path / "proc/driver/nvidia/capabilities/gpu1/mig/gi7/ci0"
    instance.mkdir(parents=True)
    trees.write(f"{tmp_path}/proc/driver/nvidia-caps/mig-minors", b"gpu1/gi7/access 66\ngpu1/gi7/ci0/access 67\n")
    gpu = snapshot.load(host).gpus[1]
    assert gpu.mig_enabled
    assert [(mig.gpu_instance_minor, mig.compute_instance_minor) for mig in gpu.mig_devices] == [(66, 67)]
    assert gpu.mig_devices[0].uuid == f"MIG-{trees.uuid_of(1)}/7/0"
    settle(tmp_path)
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
    settle(tmp_path)
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


# What is stored may be damaged, or another's


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


# Nodes


@needs_root
def test_nodes_are_looked_at_each_time(host, tmp_path, discoveries):
    for name, minor in (("nvidiactl", 255), ("nvidia0", 0), ("nvidia1", 1)):
        os.mknod(tmp_path / "dev/dev" / name, 0o020600, os.makedev(195, minor))
    found = {node.path: node for node in snapshot.load(host).nodes}
    assert list(found) == ["/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia1"]
    assert found["/dev/nvidia1"].host_path == f"{tmp_path}/dev/dev/nvidia1"
    assert (found["/dev/nvidia1"].major, found["/dev/nvidia1"].minor, found["/dev/nvidia1"].mode) == (195, 1, 0o600)
    os.chmod(tmp_path / "dev/dev/nvidia1", 0o666)
    os.chown(tmp_path / "dev/dev/nvidia1", 0, 44)
    os.unlink(tmp_path / "dev/dev/nvidia0")
    os.mknod(tmp_path / "dev/dev/nvidia-uvm", 0o020666, os.makedev(510, 0))
    found = {node.path: node for node in snapshot.load(host).nodes}
    assert list(found) == ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia1"]
    assert (found["/dev/nvidia1"].mode, found["/dev/nvidia1"].gid) == (0o666, 44)
    assert found["/dev/nvidia-uvm"].capabilities == ("compute", "video")
    assert len(discoveries) == 1


def test_missing_nodes_say_who_would_use_them(host):
    assert dict(snapshot.load(host).missing_nodes) == {
        "/dev/nvidiactl": (),
        "/dev/nvidia-uvm": ("compute", "video"),
        "/dev/nvidia-uvm-tools": ("compute", "video"),
        "/dev/nvidia-modeset": ("display",),
    }


@needs_root
def test_what_is_no_device_node_is_missing(host, tmp_path):
    (tmp_path / "dev/dev/nvidia0").mkdir()
    trees.write(str(tmp_path / "dev/dev/nvidiactl"))
    os.mknod(tmp_path / "dev/dev/nvidia1", 0o060600, os.makedev(195, 1))
    assert snapshot.load(host).nodes == ()


@needs_root
def test_nodes_of_features_come_with_their_features(host, tmp_path):
    names = ("nvidia-fs0", "nvidia-fs10", "nvidia-fs2", "nvidia-fsx", "infiniband/uverbs0", "infiniband/rdma_cm",
             "nvidia-nvswitchctl", "nvidia-nvswitch0", "gdrdrv")  # fmt: skip
    (tmp_path / "dev/dev/infiniband").mkdir()
    for name in names:
        os.mknod(tmp_path / "dev/dev" / name, 0o020666, os.makedev(240, 0))
    assert [(node.path, node.capabilities) for node in snapshot.load(host).nodes] == [
        ("/dev/nvidia-fs0", ("gds",)),
        ("/dev/nvidia-fs2", ("gds",)),
        ("/dev/nvidia-fs10", ("gds",)),
        ("/dev/infiniband/uverbs0", ("mofed",)),
        ("/dev/infiniband/rdma_cm", ("mofed",)),
        ("/dev/nvidia-nvswitchctl", ("nvswitch",)),
        ("/dev/nvidia-nvswitch0", ("nvswitch",)),
        ("/dev/gdrdrv", ("gdrcopy",)),
    ]


@needs_root
def test_a_feature_that_comes_later_is_noticed(host, tmp_path):
    snapshot.load(host)
    for name in ("nvidia-fs0", "nvidia-fs1"):
        os.mknod(tmp_path / "dev/dev" / name, 0o020666, os.makedev(240, 0))
    assert [node.path for node in snapshot.load(host).nodes] == ["/dev/nvidia-fs0", "/dev/nvidia-fs1"]


@needs_root
def test_a_request_is_served_what_can_be_in_its_plan(host, tmp_path):
    for directory in ("dri", "nvidia-caps", "nvidia-caps-imex-channels"):
        (tmp_path / "dev/dev" / directory).mkdir()
    for name in ("nvidiactl", "nvidia0", "nvidia-fs0", "nvidia-modeset", "nvidia-caps/nvidia-cap1",
                 "nvidia-caps-imex-channels/channel0"):  # fmt: skip
        os.mknod(tmp_path / "dev/dev" / name, 0o020666, os.makedev(240, 0))
    settle(tmp_path)
    whole = snapshot.load(host)

    def served(*capabilities, **fields):
        request = Request(driver_capabilities=capabilities, source="environment", **fields)
        found = for_request.get(request, host).inventory
        assert [node for node in whole.nodes if node in found.nodes] == list(found.nodes)
        return found

    found = served("utility")
    assert {node.path for node in found.nodes} == {"/dev/nvidiactl", "/dev/nvidia0"}
    assert served("ngx").libraries == ()
    assert not dict(found.missing_nodes)
    assert "/dev/nvidia-uvm" in dict(served("compute").missing_nodes)
    assert served("display", features=("gds",)).nodes[1:] == tuple(
        node for node in whole.nodes if node.path in ("/dev/nvidia-modeset", "/dev/nvidia-fs0", "/dev/nvidia0")
    )
    assert "/dev/nvidia-caps/nvidia-cap1" in {node.path for node in served(mig_config_devices="all").nodes}
    channel = "/dev/nvidia-caps-imex-channels/channel0"
    assert channel in {node.path for node in served(imex_channels=(0,)).nodes}
    assert snapshot.load(host) == whole


# No driver


def test_no_driver_is_an_error(tmp_path):
    with pytest.raises(DriverError) as caught:
        snapshot.load(trees.config(tmp_path))
    assert str(caught.value).startswith("no NVIDIA driver is loaded: ")


def test_a_driver_that_was_unloaded_is_noticed(host, tmp_path):
    snapshot.load(host)
    shutil.rmtree(tmp_path / "proc/driver")
    with pytest.raises(DriverError, match="no NVIDIA driver is loaded"):
        snapshot.load(host)


# Details


def detail(inventory):
    gpus = tuple(Gpu(**{**gpu.__dict__, "architecture": "9.0", "links": ((1, 18),)}) for gpu in inventory.gpus)
    return Inventory(**{**inventory.__dict__, "cuda_version": "13.0", "detailed": True, "gpus": gpus})


def test_details_complete_what_is_stored(host, discoveries, monkeypatch):
    asked = []
    monkeypatch.setattr(nvml, "complete", lambda inventory: asked.append(1) or detail(inventory))
    assert snapshot.load(host).cuda_version == ""
    assert snapshot.load(host, detailed=True).cuda_version == "13.0"
    assert snapshot.load(host, detailed=True) == snapshot.load(host)
    assert snapshot.load(host).gpus[0].links == ((1, 18),)
    assert (len(discoveries), len(asked)) == (1, 1)


def test_where_nvml_fails_a_warning_says_why(host, monkeypatch):
    def fail(inventory):
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
    monkeypatch.setattr(nvml, "complete", lambda inventory: inventory)
    assert [gpu.uuid for gpu in snapshot.load(trees.config(tmp_path)).gpus] == [trees.uuid_of(0), "00000000:02:00.0"]


def test_records_come_back_from_the_file_as_they_went(host, monkeypatch):
    mig = MigDevice(
        index=0, uuid="MIG-x", gpu_instance=1, compute_instance=0, profile="1g.10gb", memory=1,
        gpu_instance_minor=3, compute_instance_minor=4,
    )  # fmt: skip

    def with_mig(inventory):
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

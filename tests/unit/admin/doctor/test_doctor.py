"""`oci-gpu doctor`: each check finds its trouble, and none where all is well; it answers whatever is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.admin.cli import doctor as command
from oci_gpu_hook.admin.cli import main as cli
from oci_gpu_hook.admin.doctor import (
    cgroups,
    checkup,
    configuration,
    confinement,
    driver,
    engines,
    gpus,
    kernel,
    nodes,
    remains,
    state_directory,
    tiny,
)
from oci_gpu_hook.admin.doctor.model import ERROR, NOTE, OK, WARNING, Finding, Host
from oci_gpu_hook.base import rootless
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.config.toml import parse as parse_config
from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.devices.nvidia import csv_files, snapshot
from oci_gpu_hook.devices.nvidia.model import DeviceNode, Gpu, Inventory, Library
from tests.paths import SCHEMAS

SCHEMA = SCHEMAS / "doctor.schema.json"
DEVICES = "Character devices:\n195 nvidia\n510 nvidia-uvm\n\nBlock devices:\n259 blkext\n"
NUMBERS = {
    "/dev/nvidia0": (195, 0),
    "/dev/nvidiactl": (195, 255),
    "/dev/nvidia-uvm": (510, 0),
    "/dev/nvidia-uvm-tools": (510, 1),
    "/dev/nvidia-modeset": (195, 254),
}


def node(path, numbers, mode=0o666):
    major, minor = numbers
    return DeviceNode(path=path, host_path=path, major=major, minor=minor, mode=mode, uid=0, gid=0)


def library(soname):
    name = f"{soname}.580"
    return Library(host_path=f"/usr/lib/{name}", name=name, soname=soname, links=(), capabilities=("compute",))


def gpu(**fields):
    fields = {"index": 0, "uuid": "GPU-1", "minor": 0, "bus_id": "00000000:01:00.0", "name": "H100", **fields}
    return Gpu(**fields)


def inventory(**fields):
    fields = {
        "driver_version": "580.1",
        "cuda_version": "13.0",
        "gpus": (gpu(persistence_mode=True),),
        "libraries": (library("libcuda.so.1"), library("libnvidia-ml.so.1")),
        "files": (),
        "nodes": tuple(node(path, numbers) for path, numbers in NUMBERS.items()),
        **fields,
    }
    return Inventory(**fields)


@pytest.fixture
def make_host(tmp_path):
    """A host whose files are below a directory of the test's."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/devices").write_text(DEVICES)

    def make(config=None, **fields):
        config = {"proc_root": f"{tmp_path}/proc", "sys_root": f"{tmp_path}/sys", "state_dir": f"{tmp_path}/state"} | (
            config or {}
        )
        fields = {"inventory": inventory(), "config_path": f"{tmp_path}/config.toml", "root": str(tmp_path), **fields}
        return Host(config=Config(**config), **fields)

    return make


def found(module, host, *severities):
    findings = list(module.check(host))
    return [finding.what for finding in findings if finding.severity in (severities or (NOTE, WARNING, ERROR))]


@pytest.mark.parametrize("module", [driver, nodes, gpus, cgroups, confinement, state_directory, remains])
def test_a_host_in_order_has_no_warning(module, make_host):
    host = make_host()
    os.makedirs(host.path("proc/self"))
    Path(host.path("proc/self/mountinfo")).write_text("30 20 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    assert found(module, host, WARNING, ERROR) == []


def test_no_driver_is_an_error_with_the_reason_that_containers_get(make_host):
    host = make_host(inventory=None, trouble=DriverError("no NVIDIA driver is loaded", "it is not", "load it"))
    (finding,) = driver.check(host)
    assert (finding.severity, finding.what, finding.remedy) == (ERROR, "no NVIDIA driver is loaded", "load it")
    assert [*nodes.check(host), *gpus.check(host)] == []


@pytest.mark.parametrize("missing", ["libcuda.so.1", "libnvidia-ml.so.1"])
def test_a_driver_without_an_essential_library_is_an_error(make_host, missing):
    libraries = tuple(library(name) for name in ("libcuda.so.1", "libnvidia-ml.so.1") if name != missing)
    host = make_host(inventory=inventory(libraries=libraries))
    assert found(driver, host) == [f"the host has no {missing}"]


def test_a_line_of_a_csv_file_is_nothing_that_nvml_knows(make_host):
    line = f"{csv_files.ABOUT}: 'l4t.csv:1' is not a line"
    told = driver.check(make_host(inventory=inventory(warnings=(line, "NVML: no answer"))))
    why = {finding.what: finding.why for finding in told if finding.severity == WARNING}
    assert why[line] == "what that file or line names does not reach containers"
    assert why["NVML: no answer"].startswith("memory, NVLinks")


@pytest.mark.parametrize(
    ("path", "severity"),
    [
        ("/dev/nvidiactl", ERROR),
        ("/dev/nvidia0", ERROR),
        ("/dev/nvidia-uvm", ERROR),
        ("/dev/nvidia-uvm-tools", WARNING),
    ],
)
def test_a_missing_node_is_found(make_host, path, severity):
    rest = tuple(node(name, numbers) for name, numbers in NUMBERS.items() if name != path)
    assert found(nodes, make_host(inventory=inventory(nodes=rest)), severity) == [f"the host has no {path}"]


@pytest.mark.parametrize("path", NUMBERS)
def test_a_node_with_another_devices_numbers_is_an_error(make_host, path):
    wrong = tuple(node(name, (1, 3) if name == path else numbers) for name, numbers in NUMBERS.items())
    (what,) = found(nodes, make_host(inventory=inventory(nodes=wrong)), ERROR)
    assert what.startswith(f"{path} is device 1:3, and the driver's is ")


def test_nodes_for_root_only_are_a_warning(make_host):
    private = tuple(node(name, numbers, 0o600) for name, numbers in NUMBERS.items())
    assert found(nodes, make_host(inventory=inventory(nodes=private)))[0].startswith("only root may open /dev/nvidia0,")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"persistence_mode": False}, "persistence mode is off (GPU 0)"),
        ({"mig_enabled": True}, "GPU 0 is in MIG mode without MIG devices"),
    ],
)
def test_gpus_that_disappoint(make_host, fields, words):
    assert found(gpus, make_host(inventory=inventory(gpus=(gpu(**fields),)))) == [words]


def test_a_gpu_that_is_not_the_drivers_is_found_on_the_bus(make_host):
    host = make_host()
    for address, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030200"),  # the driver's
        ("0000:02:00.0", "0x10de", "0x030000"),
        ("0000:02:00.1", "0x10de", "0x040300"),  # its sound device
        ("0000:03:00.0", "0x1002", "0x030000"),  # another vendor's
    ):
        device = Path(host.path(f"sys/bus/pci/devices/{address}"))
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text(kind + "\n")
    assert found(gpus, host) == ["the GPU at 00000000:02:00.0 is not bound to the NVIDIA driver"]


def test_unknown_keys_and_wrong_types_are_found_with_their_lines(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[driver]\nrot = '/'\n")
    config = parse_config(path.read_text())
    host = Host(config=config, config_path=str(path))
    assert found(configuration, host) == [f"'{path}', line 2: unknown key 'rot' in [driver]; did you mean 'root'?"]
    path.write_text("[request]\n\ndisable-require = 3\n")
    finding, note = configuration.check(checkup.host(str(path)))
    assert note.severity == NOTE
    assert finding.severity == ERROR
    assert finding.what == f"'{path}': [request] disable-require"
    assert finding.why.startswith("expected true or false, found 3 (line 3)")


def test_a_configuration_that_others_can_write_is_an_error(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("")
    path.chmod(0o666)
    assert found(configuration, checkup.host(str(path)), ERROR) == [f"'{path}' can be written by users other than root"]


def test_paths_that_lead_nowhere_are_found(make_host, tmp_path):
    host = make_host({"driver_root": f"{tmp_path}/no", "log_file": f"{tmp_path}/logs/log"})
    Path(host.config_path).write_text("")
    named = found(configuration, host, ERROR)
    assert named[0] == f"[driver] root names '{tmp_path}/no', which is not a directory"
    assert found(configuration, host, WARNING) == [f"the log '{tmp_path}/logs/log' cannot be written"]


def test_this_kernel_has_its_system_calls(make_host):
    before = os.listdir("/proc/self/fd")
    assert found(kernel, make_host(), ERROR) == []
    assert os.listdir("/proc/self/fd") == before


def test_an_old_kernel_is_an_error(make_host, monkeypatch):
    from oci_gpu_hook.base import syscalls

    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "5.4.0-1-generic", "#1", "x86_64")))
    monkeypatch.setattr(syscalls, "raw", refuse)
    what = found(kernel, make_host(), ERROR)
    assert what[0] == "Linux 5.4.0-1-generic"
    assert "openat2(2) is refused: Function not implemented" in what


@pytest.mark.parametrize(
    ("files", "severity", "words"),
    [
        ({"sys/fs/selinux/enforce": "1\n"}, WARNING, "SELinux enforces, and container_use_devices is off"),
        (
            {"sys/fs/selinux/enforce": "1", "sys/fs/selinux/booleans/container_use_devices": "1 1"},
            OK,
            "SELinux enforces, and lets containers use devices",
        ),
        ({"sys/module/apparmor/parameters/enabled": "Y\n"}, NOTE, "AppArmor is on"),
    ],
)
def test_confinement(make_host, files, severity, words):
    host = make_host()
    for name, text in files.items():
        path = Path(host.path(name))
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert any(what.startswith(words) for what in found(confinement, host, severity))


def test_a_host_without_device_cgroups_is_an_error(make_host):
    assert found(cgroups, make_host(), ERROR) == ["no cgroup file system with devices is mounted here"]


@pytest.mark.parametrize(
    ("restriction", "severity", "what"),
    [
        ("1", NOTE, "net.core.bpf_jit_harden=2 obscures device programs; they can still be read"),
        ("2", WARNING, "net.core.bpf_jit_harden=2 and kernel.kptr_restrict=2 hide device programs"),
    ],
)
def test_a_hardened_jit(make_host, restriction, severity, what):
    host = make_host()
    for name, text in (
        ("proc/self/mountinfo", "30 20 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
        ("proc/sys/net/core/bpf_jit_harden", "2\n"),
        ("proc/sys/kernel/kptr_restrict", restriction + "\n"),
    ):
        path = Path(host.path(name))
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert found(cgroups, host, severity) == [what]


def test_engines_without_the_hook_are_warnings(make_host):
    host = make_host()
    for name in ("dockerd", "containerd", "podman"):
        program = Path(host.path(f"usr/bin/{name}"))
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    warnings = found(engines, host, WARNING)
    assert warnings[:2] == ["Docker has no runtime oci-gpu", "docker run --gpus has no hook to call"]
    assert warnings[2].startswith("Podman does not know the hook")
    assert found(engines, host, NOTE) == ["containerd has no handler oci-gpu"]


def test_no_engine_is_worth_a_note(make_host):
    assert found(engines, make_host())[0].startswith("none of docker, podman")


def test_a_state_directory_that_others_can_write_is_an_error(make_host, tmp_path):
    (tmp_path / "state").mkdir(mode=0o777)
    (tmp_path / "state").chmod(0o777)
    (what,) = found(state_directory, make_host(), ERROR)
    assert what == f"'{tmp_path}/state' is not a directory that only root can write to"


def test_entries_and_records_of_the_dead_are_found(make_host, tmp_path):
    state = tmp_path / "state"
    (state / "containers").mkdir(parents=True, mode=0o700)
    state.chmod(0o700)
    (state / "containers/gone.json").write_bytes(b'{"pid": 1, "startTime": 1, "id": "gone"}')
    (state / "leases.json.corrupt-1-1").write_bytes(b"")
    what = found(remains, make_host())
    assert "container 'gone' ended without poststop" in what
    assert f"{state} has 1 damaged records of leases, the last leases.json.corrupt-1-1" in what


@pytest.mark.parametrize(
    ("severities", "status"), [((), 0), ((OK, NOTE), 0), ((OK, WARNING), 1), ((WARNING, ERROR), 2)]
)
def test_the_exit_status_is_the_worst(severities, status):
    assert command.status_of([Finding(check="x", severity=severity, what="y") for severity in severities]) == status


def test_a_check_with_a_bug_hides_nothing_else(monkeypatch, make_host):
    def broken(_host):
        yield Finding(check="gpus", severity=OK, what="before")
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(gpus, "check", broken)
    findings = list(checkup.examine(make_host()))
    assert [f.what for f in findings if f.check == "gpus"] == ["before", "the check of gpus failed"]
    assert findings[-1].check == "state_directory"


def test_json_is_as_its_schema_says(tmp_path, capsys):
    import jsonschema

    status = cli.main(["--config", str(tmp_path / "none.toml"), "doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert status == {"error": 2, "warning": 1}.get(
        max((f["severity"] for f in document), key=("ok", "note", "warning", "error").index), 0
    )


@pytest.mark.parametrize(
    "config", ["", "driver = 3", "[state]\ndir = '/dev/null'\n[driver]\nproc-root = '/nonexistent'"]
)
def test_it_answers_whatever_is_broken(tmp_path, capsys, config):
    (tmp_path / "config.toml").write_text(config)
    assert cli.main(["--config", str(tmp_path / "config.toml"), "doctor"]) in (1, 2)
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    assert all(line == line.rstrip() for line in said.out.splitlines())
    assert "\x1b" not in said.out


def test_a_tiny_root_directory_starts_its_shell(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root (chroot)")
    tiny.make_rootfs(str(tmp_path / "rootfs"))
    said = subprocess.run(
        ["chroot", tmp_path / "rootfs", "/bin/sh", "-c", "echo $((6 * 7))"], capture_output=True, check=False
    )
    assert said.stdout == b"42\n", (said.stderr, sys.version)


def test_in_a_user_namespace_the_inventory_is_in_the_user_s_own_state_directory(tmp_path, monkeypatch):
    """A start there uses it, so what the doctor reads and stores must be the same."""
    config = tmp_path / "config.toml"
    config.write_text(f'[state]\ndir = "{tmp_path}/of-root"\n')
    own = f"{tmp_path}/own"
    looked_in = []
    monkeypatch.setattr(rootless, "state_directory", lambda _configured: own)

    def load(config, **_options):
        looked_in.append(config.state_dir)
        if len(looked_in) > 1:
            raise DriverError("no NVIDIA driver is loaded", "it is not", "load it")
        return inventory()

    monkeypatch.setattr(snapshot, "load", load)
    for _ in ("a driver", "none"):
        assert checkup.host(str(config)).config.state_dir == own
    assert looked_in == [own, own]

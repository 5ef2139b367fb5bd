"""GPUs that are marked sick: counts and `all` pass them over, their names are refused, until they are healed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.admin.simulate.kernel_log import report
from oci_gpu_hook.admin.watch.kernel_log import KernelLog
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import HookError, InvalidInput
from oci_gpu_hook.devices.model import is_sick
from oci_gpu_hook.devices.nvidia import sick, snapshot, vendor
from tests.unit.devices.nvidia.test_lost_gpu import asks, chosen

SCHEMA = json.loads((Path(__file__).parents[4] / "schemas/gpus.schema.json").read_text())


@pytest.fixture
def host(tmp_path):
    return make(str(tmp_path / "host"), gpus=3, device_nodes=False)


@pytest.fixture
def config(host):
    return configs.load(host.config)


@pytest.fixture
def said():
    return []


def read(config, said):
    """Do what the watch does when it starts."""
    log = KernelLog(config, lambda *words, **fields: said.append((*words, fields.get("xid"))), on_sick=lambda: None)
    log.read()
    return log


def oci_gpu(host, *arguments):
    path = Path(sys.executable).with_name("oci-gpu")
    done = subprocess.run([path, "--config", host.config, *arguments], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


def test_it_is_passed_over_and_its_name_refused(host, config, said):
    uuids = [gpu.uuid for gpu in host.gpus]
    assert chosen(asks(count=1), config) == uuids[:1]
    report(host, [(0, 79)])
    read(config, said)
    assert said == [("warning", "GPU marked sick", 79)]
    assert chosen(asks(count=1), config) == uuids[1:2]
    assert chosen(asks("all"), config) == uuids[1:]
    with pytest.raises(InvalidInput) as caught:
        chosen(asks("0"), config)
    assert caught.value.why.startswith("it is marked sick since 20")
    assert "Xid 79" in caught.value.why
    assert caught.value.remedy.endswith("then run oci-gpu gpus heal")
    with pytest.raises(HookError, match=r"3 GPUs asked for: .*marked sick"):
        chosen(asks(count=3), config)


def test_healed_it_is_as_before_and_the_old_error_does_not_mark_it_again(host, config, said):
    report(host, [(1, 64), (1, 48)])
    read(config, said)
    assert [line[1] for line in said] == ["GPU marked sick"], "marked once, by the first"
    assert oci_gpu(host, "gpus", "heal", "1").stdout == f"GPU 1 ({host.gpus[1].uuid}): healed\n"
    assert not Path(config.state_dir, sick.NAME).exists(), "a start reads nothing"
    log = read(config, said)
    assert len(chosen(asks("all"), config)) == 3
    report(host, [(1, 95)])
    log.read()
    assert len(chosen(asks("all"), config)) == 2
    assert "not marked" in oci_gpu(host, "gpus", "heal", "0").stdout
    assert oci_gpu(host, "gpus", "heal", "all").returncode == 0
    assert len(chosen(asks("all"), config)) == 3


def test_an_error_of_a_program_marks_nothing(host, config, said):
    report(host, [(0, 13), (0, 31)])
    read(config, said)
    assert said == [("info", "error of a GPU", 13), ("info", "error of a GPU", 31)]
    assert len(chosen(asks("all"), config)) == 3


def test_what_a_process_has_written_to_the_log_counts_for_nothing(host, config, said):
    bus = host.gpus[0].bus_id.rpartition(".")[0]
    with open(f"{host.directory}/kmsg", "a") as file:
        file.write(f"11,999999999999999,1,-;NVRM: Xid (PCI:{bus}): 79, said by a process\n")
        file.write("garbage\n;\n3;\n3,x,1,-;y\n")
    read(config, said)
    assert said == []


def test_its_state_is_shown(host, config, said):
    report(host, [(2, 140)])
    read(config, said)
    document = json.loads(oci_gpu(host, "gpus", "--json").stdout)
    jsonschema.validate(document, SCHEMA)
    assert [gpu["state"] for gpu in document] == ["free", "free", "sick"]
    shown = oci_gpu(host, "gpus").stdout
    assert "Xid 140" in shown
    assert "marked sick" in oci_gpu(host, "leases").stdout
    assert f"error: GPU at {snapshot.load(config).gpus[2].bus_id}: it is marked sick" in oci_gpu(host, "info").stdout
    assert "oci-gpu gpus heal" in oci_gpu(host, "doctor").stdout


def test_marks_that_others_could_have_written_or_of_another_boot_count_for_nothing(host, config, said):
    report(host, [(0, 79)])
    read(config, said)
    path = Path(config.state_dir, sick.NAME)
    path.chmod(0o666)
    assert sick.marks(config) == {}
    path.chmod(0o600)
    assert len(sick.marks(config)) == 1
    path.write_text(path.read_text().replace(json.loads(path.read_text())["bootId"], "another"))
    assert sick.marks(config) == {}
    for damaged in ("", "[]", "{", '{"bootId": 1}', '{"bootId": "", "gpus": []}'):
        path.write_text(damaged)
        assert sick.marks(config) == {}
        assert len(chosen(asks("all"), config)) == 3


def test_mig_devices_of_a_sick_gpu_are_sick(tmp_path, said):
    host = make(str(tmp_path / "mig"), gpus=2, mig=True, product="h100", device_nodes=False)
    config = configs.load(host.config)
    report(host, [(0, 79)])
    read(config, said)
    found = vendor.devices(vendor.snapshot(asks("all"), config).inventory, config)
    assert {device.index for device in found if is_sick(device.fault)} == {0}
    assert sum(is_sick(device.fault) for device in found) > 1


def test_the_simulated_host_says_it(tmp_path):
    directory = str(tmp_path / "other")
    path = Path(sys.executable).with_name("oci-gpu")
    options = ["--gpus", "2", "--no-device-nodes", "--xid", "1:79,0:13"]
    subprocess.run([path, "simulate", directory, *options], check=True, capture_output=True)
    assert [line.partition("): ")[2][:2] for line in Path(directory, "kmsg").read_text().splitlines()] == ["79", "13"]
    with pytest.raises(InvalidInput, match="Xid 79 of GPU 2"):
        make(directory, gpus=2, device_nodes=False, xids=[(2, 79)])
    assert os.path.exists(f"{directory}/kmsg")

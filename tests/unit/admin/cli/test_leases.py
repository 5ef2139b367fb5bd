"""`oci-gpu leases`: what people and tools see of the record, and releasing by hand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.admin.cli import leases_picture
from oci_gpu_hook.admin.cli.main import main
from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.allocation import query, release
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.entry import Entry
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.base.processes import boot_id, start_time
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import snapshot
from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory, MigDevice
from oci_gpu_hook.oci.container import Container
from oci_gpu_hook.request.model import Request
from tests.paths import ROOT

MIG = MigDevice(
    index=0, uuid="MIG-0", gpu_instance=1, compute_instance=0, profile="1g.10gb", memory=10 << 30,
    gpu_instance_minor=1, compute_instance_minor=2,
)  # fmt: skip
HOST = Inventory(
    driver_version="580.1",
    gpus=tuple(
        Gpu(index=i, uuid=f"GPU-{i}", minor=i, bus_id=f"00000000:0{i}:00.0", memory=80 << 30,
            name="NVIDIA H100 80GB HBM3", mig_enabled=i == 2, mig_devices=(MIG,) if i == 2 else ())
        for i in range(3)
    ),
    libraries=(), files=(), nodes=(), detailed=True,
)  # fmt: skip
LONG = "3f5a" * 16


@dataclass
class Command:
    """`oci-gpu leases` on the host, and what the host has."""

    directory: Path
    config: Config
    process: subprocess.Popen

    def __call__(self, *arguments: str) -> int:
        return main(["--config", f"{self.directory}/config.toml", "leases", *arguments])


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host of two GPUs and one in MIG mode, with a container that lives on each."""
    (tmp_path / "config.toml").write_text(f'[state]\ndir = "{tmp_path}/state"\n')
    monkeypatch.setattr(snapshot, "load", lambda *_, **__: HOST)
    config = Config(state_dir=f"{tmp_path}/state")
    process = subprocess.Popen(["/bin/sleep", "60"])
    for name, devices, exclusive in ((LONG, ("0",), False), ("b\x1b[31m", ("1",), True), ("c", ("2:0",), False)):
        container = Container(
            id=name, pid=process.pid, bundle="/b", rootfs="/b/r", root_readonly=False, env=(), mounts=(),
            annotations={}, privileged=False, uid=0, gid=0, namespaces=(), uid_mappings=(), gid_mappings=(),
            cgroups_path="", device_rules=(),
        )  # fmt: skip
        wish = Request(devices=devices, exclusive=exclusive, driver_capabilities=(), source="environment")
        story.allocate(wish, of_nvidia.of(HOST.gpus), container, config)

    yield Command(tmp_path, config, process)
    process.kill()
    process.wait()


@pytest.fixture
def named(host, tmp_path):
    """The first container has an entry in the journal, and a name in the records of Podman."""
    storage = tmp_path / "storage"
    bundle = storage / "overlay-containers" / LONG / "userdata"
    bundle.mkdir(parents=True)
    config = {"ociVersion": "1.0.2", "process": {"env": []}, "root": {"path": f"{storage}/overlay/x/merged"}}
    (bundle / "config.json").write_text(json.dumps({**config, "annotations": {"io.container.manager": "libpod"}}))
    records = [{"id": LONG, "image": "0" * 64, "names": ["train-the-model"]}]
    (storage / "overlay-containers/containers.json").write_text(json.dumps(records))
    started = start_time(host.process.pid)
    entry = Entry(
        id=LONG, pid=host.process.pid, start_time=started, bundle=str(bundle), rootfs=f"{storage}/overlay/x/merged",
        rootfs_identity=(0, 0), gpus=("GPU-0",), changes=(), boot_id=boot_id(),
    )  # fmt: skip
    with journal.Lock(host.config, (0, 0)):
        os.makedirs(f"{host.config.state_dir}/containers", mode=0o700)
        journal.write(host.config, entry)


def test_json_is_what_the_schema_says(host, capsys):
    assert host("--json") == 0
    shown = json.loads(capsys.readouterr().out)
    with open(os.path.join(ROOT, "schemas", "leases.schema.json")) as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(shown)
    assert [(one["container"], one["gpus"], one["exclusive"], one["pid"]) for one in shown] == [
        (LONG, ["GPU-0"], False, host.process.pid),
        ("b\x1b[31m", ["GPU-1"], True, host.process.pid),
        ("c", ["MIG-0"], False, host.process.pid),
    ]


def test_all_of_it_has_free_devices_indices_and_those_who_wait(host, capsys):
    release.release_by_hand(LONG, host.config, force=True)
    assert host("--json", "--all") == 0
    shown = json.loads(capsys.readouterr().out)
    schema = json.loads((ROOT / "schemas/leases-all.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(shown)
    assert [(one["container"], one["indices"]) for one in shown["leases"]] == [("b\x1b[31m", [1]), ("c", [None])]
    assert [(each["index"], each["uuid"], each["free"], each["holders"]) for each in shown["devices"]] == [
        (0, "GPU-0", True, []),
        (1, "GPU-1", False, ["b\x1b[31m"]),
        (None, "MIG-0", False, ["c"]),
    ]
    assert shown["waiting"] == []


def test_ids_alone_and_no_first_line(host, capsys):
    assert host("-q") == 0
    assert capsys.readouterr().out == f"{LONG}\nb\\x1b[31m\nc\n"
    assert host("--no-headers") == 0
    text = capsys.readouterr().out
    assert "HOLDER" not in text
    assert text.split()[0] == "0"


@pytest.mark.parametrize("form", ["lines", "table"])
def test_a_watch_into_a_file_writes_changes_only(host, capsys, monkeypatch, form):
    """Three looks, of which the second finds nothing new."""
    looks = iter([lambda: None, lambda: release.release_by_hand(LONG, host.config, force=True), None])

    def look_again(_seconds):
        change = next(looks)
        if change is None:
            raise KeyboardInterrupt
        change()

    monkeypatch.setattr(time, "sleep", look_again)
    assert host("--watch", *(["--json"] if form == "lines" else [])) == 0
    out = capsys.readouterr().out
    if form == "table":
        assert out.count("HOLDER") == 2
        return
    first, second = map(json.loads, out.splitlines())
    assert first["leases"][0]["container"] == LONG
    assert [one["container"] for one in second["leases"]] == ["b\x1b[31m", "c"]
    assert second["devices"][0]["free"]


def test_the_table_shows_free_and_held_devices_without_colour_in_a_pipe(host, capsys):
    release.release_by_hand(LONG, host.config, force=True)
    assert host() == 0
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert lines[0] == ["GPU", "PRODUCT", "MEMORY", "HOLDER", "ENGINE", "NAME", "SINCE", "EXCLUSIVE"]
    assert lines[2] == ["0", "H100", "80GB", "HBM3", "80", "GiB", "free"]
    assert lines[3][-3] == r"b\x1b[31m"
    assert lines[3][-1] == "yes"
    assert lines[4][:5] == ["2:0", "MIG", "1g.10gb", "of", "H100"]
    assert lines[4][-1] == "no"
    assert "\x1b" not in text


@pytest.fixture
def shared(host):
    """GPU 0 has two containers with a part, GPU 1 an exclusive holder, the MIG device of GPU 2 one without limits."""
    release.release_by_hand(LONG, host.config, force=True)
    for name, memory, cores in ((LONG, 8 << 30, 25), ("only-memory", 20 << 30, 0)):
        container = Container(
            id=name, pid=host.process.pid, bundle="/b", rootfs="/b/r", root_readonly=False, env=(), mounts=(),
            annotations={}, privileged=False, uid=0, gid=0, namespaces=(), uid_mappings=(), gid_mappings=(),
            cgroups_path="", device_rules=(),
        )  # fmt: skip
        wish = Request(devices=("0",), memory_limit=memory, cores=cores, driver_capabilities=(), source="environment")
        story.allocate(wish, of_nvidia.of(HOST.gpus, reserve=1 << 30), container, host.config)


LEFT = "GPU 0: 28GiB and 25% of the cores reserved, 51GiB and 75% of the cores left for others"


def test_each_holder_is_shown_with_its_share_and_each_gpu_with_what_is_left(host, shared, capsys):
    assert host() == 0
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert "SHARE" in lines[0]
    assert [line[-4:-2] for line in lines[2:4]] == [["8GiB", "25%"], ["only-memory", "20GiB"]]
    assert [line[-3] for line in lines[4:6]] == ["exclusive", "whole"]
    assert LEFT in text
    assert text.count("left for others") == 1, "of GPUs without parts there is nothing to say"


def test_no_share_is_shown_where_nobody_has_one(host, capsys):
    assert host() == 0
    assert "SHARE" not in capsys.readouterr().out


@pytest.mark.parametrize("width", [36, 40, 60, 80, 120])
def test_shares_are_shown_on_any_terminal(host, shared, width):
    from rich.console import Console

    console = Console(width=width, file=open(os.devnull, "w"), record=True)  # noqa: SIM115
    console.print(leases_picture.of(host.config, width))
    text = console.export_text()
    lines = text.splitlines()
    assert all(len(line) <= width for line in lines)
    assert any({LONG[:12], "8GiB", "25%"} <= {*line.split()} for line in lines)
    assert "20GiB" in text
    assert LEFT in " ".join(text.split())


def test_tools_are_told_shares_and_what_is_left(host, shared, monkeypatch, capsys):
    with open(os.path.join(ROOT, "schemas", "leases.schema.json")) as file:
        schema = jsonschema.Draft202012Validator(json.load(file))

    def told():
        assert host("--json") == 0
        listed = json.loads(capsys.readouterr().out)
        schema.validate(listed)
        return [lease["shares"] for lease in listed if "shares" in lease]

    left = {"memoryLeft": 51 << 30, "coresLeft": 75}
    first, second = {"memory": 8 << 30, "cores": 25}, {"memory": 20 << 30, "cores": 0}
    assert told() == [{"GPU-0": first | left}, {"GPU-0": second | left}]

    def fail(*_, **__):
        raise DriverError("no driver", "it is not loaded", "load it")

    monkeypatch.setattr(snapshot, "load", fail)
    assert told() == [{"GPU-0": first}, {"GPU-0": second}]


def test_of_each_gpu_it_is_told_what_is_reserved(host, shared, capsys):
    assert host("--json", "--all") == 0
    told = json.loads(capsys.readouterr().out)
    with open(os.path.join(ROOT, "schemas", "leases-all.schema.json")) as file:
        jsonschema.Draft202012Validator(json.load(file)).validate(told)
    names = ("memoryReserved", "memoryLeft", "coresReserved", "coresLeft")
    of_gpu = {device["uuid"]: tuple(device["shares"][name] for name in names) for device in told["devices"]}
    assert of_gpu["GPU-0"] == (28 << 30, 51 << 30, 25, 75)
    assert of_gpu["GPU-1"] == (0, 0, 0, 0), "it is held exclusively"


def test_eighty_columns_are_enough(host):
    from rich.console import Console

    console = Console(width=80, file=open(os.devnull, "w"), record=True)  # noqa: SIM115
    console.print(leases_picture.of(host.config, 80))
    text = console.export_text()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert all(word in text for word in ("PRODUCT", "MEMORY", "HOLDER", "SINCE", "EXCLUSIVE", "yes"))
    assert re.search(r" \d+s ", text), "how long ago"
    assert "80 GiB   3f5a3f5a3f5a" in text, "as many digits as docker ps shows"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_terminal_is_too_narrow_for_gpu_and_holder(host, named, width):
    from rich.console import Console

    console = Console(width=width, file=open(os.devnull, "w"), record=True)  # noqa: SIM115
    console.print(leases_picture.of(host.config, width))
    text = console.export_text()
    lines = text.splitlines()
    assert all(len(line) <= width for line in lines)
    assert [line.split()[0] for line in lines[3:6]] == ["0", "1", "2:0"]
    assert "train-the-model" in text
    assert r"b\x1b[31m" in text
    assert ("podman" in text) == (width >= 60)
    assert (LONG[:12] in text) == (width >= 120)


def test_a_container_is_called_as_its_engine_calls_it(host, named, capsys):
    assert host("--json") == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert (first["container"], first["engine"], first["name"]) == (LONG, "podman", "train-the-model")
    with open(os.path.join(ROOT, "schemas", "leases.schema.json")) as file:
        jsonschema.Draft202012Validator(json.load(file)).validate([first])
    assert host("release", "train-the-model") == 1
    assert f"container '{LONG}': is still running" in capsys.readouterr().err


def test_a_device_that_the_host_lost_is_still_shown_with_its_holder(host, monkeypatch, capsys):
    fewer = Inventory(**{**HOST.__dict__, "gpus": HOST.gpus[:1]})
    monkeypatch.setattr(snapshot, "load", lambda *_, **__: fewer)
    host()
    text = capsys.readouterr().out
    assert "GPU-1   not on this host now" in text
    assert "MIG-0   not on this host now" in text


def test_leases_are_shown_without_a_driver(host, monkeypatch, capsys):
    def fail(*_, **__):
        raise DriverError("no driver", "it is not loaded", "load it")

    monkeypatch.setattr(snapshot, "load", fail)
    assert host() == 0
    text = capsys.readouterr().out
    assert LONG[:12] in text
    assert "warning: no driver: it is not loaded; load it" in text


def test_what_lives_is_released_by_force_only(host, capsys):
    assert host("release", "c") == 1
    assert "is still running and would keep its GPUs" in capsys.readouterr().err
    assert host("release", "3f5a3f", "--force") == 0
    assert "c" in {lease.container for lease in query.current(host.config).leases}
    assert LONG not in {lease.container for lease in query.current(host.config).leases}


def test_of_two_that_live_and_have_one_id_the_process_tells_which_is_meant(host, capsys):
    from oci_gpu_hook.allocation import model, store
    from oci_gpu_hook.allocation.holders import Holder, Processes

    processes = Processes()
    _, parent, *_ = processes.lineage()
    with store.Store(host.config.state_dir, processes) as opened:
        opened.lock()
        book = opened.read()
        twin = model.Lease(**{**book.leases[-1].__dict__, "holder": Holder(**parent.__dict__)})
        opened.write(book.replace(leases=(*book.leases, twin)))
    assert host("release", "c", "--force") == 1
    assert f"is the id of several: pid {host.process.pid}, {parent.pid}" in capsys.readouterr().err
    assert host("release", str(parent.pid), "--force") == 0
    left = query.current(host.config).leases
    assert [lease.holder.pid for lease in left if lease.container == "c"] == [host.process.pid]


def test_releasing_what_holds_nothing_is_an_error_that_names_the_holders(host, capsys):
    assert host("release", "zzz") == 1
    assert capsys.readouterr().err == (
        f"oci-gpu: error: container 'zzz': has no lease; these have one: '{LONG}', 'b\\x1b[31m', 'c' [OGH1901]\n"
    )


def test_those_who_wait_are_shown_below(host, capsys):
    from oci_gpu_hook.allocation import queue, store
    from oci_gpu_hook.allocation.holders import Processes
    from oci_gpu_hook.allocation.model import Claim, Moment

    processes = Processes()
    wish = Request(count=2, exclusive=True, driver_capabilities=(), source="environment")
    holder = processes.holder(0)
    assert holder
    claim = Claim(container="batch", holder=holder, request=wish)
    with store.Store(host.config.state_dir, processes) as opened:
        opened.lock()
        opened.write(queue.enqueue(opened.read(), claim, claim.holder, Moment(date="", uptime=0))[1])
    host()
    assert "waiting, 1: batch for 2" in capsys.readouterr().out


def test_a_record_that_cannot_be_used_is_an_error(host, capsys):
    os.chmod(host.config.state_dir, 0o777)
    assert host("--json") == 1
    assert "could be written by others" in capsys.readouterr().err

"""Terminals of 40, 60 and 80 columns, many GPUs, long names: no index or holder is lost, no line is too long.

In this process, with a stdout that says it is a terminal.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.admin.cli.main import main
from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.entry import Entry
from oci_gpu_hook.base.config import toml
from oci_gpu_hook.base.processes import boot_id, start_time
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import snapshot
from oci_gpu_hook.lifecycle import census
from oci_gpu_hook.oci.container import Container
from oci_gpu_hook.request.model import Request

GPUS = 12
WIDTHS = [40, 60, 80]
# Names of containers of Podman, with the GPUs that each holds; GPU 3 has two holders.
HOLDERS = {
    "research-department-team-vision-train-the-very-large-model-2026-11-28-run-0042": ("0", "1", "2"),
    "ml-platform-production.notebook-of-somebody-with-a-long-name-0.main": ("3", "10"),
    "another-holder-of-gpu-three-with-a-long-name-that-ends-otherwise-B": ("3", "11"),
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A simulated host with three containers that live, which its records name."""
    directory = tmp_path_factory.mktemp("narrow")
    made = make(str(directory / "host"), gpus=GPUS, device_nodes=os.geteuid() == 0)
    config = toml.parse(Path(made.config).read_text())
    inventory = snapshot.load(config)
    process = subprocess.Popen(["/bin/sleep", "120"])
    storage = directory / "storage"
    rootfs = f"{storage}/overlay/x/merged"
    records = []
    os.makedirs(f"{config.state_dir}/containers", mode=0o700, exist_ok=True)
    for number, (name, indices) in enumerate(HOLDERS.items(), 1):
        container_id = f"{number}f5a" * 16
        bundle = storage / "overlay-containers" / container_id / "userdata"
        bundle.mkdir(parents=True)
        state = {"ociVersion": "1.0.2", "process": {"env": []}, "root": {"path": rootfs}}
        (bundle / "config.json").write_text(json.dumps(state | {"annotations": {"io.container.manager": "libpod"}}))
        records.append({"id": container_id, "image": "0" * 64, "names": [name]})
        container = Container(
            id=container_id, pid=process.pid, bundle=str(bundle), rootfs=rootfs, root_readonly=False, env=(),
            mounts=(), annotations={}, privileged=False, uid=0, gid=0, namespaces=(), uid_mappings=(),
            gid_mappings=(), cgroups_path="", device_rules=(),
        )  # fmt: skip
        wish = Request(devices=indices, exclusive=False, driver_capabilities=(), source="environment")
        story.allocate(wish, of_nvidia.of(inventory.gpus), container, config)
        entry = Entry(
            id=container_id, pid=process.pid, start_time=start_time(process.pid), bundle=str(bundle), rootfs=rootfs,
            rootfs_identity=(number, 0), gpus=tuple(inventory.gpus[int(index)].uuid for index in indices), changes=(),
            boot_id=boot_id(),
        )  # fmt: skip
        with journal.Lock(config, (number, 0)):
            journal.write(config, entry)
    (storage / "overlay-containers/containers.json").write_text(json.dumps(records))
    bundle = directory / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    asked = {
        "process": {"env": [f"NVIDIA_VISIBLE_DEVICES={','.join(map(str, range(GPUS)))}"]},
        "root": {"path": "rootfs"},
    }
    (bundle / "config.json").write_text(json.dumps(asked))
    yield made, bundle
    process.kill()
    process.wait()


@pytest.fixture(params=WIDTHS)
def shown(request, host, monkeypatch):
    """Run a command on a terminal of that width; return its lines without colours."""

    def run(*arguments: str) -> list[str]:
        terminal = Terminal()
        monkeypatch.setenv("COLUMNS", str(request.param))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdout", terminal)
        main(["--config", host[0].config, *arguments])
        monkeypatch.undo()
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()).splitlines()

    return run


@pytest.fixture
def width(request):
    """Return the columns of that terminal."""
    return request.node.callspec.params["shown"]


def fits(lines: list[str], width: int) -> None:
    assert lines
    assert [line for line in lines if len(line) > width] == []


def column(lines: list[str], start: int, end: int | None) -> str:
    """Return what stands in a column, its wrapped lines joined."""
    return "".join(line[start:end].strip() for line in lines)


def test_leases(shown, width):
    lines = shown("leases")
    fits(lines, width)
    heading = next(line for line in lines if "HOLDER" in line)
    start, end = heading.index("HOLDER"), heading.index("ENGINE" if "ENGINE" in heading else "SINCE")
    held = column(lines, start, end)
    assert [held.count(name) for name in HOLDERS] == [3, 2, 2]
    assert [int(line[:4]) for line in lines if line[:4].strip().isdigit()] == list(range(GPUS))


def test_gpus(shown, width):
    lines = shown("gpus")
    fits(lines, width)
    held = column(lines[1:], lines[0].index("STATE") + len("STATE  "), None)
    assert [held.count(name) for name in HOLDERS] == [3, 2, 2]
    assert [int(line[:4]) for line in lines if line[:4].strip().isdigit()] == list(range(GPUS))


def test_top(shown, width):
    lines = shown("top", "--once")
    fits(lines, width)
    assert [int(line.split()[1]) for line in lines if line.startswith("GPU ")] == list(range(GPUS))
    assert ["".join("".join(lines).split()).count(name) for name in HOLDERS] == [3, 2, 2]


def test_info(shown, width, host):
    lines = shown("info")
    fits(lines, width)
    assert [int(line.split()[1]) for line in lines if line.startswith("GPU ") and "NVIDIA" in line] == list(range(GPUS))
    squeezed = "".join("".join(lines).split())
    assert all(gpu.uuid in squeezed for gpu in host[0].gpus)
    assert "…" not in squeezed


@pytest.mark.root
def test_plan(shown, width, host):
    lines = shown("plan", str(host[1]))
    fits(lines, width)
    text = "\n".join(lines)
    assert all(f"  GPU {index}  " in text and re.search(rf"/dev/nvidia{index}\s", text) for index in range(GPUS))
    squeezed = "".join("".join(lines).split())
    assert all(gpu.uuid in squeezed for gpu in host[0].gpus)
    assert "…" not in squeezed


def test_doctor(shown, width):
    lines = shown("doctor")
    fits(lines, width)
    assert f"{GPUS} GPUs: {GPUS} x NVIDIA" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize("command", [("verify",), ("repair", "--all")])
def test_each_container_is_called_as_people_call_it(host, monkeypatch, capsys, command):
    """These are lines that terminals wrap: by name, engine and the id that `podman ps` shows."""
    main(["--config", host[0].config, *command])
    said = "".join(capsys.readouterr())
    for number, name in enumerate(HOLDERS, 1):
        assert f"{name} (podman {number}f5a{number}f5a{number}f5a): " in said


def test_what_is_known_of_a_container_is_told():
    long = "3f5a" * 16
    assert census.Resident(id="c1").told == "c1"
    assert census.Resident(id="c1", engine="containerd").told == "c1 (containerd)"
    assert census.Resident(id=long).told == long[:12]
    assert census.Resident(id=long, engine="docker").told == f"{long[:12]} (docker)"
    assert census.Resident(id=long, engine="docker", name="web").told == f"web (docker {long[:12]})"
    assert (
        census.Resident(id=long, engine="containerd", pod="ns/pod/main").told == f"ns/pod/main (containerd {long[:12]})"
    )

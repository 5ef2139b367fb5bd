"""Which container is meant by what a person writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.entry import Entry
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.base.processes import boot_id, start_time
from oci_gpu_hook.lifecycle import running
from oci_gpu_hook.lifecycle.census import of_running


@pytest.mark.parametrize("name", ["9" * 5000, "7" * 200, "\u0663", "\u00b2", "-1", "0", "/", "a\0b", "../1"])
def test_odd_names_are_no_container(tmp_path, name):
    with pytest.raises(InvalidInput, match="is not a running container"):
        running.named(name, Config(state_dir=str(tmp_path)))


@pytest.fixture
def two(tmp_path):
    """Two containers, of which the second has the pid of the first for its id."""
    processes = [subprocess.Popen(["/bin/sleep", "60"]) for _ in range(2)]
    config = Config(state_dir=str(tmp_path))
    os.mkdir(tmp_path / "containers", mode=0o700)
    for name, process in zip(("first", str(processes[0].pid)), processes, strict=True):
        entry = Entry(
            id=name, pid=process.pid, start_time=start_time(process.pid), bundle=f"/b/{name}", rootfs=f"/b/{name}/r",
            rootfs_identity=(0, process.pid), gpus=("GPU-0",), changes=(), boot_id=boot_id(),
        )  # fmt: skip
        with journal.Lock(config, entry.rootfs_identity):
            journal.write(config, entry)
    yield config, [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.wait()


def test_an_id_that_is_another_s_pid_deceives_only_people(two):
    """What acts by itself goes by the process; a person who writes a number gets the container of that id."""
    config, pids = two
    assert running.of_process(pids[0], config).id == "first"
    assert running.of_process(pids[1], config).id == str(pids[0])
    assert running.named(str(pids[0]), config).pid == pids[1]


def test_a_process_in_no_container(two):
    config, _ = two
    with pytest.raises(InvalidInput, match="is in no container that was given GPUs"):
        running.of_process(1 << 22, config)


@pytest.fixture
def named(tmp_path):
    """Two containers of Podman, whose names are in its records, each with a process."""
    config = Config(state_dir=str(tmp_path / "state"))
    os.makedirs(tmp_path / "state/containers", mode=0o700)
    storage = tmp_path / "storage"
    records, processes = [], []
    for name, container_id in (("web", "ab12" * 16), ("train", "ab34" * 16)):
        process = subprocess.Popen(["/bin/sleep", "60"])
        bundle = storage / "overlay-containers" / container_id / "userdata"
        bundle.mkdir(parents=True)
        rootfs = f"{storage}/overlay/{name}/merged"
        document = {"ociVersion": "1.0.2", "root": {"path": rootfs}, "annotations": {"io.container.manager": "libpod"}}
        (bundle / "config.json").write_text(json.dumps(document | {"process": {"env": []}}))
        entry = Entry(
            id=container_id, pid=process.pid, start_time=start_time(process.pid), bundle=str(bundle), rootfs=rootfs,
            rootfs_identity=(0, process.pid), gpus=("GPU-0",), changes=(), boot_id=boot_id(),
        )  # fmt: skip
        with journal.Lock(config, entry.rootfs_identity):
            journal.write(config, entry)
        records.append({"id": container_id, "image": "0" * 64, "names": [name]})
        processes.append(process)
    (storage / "overlay-containers/containers.json").write_text(json.dumps(records))
    yield config, [process.pid for process in processes], storage
    for process in processes:
        process.kill()
        process.wait()


def test_a_container_is_meant_by_its_name_and_by_the_beginning_of_its_id(named):
    config, pids, _ = named
    words = ("web", "ab12ab12ab12", "ab12" * 16, "ab1", str(pids[0]))
    assert [running.named(word, config).id for word in words] == ["ab12" * 16] * len(words)
    assert running.named("train", config).pid == pids[1]
    with pytest.raises(InvalidInput, match="is the beginning of several ids; give more of the id"):
        running.named("ab", config)


def test_an_engine_that_is_gone_takes_names_only(named):
    config, pids, storage = named
    shutil.rmtree(storage)
    assert running.named("ab12ab12ab12", config).pid == pids[0]
    assert [of_running(entry).told for entry in running.everything(config)] == [
        "ab12ab12ab12 (podman)",
        "ab34ab34ab34 (podman)",
    ]
    with pytest.raises(InvalidInput, match="is not a running container"):
        running.named("web", config)

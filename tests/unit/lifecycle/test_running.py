"""Which container is meant by what a person writes."""

from __future__ import annotations

import os
import subprocess

import pytest

from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.entry import Entry
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.base.processes import boot_id, start_time
from oci_gpu_hook.lifecycle import running


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

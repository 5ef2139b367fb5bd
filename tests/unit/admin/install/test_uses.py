"""Who still needs installed executables: real processes that name them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest

from oci_gpu_hook.admin.cli import main
from oci_gpu_hook.admin.install import uses


@contextmanager
def process(*command: object, **options):
    """Run a process that waits for its end."""
    with subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as running:
        assert running.stdout
        running.stdout.readline()
        yield running
        running.communicate()


def test_nobody(tmp_path):
    assert uses.of(str(tmp_path / "libexec")) == []


def test_a_process_that_was_started_with_one(tmp_path):
    with process("/bin/sh", "-c", "echo runs; read _", tmp_path / "libexec/oci-gpu-runtime") as running:
        assert uses.of(str(tmp_path / "libexec")) == [f"process {running.pid} ('sh')"]
        assert uses.of(str(tmp_path / "lib")) == []
        assert uses.of(str(tmp_path / "libexec/mesos")) == []


@pytest.mark.parametrize("by_variable", [True, False])
def test_an_agent_with_the_launcher_directory(tmp_path, by_variable):
    output = str(tmp_path / "libexec/mesos")
    options = {"env": {**os.environ, "MESOS_LAUNCHER_DIR": output}} if by_variable else {}
    words = () if by_variable else (f"--launcher_dir={output}",)
    with process("/bin/sh", "-c", "echo runs; read _", "mesos-agent", *words, **options) as running:
        assert uses.of(str(tmp_path / "libexec")) == [f"process {running.pid} ('sh')"]


def test_a_container_of_podman(tmp_path):
    (tmp_path / "bundle").mkdir()
    hook = {"hooks": {"poststop": [{"path": f"{tmp_path}/libexec/oci-gpu-hook"}]}}
    (tmp_path / "bundle/config.json").write_text(json.dumps(hook))
    monitor = tmp_path / "conmon"
    shutil.copy("/bin/bash", monitor)
    (tmp_path / "script").write_text("echo runs; read _\n")
    with process(monitor, tmp_path / "script", "-b", tmp_path / "bundle", "--cid", "cafe"):
        assert uses.of(str(tmp_path / "libexec")) == ["container 'cafe'"]


def test_a_container_of_containerd(tmp_path):
    """The working directory of a shim is the bundle of its first container; the others of its pod are beside it."""
    for name, runtime in {"one": "libexec/oci-gpu-runtime", "two": "libexec/oci-gpu-runtime", "three": "runc"}.items():
        (tmp_path / "moby" / name).mkdir(parents=True)
        (tmp_path / "moby" / name / "runtime").write_text(f"{tmp_path}/{runtime}")
    shim = tmp_path / "containerd-shim-runc-v2"
    shutil.copy("/bin/bash", shim)
    with process(shim, "-c", "echo runs; read _", cwd=tmp_path / "moby/one"):
        assert uses.of(str(tmp_path / "libexec")) == ["container 'one'", "container 'two'"]


def test_a_pipe_in_the_place_of_a_bundles_file_keeps_nobody_waiting(tmp_path):
    (tmp_path / "bundle").mkdir()
    os.mkfifo(tmp_path / "bundle/config.json")
    monitor = tmp_path / "conmon"
    shutil.copy("/bin/bash", monitor)
    with process(monitor, "-c", "echo runs; read _", "conmon", "-b", tmp_path / "bundle"):
        assert uses.of(str(tmp_path / "libexec")) == []


@pytest.fixture
def mesos(tmp_path):
    """A launcher directory of Mesos, and one that was installed before it."""
    launcher = tmp_path / "mesos"
    launcher.mkdir()
    for name in ("mesos-containerizer", "mesos-executor"):
        (launcher / name).write_text("#!/bin/sh\n")
        (launcher / name).chmod(0o755)
    output = str(tmp_path / "launcher")
    options = ("--launcher-dir", str(launcher), "--output", output)
    assert main.main(["install", "mesos", *options]) == 0
    yield output, options
    assert main.main(["uninstall", "mesos", *options]) == 0
    assert not os.path.lexists(f"{output}/mesos-containerizer")


@pytest.mark.root
def test_a_launcher_directory_is_not_removed_under_an_agent(mesos, capsys):
    output, options = mesos
    with process("/bin/sh", "-c", "echo runs; read _", "mesos-agent", f"--launcher_dir={output}") as agent:
        assert main.main(["uninstall", "mesos", *options]) == 1
        assert f"process {agent.pid}" in capsys.readouterr().err
        assert os.path.lexists(f"{output}/mesos-containerizer")

"""oci-gpu-runtime at an `update`, before a program in the real runtime's place that says what it was given."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from oci_gpu_hook.entrypoints.runtime_update import read_update

RUNTIME = "import sys; from oci_gpu_hook.entrypoints.runtime import main; main(['-', *sys.argv[2:]], sys.argv[1])"
# As a real runtime it knows one container, which is this test's process; else it says its command line and its stdin.
REAL = """#!/bin/sh
case " $* " in *" state "*) printf '{"id": "c", "pid": %s, "bundle": "/b"}' "$PPID_OF_TEST"; exit;; esac
printf '%s\\n' "$*"
cat
"""
NONE = [{"allow": False, "access": "rwm"}]

LINES = {
    "update --resources /f c": ("/f", "c"),
    "--root /r --log /l --systemd-cgroup update --resources=/f c": ("/f", "c"),
    "update -r /f c": ("/f", "c"),
    "update -r/f c": ("/f", "c"),
    "update -resources=/f c": ("/f", "c"),
    "update c -r /f": ("/f", "c"),
    "update --resources - c": ("-", "c"),
    "update --cpu-shares 512 c": None,
    "update --resources /f": None,
    "update": None,
    "": None,
    "state update": None,
    "--root update state --resources /f c": None,
    "exec c update --resources /f c": None,
}


@pytest.mark.parametrize("line", LINES)
def test_command_lines(line):
    update = read_update(line.split())
    assert (update and (update.source, update.container)) == LINES[line]


@pytest.fixture
def update(tmp_path):
    """Run an update through oci-gpu-runtime; return the real runtime's command line and stdin."""
    real = tmp_path / "real"
    real.write_text(REAL)
    real.chmod(0o755)

    def run(*words, stdin=b""):
        command = [sys.executable, "-c", RUNTIME, str(real), *map(str, words)]
        environment = {**os.environ, "PPID_OF_TEST": str(os.getpid())}
        done = subprocess.run(command, input=stdin, capture_output=True, check=True, timeout=60, env=environment)
        line, _, data = done.stdout.partition(b"\n")
        return line.decode().split(), data

    return run


@pytest.mark.parametrize(
    "data",
    [
        b'{"pids": {"limit": 9}}',
        json.dumps({"devices": NONE}).encode(),
        b'{"devices": 1}',
        b"no JSON",
        b"",
        b"x" * (2 << 20),
    ],
    ids=["no devices", "devices", "another kind", "no JSON", "nothing", "much"],
)
@pytest.mark.parametrize("words", [["--root", "/r", "update", "--resources"], ["update", "-r"]], ids=str)
def test_a_container_without_gpus_is_updated_as_the_engine_says(update, tmp_path, data, words):
    file = tmp_path / "resources"
    file.write_bytes(data)
    assert update(*words, file, "c") == ([*words, str(file), "c"], b"")
    assert update(*words, "-", "c", stdin=data) == ([*words, "-", "c"], data)


def test_a_file_that_is_not_there_is_the_real_runtime_s_to_say(update):
    assert update("update", "--resources", "/nonexistent", "c")[0] == ["update", "--resources", "/nonexistent", "c"]


def test_a_pipe_is_left_unread(update, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert update("update", "--resources", fifo, "c")[0] == ["update", "--resources", str(fifo), "c"]

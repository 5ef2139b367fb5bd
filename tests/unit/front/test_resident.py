"""What the front does by what it hears of the resident: is served, waits, starts Python, or has that report an end."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from oci_gpu_hook.admin.install import front_file
from tests.unit.front.conftest import WITNESS

pytestmark = pytest.mark.root
PYTHON = 42
STATE = b'{"id": "c1", "status": "creating", "pid": 1, "bundle": "/nonexistent", "annotations": {"OCI_GPU_": "1"}}'
ENDED = "--ended=resident"


@pytest.fixture
def resident(tmp_path, template, monkeypatch):
    """Play a resident that a front asks: resident(role, *words) -> how the front ended; words as `_play` has them."""
    monkeypatch.setattr(front_file, "TEMPLATE", template)
    directory = tmp_path / "resident"
    directory.mkdir(mode=0o700)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    umask = os.umask(0o177)
    listening.bind(str(directory / "socket"))
    os.umask(umask)
    listening.listen(8)
    witness = tmp_path / "witness"
    witness.write_text(f"#!{sys.executable}{WITNESS}raise SystemExit({PYTHON})\n")
    witness.chmod(0o755)

    def play(role: str, *words: object) -> subprocess.CompletedProcess[bytes]:
        path = str(tmp_path / f"front-{role}")
        assert front_file.write_front(path, role, str(witness), "/stub.pyc", "/bin/true", str(directory / "socket"))
        thread = threading.Thread(target=_play, args=(listening, words))
        thread.start()
        arguments = ["prestart"] if role == "hook" else ["create", "--bundle", str(tmp_path), "c1"]
        (tmp_path / "config.json").write_text('{"process": {"env": ["NVIDIA_VISIBLE_DEVICES=0"]}}')
        done = subprocess.run([path, *arguments], input=STATE, capture_output=True, check=False, timeout=30)
        thread.join()
        return done

    yield play
    listening.close()


def _play(listening: socket.socket, words: tuple[object, ...]) -> None:
    """Take a front, and do what each word says: bytes are said, a number is a pause in seconds, "go" hears that."""
    connection, _ = listening.accept()
    connection.settimeout(10)
    connection.recv(1 << 16)
    held: array.array[int] = array.array("i")
    for word in words:
        if isinstance(word, bytes):
            connection.send(word)
        elif isinstance(word, float):
            time.sleep(word)
        else:
            said, control, _, _ = connection.recvmsg(2, 64)
            assert said == b"G"
            for _level, _kind, content in control:
                held.frombytes(content)
            if word == "go, and state":
                os.read(held[0], 1 << 16)
    for fd in held:
        os.close(fd)
    connection.close()


def started(done: subprocess.CompletedProcess[bytes]) -> tuple[list[str], str]:
    """Return what Python was started with, and its stdin."""
    assert done.returncode == PYTHON, done
    witnessed = json.loads(done.stdout)
    return witnessed["argv"][3:], witnessed["stdin"]


# What the resident says and does before the work, after which Python is started as without it.
BEFORE_THE_WORK = {
    "no": (b"N",),
    "it ends": (),
    "silence": (0.2,),
    "in the queue, and no": (b"Q", b"N"),
    "in the queue, and it ends": (b"Q",),
    "in the queue, and silence": (b"Q", 1.5),
    "it ends before it has heard go": (b"R", 0.1),
    "no after go": (b"R", "go", b"N"),
    "another word": (b"X",),
}


@pytest.mark.parametrize("what", BEFORE_THE_WORK)
def test_before_the_work_python_is_started(resident, what):
    words, stdin = started(resident("hook", *BEFORE_THE_WORK[what]))
    assert words == ["prestart"]
    assert stdin == STATE.decode()


def test_before_the_work_python_is_started_for_the_runtime(resident, tmp_path):
    words, _ = started(resident("runtime", b"R", "go", b"N"))
    assert words[0].startswith("--prepare-for-front=")
    assert words[1:] == ["create", "--bundle", str(tmp_path), "c1"]


@pytest.mark.parametrize("words", [(b"R", "go", b"0"), (b"Q", b"R", "go", b"0"), (b"Q", 0.3, b"R", "go", 0.3, b"0")])
def test_it_is_served(resident, words):
    done = resident("hook", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_it_ends_with_the_workers_status(resident):
    assert resident("hook", b"R", "go", b"1").returncode == 1
    assert resident("hook", b"R", "go", b"2").returncode == 2


@pytest.mark.parametrize("go", ["go", "go, and state"])
def test_that_a_worker_has_ended_is_pythons_to_report(resident, go):
    words, stdin = started(resident("hook", b"R", go))
    assert words == [ENDED, "prestart"]
    assert stdin == STATE.decode()


def test_that_a_worker_of_the_runtime_has_ended_is_pythons_to_report(resident, tmp_path):
    words, _ = started(resident("runtime", b"R", "go"))
    assert words == [ENDED, "create", "--bundle", str(tmp_path), "c1"]

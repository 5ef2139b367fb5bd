"""The front as oci-gpu-hook of a prepared container: it hands the state to whoever stands by, else to Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

STATE = json.dumps({"ociVersion": "1.0.2", "id": "c", "pid": 7, "bundle": "/nonexistent", "status": "creating"})


class Other:
    """The process that stands by, as a thread: `says` is what it answers once it has the state."""

    def __init__(self, path, says=b"", *, takes=True, stays=0.0):
        for end in (".state", ".answer"):
            os.mkfifo(f"{path}{end}", 0o600)
        self.path = str(path)
        self.heard = b""
        self._says = says
        self._takes = takes
        self._stays = stays  # seconds until it has gone
        self.left = 0.0
        self._state = os.open(f"{path}.state", os.O_RDONLY | os.O_NONBLOCK)
        self._answer = os.open(f"{path}.answer", os.O_RDWR)
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exception):
        self._thread.join(timeout=30)

    def _work(self):
        with open(f"{self.path}.state", "rb", buffering=0) as state:
            os.close(self._state)
            if self._takes:
                os.write(self._answer, b"+")
                self.heard = state.read()
                os.write(self._answer, self._says)
        time.sleep(self._stays)
        self.left = time.monotonic()
        os.close(self._answer)


def ask(front, path, state=STATE):
    return subprocess.run(
        [front, "--standby", str(path), "prestart"],
        input=state.encode(),
        capture_output=True,
        check=False,
        timeout=30,
    )


@pytest.fixture
def front(lay, witness):
    interpreter, script, _ = witness
    return lay("hook", interpreter, script)


def seen_by_python(done):
    assert done.returncode == 42, done
    return json.loads(done.stdout)


@pytest.mark.parametrize("size", [0, 60_000, 900_000])
def test_the_state_is_handed_over_whole(front, tmp_path, size):
    state = STATE + " " * size
    with Other(tmp_path / "x", b"\x000") as other:
        done = ask(front, other.path, state)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert other.heard == state.encode()


@pytest.mark.parametrize(
    ("says", "status", "stderr"),
    [
        (b"\x000", 0, b""),
        (b"\x001", 1, b""),
        (b"oci-gpu-hook: warning: w\n\x000", 0, b"oci-gpu-hook: warning: w\n"),
        (b"oci-gpu-hook: error: e\n\x001", 1, b"oci-gpu-hook: error: e\n"),
        (b"x" * 9000 + b"\n\x000", 0, b"x" * 9000 + b"\n"),
        (b"oci-gpu-hook: error: no answer\n", 1, b"oci-gpu-hook: error: no answer\n"),
    ],
)
def test_what_it_says_and_its_status_are_the_hooks(front, tmp_path, says, status, stderr):
    with Other(tmp_path / "x", says) as other:
        done = ask(front, other.path)
    assert (done.returncode, done.stderr) == (status, stderr)


def test_one_that_ends_at_work_fails_the_container(front, tmp_path):
    with Other(tmp_path / "x") as other:
        seen = seen_by_python(ask(front, other.path))
    assert seen["argv"][1:] == ["--ended=standby", "--standby", other.path, "prestart"]  # it reports that
    assert seen["stdin"] == STATE


def test_one_that_is_killed_after_it_has_spoken_has_said_why(front, tmp_path):
    with Other(tmp_path / "x", b"why\n") as other:
        done = ask(front, other.path)
    assert (done.returncode, done.stderr) == (1, b"why\n")


@pytest.mark.parametrize("size", [0, 900_000])
def test_one_that_ends_before_it_begins_is_done_without(front, tmp_path, size):
    state = STATE + " " * size
    with Other(tmp_path / "x", takes=False) as other:
        seen = seen_by_python(ask(front, other.path, state))
    assert seen["argv"][1:] == ["--standby", other.path, "prestart"]
    assert seen["stdin"] == state


def test_without_anybody_python_is_started(front, tmp_path):
    os.mkfifo(tmp_path / "x.state", 0o600)
    os.mkfifo(tmp_path / "x.answer", 0o600)
    seen = seen_by_python(ask(front, tmp_path / "x"))
    assert seen["stdin"] == STATE
    assert [fd for fd in seen["fds"] if fd > 2] == []
    assert seen["env"] == {"LC_ALL": "C"}


def regular(path):
    path.write_text("kept")


def linked(path):
    other = path.with_name(f"{path.name}.there")
    os.mkfifo(other, 0o600)
    path.symlink_to(other)


def readable_by_others(path):
    os.mkfifo(path)
    path.chmod(0o622)


@pytest.mark.parametrize("end", [".state", ".answer"])
@pytest.mark.parametrize("make", [regular, linked, readable_by_others])
def test_what_others_could_have_made_is_not_asked(front, tmp_path, end, make):
    """A hook that an engine starts with arguments of an attacker's choice must write nowhere, and believe nobody."""
    for each in (".state", ".answer"):
        if each == end:
            make(tmp_path / f"x{each}")
        else:
            os.mkfifo(tmp_path / f"x{each}", 0o600)
    held = [os.open(tmp_path / f"x{each}", os.O_RDWR | os.O_NONBLOCK) for each in (".state", ".answer")]
    try:
        seen = seen_by_python(ask(front, tmp_path / "x"))
    finally:
        for fd in held:
            os.close(fd)
    assert seen["stdin"] == STATE
    if make is regular:
        assert (tmp_path / f"x{end}").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_a_fifo_of_another_user_is_not_asked(front, tmp_path):
    for end in (".state", ".answer"):
        os.mkfifo(tmp_path / f"x{end}", 0o600)
        os.chown(tmp_path / f"x{end}", 7, 7)
    held = [os.open(tmp_path / f"x{end}", os.O_RDWR | os.O_NONBLOCK) for end in (".state", ".answer")]
    try:
        seen_by_python(ask(front, tmp_path / "x"))
    finally:
        for fd in held:
            os.close(fd)


def test_a_relative_path_is_not_asked(front, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Other(tmp_path / "x", b"\x000") as other:
        seen_by_python(ask(front, "x"))
        ask(front, other.path)  # which lets the thread end


def test_the_hook_in_python_does_without_too():
    """A bundle that was prepared before the front was taken away."""
    program = "import sys; from oci_gpu_hook.entrypoints.hook import main; main(sys.argv)"
    command = [sys.executable, "-c", program, "--standby", "/x/7-1", "prestart"]
    done = subprocess.run(command, input=b"{}", capture_output=True, check=False)
    assert done.returncode == 1
    assert b"usage" not in done.stderr


def test_it_ends_after_the_other(front, tmp_path):
    """Else crun, which waits for a hook with a timeout by SIGCHLD, may miss the end of the next hook."""
    with Other(tmp_path / "x", b"\x000", stays=0.05) as other:
        done = ask(front, other.path)
        ended = time.monotonic()
    assert (done.returncode, done.stderr) == (0, b"")
    assert ended >= other.left > 0


def test_it_does_not_wait_long_for_one_that_stays(front, tmp_path):
    with Other(tmp_path / "x", b"\x000", stays=3) as other:
        began = time.monotonic()
        done = ask(front, other.path)
        assert time.monotonic() - began < 2
    assert (done.returncode, done.stderr) == (0, b"")

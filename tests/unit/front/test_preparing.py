"""The front as oci-gpu-runtime: a process of its own prepares the bundle, and the front goes by that process's word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from oci_gpu_hook.entrypoints.runtime_call import FOR_FRONT

ASKING = '{"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]}}'
WORDS = ("create", "c")
REPORT = "reports ['--ended=preparing', 'create', 'c']\n"
# What stands for Python; `front` is the descriptor for its word. Started again, it reports that the first has ended.
PREPARES = f"""
import os, signal, sys, time
if sys.argv[1].startswith("--ended="):
    raise SystemExit(f"reports {{sys.argv[1:]}}")
front = int(sys.argv[1].removeprefix({FOR_FRONT!r}))
"""
# What stands for the real runtime; it says which process it is, and what it was given.
RUNTIME = """
import json, os, sys
fds = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
print(json.dumps({"pid": os.getpid(), "argv": sys.argv[1:], "env": dict(os.environ), "fds": sorted(map(int, fds)),
  "cwd": os.getcwd(), "stdin": sys.stdin.read()}))
"""


@pytest.fixture
def real(tmp_path):
    path = tmp_path / "real"
    path.write_text(f"#!{os.path.realpath(sys.executable)} -ISB\n{RUNTIME}")
    path.chmod(0o755)
    return path


@pytest.fixture
def front(lay, tmp_path, real):
    """Lay a front: front(what Python does) -> its path."""

    def front(does):
        stub = tmp_path / "stub.py"
        stub.write_text(PREPARES + does)
        return lay("runtime", os.path.realpath(sys.executable), str(stub), str(real))

    return front


def start(path, asking, **options):
    options = {"env": {"A": "1"}, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": asking, **options}
    return subprocess.Popen([path, *WORDS], stderr=subprocess.PIPE, **options)


@pytest.fixture
def asking(bundle):
    return bundle(ASKING)


def test_when_it_is_prepared_the_front_becomes_the_real_runtime(front, asking):
    process = start(front('os.write(front, b"0")\n'), asking)
    said, complaint = process.communicate(b"in", timeout=30)
    said = json.loads(said)
    said["env"].pop("LC_CTYPE", None)  # CPython's
    assert (process.returncode, complaint) == (0, b"")
    assert said == {
        "pid": process.pid, "argv": list(WORDS), "env": {"A": "1"}, "fds": said["fds"], "cwd": asking, "stdin": "in",
    }  # fmt: skip
    assert said["fds"] == [0, 1, 2]


def test_it_does_not_wait_until_the_other_ends(front, asking, tmp_path):
    child = tmp_path / "child"
    does = (
        f'open({str(child)!r}, "w").write(str(os.getpid()))\nos.write(front, b"0")\nfor fd in (0, 1, 2): os.close(fd)\n'
    )
    process = start(front(does + "time.sleep(60)\n"), asking)
    process.communicate(timeout=30)
    assert process.returncode == 0
    pid = int(child.read_text())
    deadline = time.monotonic() + 10
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _lives(pid)  # it ended with the process that had become the real runtime


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("does", "status", "complaint"),
    [
        ('os.write(2, b"why"); os.write(front, b"1")', 1, "why"),
        ('os.write(2, b"why"); os._exit(3)', 3, "why"),
        ("raise SystemExit('why')", 1, "why\n"),
        ("os._exit(0)", 1, REPORT),
        ("os.kill(os.getpid(), signal.SIGKILL)", 1, REPORT),
        ('os.write(front, b"x"); time.sleep(1)', 1, REPORT),
    ],
)
def test_else_no_container_is_made(front, asking, does, status, complaint):
    process = start(front(does + "\n"), asking)
    said, found = process.communicate(timeout=30)
    assert (process.returncode, said) == (status, b"")
    assert found.decode() == complaint


def test_an_interpreter_that_is_gone_is_told_once(lay, asking, real):
    process = start(lay("runtime", "/nonexistent/python3", "/nonexistent", str(real)), asking)
    said, complaint = process.communicate(timeout=30)
    assert (process.returncode, said) == (1, b"")
    assert complaint.startswith(b"oci-gpu-runtime: error: cannot start /nonexistent/python3: errno 002; ")
    assert complaint.count(b"\n") == 1


def test_a_front_that_is_killed_takes_the_other_with_it(front, asking, tmp_path):
    child = tmp_path / "child"
    does = f'open({str(child)!r} + ".new", "w").write(str(os.getpid()))\n'
    does += f'os.rename({str(child)!r} + ".new", {str(child)!r})\ntime.sleep(60)\n'
    process = start(front(does), asking)
    try:
        deadline = time.monotonic() + 30
        while not child.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate(timeout=30)
    pid = int(child.read_text())
    deadline = time.monotonic() + 10
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _lives(pid)


@pytest.mark.parametrize("closed", [(0,), (2,), (0, 1, 2)])
def test_closed_descriptors_stay_closed_and_get_no_word(front, asking, real, closed, tmp_path):
    """With one of them closed, an end of the pipe must not take its place: a complaint would be read as the word."""
    told = tmp_path / "told"
    note = f'open({str(told)!r}, "w").write(sys.argv[1])\n'
    real.write_text(f"#!/bin/sh\nls /proc/self/fd > {tmp_path}/left\n")

    def close():
        for fd in closed:
            os.close(fd)

    process = start(front(note + 'os.write(front, b"0")\n'), asking, preexec_fn=close)
    with suppress(ValueError):
        process.communicate(timeout=30)
    assert process.wait(timeout=30) == 0
    assert int(told.read_text().removeprefix(FOR_FRONT)) > 2


def test_signals_reach_the_real_runtime_as_the_engine_left_them(front, asking, real):
    real.write_text("#!/bin/sh\ngrep -E 'Sig(Ign|Blk)' /proc/self/status\n")
    process = start(front('os.write(front, b"0")\n'), asking, restore_signals=True)
    said, _ = process.communicate(timeout=30)
    bare = subprocess.run([real], capture_output=True, check=True, restore_signals=True).stdout
    assert said == bare

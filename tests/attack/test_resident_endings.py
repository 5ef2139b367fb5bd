"""Fronts that end or stop between two steps of the protocol: no worker is lost, and nothing is left half-done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.attack.sandbox import ENVIRONMENT, Outcome
from tests.attack.served import STATE, needs_strace, stub_of
from tests.runtime import rootfs as images
from tests.runtime.host import contents, difference

UTILITY = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility")
# A front that does so many steps, and then closes the connection, is killed or stops. It prints what it has heard.
STUB = """
import array, os, signal, socket, sys
address, stub, state, steps, how, *arguments = map(os.fsencode, sys.argv[1:])
memory, null = os.memfd_create("state"), os.open("/dev/null", os.O_RDWR)
os.write(memory, state)
os.lseek(memory, 0, 0)
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
packet = b"".join(word + b"\\0" for word in (b"oci-gpu-hook resident 2", b"hook", stub, b"", *arguments))
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory, null, null]))]
heard = []
for step in (lambda: connection.connect(address), lambda: connection.send(packet),
             lambda: heard.append(connection.recv(1)), lambda: connection.sendmsg([b"G"], rights))[:int(steps)]:
    step()
if how == b"close":
    connection.close()
else:
    os.kill(os.getpid(), signal.SIGKILL if how == b"kill" else signal.SIGSTOP)
    heard.append(connection.recv(1))
print(b"".join(heard).decode())
"""


@pytest.fixture
def rootfs(machine, directory):
    return images.copy(machine.image("debian"), directory / "rootfs")


@pytest.fixture
def stub(served):
    """Return what begins a front that does so many steps of the protocol, and then ends or stops."""

    def begin(steps: int, how: str, state: bytes, *arguments: str) -> subprocess.Popen[str]:
        words = (str(served.address), stub_of(served.front), state.decode(), str(steps), how, *arguments, "prestart")
        command = [*served.command, sys.executable, "-c", STUB, *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True)

    return begin


def said(front: subprocess.Popen[str]) -> str:
    return front.communicate(timeout=30)[0].strip()


def test_a_front_that_ends_between_two_steps_costs_no_worker(served, stub, tally):
    before = {*served.running.workers()}
    for how, heard in (("close", "R"), ("kill", "")):
        fronts = [stub(steps, how, STATE) for steps in (1, 2, 3) for _ in range(3)]
        assert {said(front) for front in fronts} <= {"", heard}
        tally.count()
    served.running.wait_until_ready()
    assert before <= {*served.running.workers()}
    assert served.serves()


def test_a_start_whose_front_has_ended_after_its_last_word_is_rolled_back(
    served, stub, enter, rootfs, simulated, tally
):
    before = contents(rootfs)
    with enter(rootfs, env=UTILITY, hook=served.front) as first:
        assert first.attach() == Outcome("")
    assert first.release() == Outcome("")
    for how in ("close", "kill"):
        with enter(rootfs, env=UTILITY, hook=served.front) as sandbox:
            mounts = sandbox.mounts()
            front = stub(4, how, sandbox.state(), "--config", str(simulated.config))
            said(front)
            tally.count()
            served.running.wait_until_all_wait()
            assert sandbox.mounts() == mounts
        assert [path.name for path in simulated.state_dir.rglob("*") if sandbox.id in path.name] == []
        assert sandbox.id not in (simulated.state_dir / "leases.json").read_text()
    assert difference(before, contents(rootfs)) == []
    assert served.serves()


def test_a_front_that_stops_after_its_last_word_finds_its_answer(served, stub, enter, rootfs, simulated, tally):
    """Its container is attached meanwhile, and its worker serves others."""
    with enter(rootfs, env=UTILITY, hook=served.front) as sandbox:
        front = stub(4, "stop", sandbox.state(), "--config", str(simulated.config))
        deadline = time.monotonic() + 20
        while not sandbox.path("/dev/nvidia0").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        served.running.wait_until_ready()
        assert served.serves()
        tally.count()
        assert front.poll() is None
        os.kill(front.pid, signal.SIGCONT)
        assert said(front) == "R0"
        assert sandbox.path("/dev/nvidia0").is_char_device()
    assert sandbox.release() == Outcome("")


@needs_strace
def test_a_front_that_stops_before_its_last_word_starts_python(served, tally):
    """No worker waits for it longer than a second. It is held up before its call, its answer and its last word."""

    def call(held_up_at: str) -> None:
        inject = f"inject={held_up_at}:delay_enter=1300000:when=1"
        served.call("strace", "-qq", "-o", "/dev/null", "-e", f"trace={held_up_at}", "-e", inject)
        tally.count()

    calls = ("sendto", "ppoll", "sendmsg")
    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(call, calls))
    assert served.pythons == len(calls)
    assert served.serves()

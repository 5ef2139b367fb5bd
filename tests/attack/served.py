"""A resident on runc's host that attacks ask, and a front whose starts of Python are counted."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from oci_gpu_hook.admin.install import front_file
from tests.attack.sandbox import ENVIRONMENT
from tests.runtime import residents

# A call that is refused by whoever answers it, as nothing is at this path.
STATE = b'{"ociVersion": "1.0.2", "id": "a", "status": "creating", "pid": 1, "bundle": "/nonexistent"}'
needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")

# Sends packets from a process that is where a front is, and says what comes back. STUB stands for what a front of this
# installation starts.
ASK = """
import array, ast, os, socket, sys
BY_ANOTHER = -1
address, stub, packets = sys.argv[1], sys.argv[2].encode(), ast.literal_eval(sys.stdin.read())
for _ in range(5):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(10)
    connection.connect(address)
    heard = b""
    for data, count in packets:
        null = os.open("/dev/null", os.O_RDWR)
        number = 3 if count == BY_ANOTHER else count
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null] * number))] if count else []
        child = os.fork() if count == BY_ANOTHER else 0
        if child:
            os.waitpid(child, 0)
        try:
            if not child:
                connection.sendmsg([data.replace(b"STUB", stub)], rights)
            if count == BY_ANOTHER and not child:
                os._exit(0)
            heard += connection.recv(100)
        except (BrokenPipeError, ConnectionResetError):
            pass
    print(heard)
"""


@dataclass
class Served:
    """A resident on runc's host, and a front that asks it; `pythons` counts how often that has started Python."""

    running: residents.Resident
    front: Path
    address: Path
    python: residents.Interpreter
    command: tuple[str, ...]
    listening: socket.socket

    @property
    def pythons(self) -> int:
        return self.python.starts

    def call(self, *before: str, front: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        """Have the front refuse a container that has no bundle."""
        command = [*self.command, *before, str(front or self.front), "prestart"]
        done = subprocess.run(command, input=STATE, capture_output=True, env=ENVIRONMENT, check=False, timeout=30)
        assert done.returncode == 1, done
        assert b"oci-gpu-hook: error: cannot read '/nonexistent/config.json': No such file or directory" in done.stderr
        return done

    def serves(self) -> bool:
        """Tell whether it serves a front. On a busy machine one may have waited for its 50 ms, so several try."""
        for _ in range(20):
            before = self.pythons
            self.call()
            if self.pythons == before:
                return True
        return False

    def ask(self, packets: list[tuple[bytes, int]], *before: str) -> subprocess.CompletedProcess[str]:
        """Send packets five times, and print what comes back."""
        program = [*self.command, *before, sys.executable, "-c", ASK, str(self.address), stub_of(self.front)]
        return subprocess.run(program, input=repr(packets), capture_output=True, text=True, check=False, timeout=60)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(10)
        connection.connect(str(self.address))
        return connection


def begun(sandbox) -> subprocess.Popen[bytes]:
    """Start the hook as a runtime does, and do not wait for it."""
    command = sandbox.command("prestart")
    front = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert front.stdin
    front.stdin.write(sandbox.state())
    front.stdin.close()
    return front


def stub_of(front: Path) -> str:
    found = front_file.read_front(str(front))
    assert found
    return found.stub


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))

"""Who speaks to the resident is not who it seems to be, or hands over what it should not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oci_gpu_hook.base import limits
from tests.attack.served import STATE, needs_strace, stub_of
from tests.runtime.residents import traced

# A process that is elsewhere asks as a front, and ends at once; the next process with its pid is where the resident is.
# A child keeps the connection, and says what it hears. clone3(2) gives a process the pid that is asked for.
SUCCESSOR = """
import array, ctypes, os, signal, socket, struct, sys, time
address, stub, state = sys.argv[1], os.fsencode(sys.argv[2]), os.fsencode(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
reading, writing = os.pipe()
front = os.fork()
if not front:
    assert libc.unshare(0x04000000) == 0  # CLONE_NEWUTS
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(address)
    connection.send(b"oci-gpu-hook resident 2\\0hook\\0" + stub + b"\\0\\0prestart\\0")
    assert connection.recv(1) == b"R"
    if not os.fork():
        os.write(writing, connection.recv(1))
        os._exit(0)
    memory, null = os.memfd_create("state"), os.open("/dev/null", os.O_RDWR)
    os.write(memory, state)
    os.lseek(memory, 0, 0)
    connection.sendmsg([b"G"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory, null, null]))])
    os._exit(0)
os.waitpid(front, 0)
wanted = (ctypes.c_int * 1)(front)
arguments = struct.pack("=10Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1)
successor = libc.syscall(435, arguments, len(arguments))
if not successor:
    time.sleep(30)
    os._exit(0)
os.close(writing)
heard = os.read(reading, 1)
if successor > 0:
    os.kill(successor, signal.SIGKILL)
print(heard.decode() if successor == front else "none")
"""


@needs_strace
def test_the_next_process_with_a_fronts_pid_is_not_the_front(served, tally):
    """The worker is held up between the last word and what /proc says of the pid."""
    tracers = traced(served.running, "-e", "trace=recvmsg", "-e", "inject=recvmsg:delay_exit=1000000")
    program = (sys.executable, "-c", SUCCESSOR, str(served.address), stub_of(served.front), STATE.decode())
    heard = "none"
    try:
        for _ in range(5):
            done = subprocess.run([*served.command, *program], capture_output=True, text=True, check=True, timeout=60)
            heard = done.stdout.strip()
            tally.count()
            if heard != "none":
                break
        assert heard == "N"
    finally:
        for tracer in tracers:
            tracer.kill()
            tracer.wait()


def test_a_container_that_has_the_socket_gets_nothing_of_it(served, tally):
    """Its root is the host's, also in a user namespace that maps it to itself: so it may connect, and is told no."""
    front = (b"oci-gpu-hook resident 2\0hook\0STUB\0\0prestart\0", 0)
    container = ("unshare", "--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--cgroup")
    for where in (container, (*container, "--user", "--map-root-user")):
        for word in ((b"G", 3), (b"L", 0)):
            assert served.ask([front, word], *where).stdout.split() == [str(b"RN")] * 5
            tally.count()
    assert served.serves()


# What is handed over as stdin in place of the state, which the front has in memory.
HANDS = """
import array, os, pty, socket, sys
address, stub = sys.argv[1], os.fsencode(sys.argv[2])
endless, writing = os.pipe()
one, other = socket.socketpair()
master, terminal = pty.openpty()
null = os.open("/dev/null", os.O_RDWR)
for fd in (endless, one.fileno(), terminal, os.pidfd_open(os.getpid()), os.open("/", os.O_RDONLY),
           os.open("/etc/passwd", os.O_PATH), os.open("/dev/zero", os.O_RDONLY), os.open("/proc/kmsg", os.O_RDONLY)):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(10)
    connection.connect(address)
    connection.send(b"oci-gpu-hook resident 2\\0hook\\0" + stub + b"\\0\\0prestart\\0")
    assert connection.recv(1) == b"R"
    connection.sendmsg([b"G"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd, null, null]))])
    print(connection.recv(1).decode(), end="", flush=True)
"""


def test_what_may_have_no_end_is_not_read(served, tally):
    program = (sys.executable, "-c", HANDS, str(served.address), stub_of(served.front))
    done = subprocess.run([*served.command, *program], capture_output=True, text=True, check=False, timeout=120)
    tally.count()
    assert done.stdout == "N" * 8, done
    assert served.serves()


CHANGES = """
import array, mmap, os, socket, sys
address, stub, size = sys.argv[1], os.fsencode(sys.argv[2]), int(sys.argv[3])
memory, null = os.memfd_create("state"), os.open("/dev/null", os.O_RDWR)
os.ftruncate(memory, size)
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect(address)
connection.send(b"oci-gpu-hook resident 2\\0hook\\0" + stub + b"\\0\\0prestart\\0")
assert connection.recv(1) == b"R"
connection.sendmsg([b"G"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory, null, null]))])
connection.settimeout(0.001)
heard, turn = b"", 0
while not heard:
    os.ftruncate(memory, size if (turn := turn + 1) % 2 else 0)
    try:
        heard = connection.recv(1)
    except TimeoutError:
        pass
print(heard.decode(), end="")
"""


@pytest.mark.parametrize("size", [100, limits.STATE, limits.STATE + 1, 1 << 34])
def test_a_state_that_changes_is_read_once_and_within_its_limit(served, tally, size):
    program = (sys.executable, "-c", CHANGES, str(served.address), stub_of(served.front), str(size))
    done = subprocess.run([*served.command, *program], capture_output=True, text=True, check=False, timeout=60)
    tally.count()
    assert done.stdout == "1", done
    assert served.serves()

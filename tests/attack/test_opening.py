"""What the hook reads of an image it opens only once it is known to be a regular file.

To open a device node can be an act: /dev/watchdog resets the machine, a tape rewinds; a FIFO wakes whoever waits on it.
The hook runs as root of the host, whose device rules do not stop it.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct

import pytest

from tests.runtime import rootfs as images

_IN_OPEN = 0x20  # include/uapi/linux/inotify.h
READ = ("etc/ld.so.cache", "usr/local/cuda/compat/libcuda.so.999.1")
LOOKED_FOR = ("etc/debian_version",)  # that it exists is enough


class Opens:
    """Counts how often a file is opened; an O_PATH descriptor opens nothing."""

    def __init__(self, path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_OPEN) >= 0

    def seen(self) -> int:
        try:
            return len(os.read(self._fd, 65536)) // struct.calcsize("iIII")
        except BlockingIOError:
            return 0
        finally:
            os.close(self._fd)


@pytest.mark.parametrize("path", [*READ, *LOOKED_FOR])
@pytest.mark.parametrize("kind", ["character device", "block device", "FIFO"])
def test_only_regular_files_are_opened(kind, path, enter, machine, directory, tally):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    at = rootfs / path
    at.parent.mkdir(parents=True, exist_ok=True)
    at.unlink(missing_ok=True)
    if kind == "FIFO":
        os.mkfifo(at)
    else:
        os.mknod(at, (stat.S_IFCHR if kind.startswith("char") else stat.S_IFBLK) | 0o666, os.makedev(1, 3))
    opens = Opens(at)
    with enter(rootfs) as sandbox:
        tally.count(sandbox.attach())
    sandbox.release()
    assert opens.seen() == 0


@pytest.mark.parametrize("path", READ)
def test_a_regular_file_in_that_place_is_opened(path, enter, machine, directory):
    """Without this the paths could be ones that the hook never looks at."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    at = rootfs / path
    at.parent.mkdir(parents=True, exist_ok=True)
    if not at.exists():
        at.write_bytes((rootfs / "lib64" / os.listdir(rootfs / "lib64")[0]).read_bytes())
    opens = Opens(at)
    with enter(rootfs) as sandbox:
        assert sandbox.attach().refused == ""
    assert opens.seen() > 0
    assert sandbox.release().refused == ""


def test_the_watch_sees_an_open(directory):
    node = directory / "null"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    opens = Opens(node)
    os.close(os.open(node, os.O_PATH))
    os.close(os.open(node, os.O_RDONLY))
    assert opens.seen() == 1


def test_files_that_never_end(enter, machine, directory, tally):
    """Sparse files of a terabyte, and a directory of thousands of candidates: the hook reads little of either."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    compat = rootfs / "usr/local/cuda/compat"
    compat.mkdir(parents=True)
    header = (rootfs / "lib64" / os.listdir(rootfs / "lib64")[0]).read_bytes()[:4096]
    for path in (rootfs / "etc/ld.so.cache", compat / "libcuda.so.1"):
        path.write_bytes(header)
        os.truncate(path, 1 << 40)
    for number in range(5000):
        (compat / f"libcuda.so.999.{number}").write_bytes(header)
    with enter(rootfs) as sandbox:
        outcome = sandbox.attach(timeout=20)
        tally.count(outcome)
    assert sandbox.release().refused == ""
    assert outcome.refused == ""


NAMES = ["x" * 200, "x" * 255, "\u00e9" * 120, "a\nb", "\x1b[2J", "-rf", " ", "%s%n", "\ud800"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_that_become_files(name, enter, machine, simulated, directory, tally):
    """The container's id names its files in the state directory; whatever it is, they lie there or it is refused."""
    others = set(os.listdir(simulated.state_dir))  # of other tests, which have the host too
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    with enter(rootfs, id=name, cgroup_name="named") as sandbox:
        outcome = sandbox.attach()
        tally.count(outcome)
    sandbox.release()
    known = {"containers", "counts.json", "inventory.json", "inventory.lock", "leases.json", "leases.lock"}
    assert set(os.listdir(simulated.state_dir)) - others <= known
    assert not [left for left in os.listdir(simulated.state_dir / "containers") if not left.startswith(".")]

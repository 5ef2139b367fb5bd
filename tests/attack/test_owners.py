"""What the hook makes for a container of a user namespace belongs to the container's root, and nothing else ever does.

Two containers share a rootfs. In the one that is started a volume of the host is mounted at `volume`; from the other,
where nothing is mounted, that directory is renamed to where the hook is about to make one, and back, all the while.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from oci_gpu_hook.apply import cleanup
from oci_gpu_hook.apply.journal.changes import DIRECTORY, FILE, change
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from tests.runtime import rootfs as images

OWNER = 100_000
_ROUNDS = {False: 3_000, True: 100_000}

# In a mount namespace of its own: sees the volume, makes a directory, a file, a link and a node by the names that move.
_VICTIM = """
import os, sys
sys.path.insert(0, {repository!r})
from oci_gpu_hook.apply.rootfs.directory import Directory
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.devices.edits import DeviceNode

rootfs, volume, rounds, owner = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.umask(0)
node = DeviceNode(path="/expected", host_path="/dev/null", major=1, minor=3, file_mode=0o666, uid=7, gid=7)
made = met = 0
for number in range(rounds):
    fd = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    with Rootfs(fd, (owner, owner)) as root:
        place = Directory(root, os.dup(fd), "")
        try:
            if number % 2:
                os.close(place.make_directory("expected").fd)
            else:
                place.make_node("expected", node)
            made += 1
        except (HookError, OSError):
            met += 1
        os.close(place.fd)
    for remove in (os.rmdir, os.unlink):
        try:
            remove(os.path.join(rootfs, "expected"))
        except OSError:
            pass
print(made, met)
"""

_RACER = """
import os, sys
os.chdir(sys.argv[1])
print("ready", flush=True)
while True:
    for one, other in (("volume", "expected"), ("expected", "volume")):
        try:
            os.rename(one, other)
        except OSError:
            pass
"""


@pytest.mark.race
def test_a_directory_of_the_host_is_never_given_away(directory, canary, tally, full):
    rootfs = directory / "shared-rootfs"
    (rootfs / "volume").mkdir(parents=True)
    os.chown(rootfs, OWNER, OWNER)
    volume = canary.directory / "volume"
    volume.mkdir()
    (volume / "data").write_text("of the host")
    canary.seal()
    repository = str(Path(__file__).parents[2])
    racer = subprocess.Popen([sys.executable, "-c", _RACER, rootfs], stdout=subprocess.PIPE)
    assert racer.stdout
    try:
        racer.stdout.readline()
        script = _VICTIM.format(repository=repository)
        # The racer moves the directory, so the mount is tried until it is met.
        shell = 'until mount --bind "$1" "$2/volume" 2>/dev/null; do :; done; exec "$3" -c "$4" "$2" "$1" "$5" "$6"'
        arguments = [volume, rootfs, sys.executable, script, str(_ROUNDS[full]), str(OWNER)]
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", shell, "sh", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=280)
    finally:
        racer.kill()
        racer.wait()
        racer.stdout.close()
    made, met = map(int, done.stdout.split())
    tally.count()
    assert made > 100, done
    assert met > 100, "the race was hardly one"
    found = volume.stat()
    assert (found.st_uid, found.st_gid) == (0, 0)
    assert canary.is_untouched()


def test_a_directory_that_is_there_already_keeps_its_owner(directory, tally):
    for owner in ((0, 0), (12, 34)):
        rootfs = directory / str(owner[0])
        (rootfs / "name").mkdir(parents=True)
        os.chown(rootfs / "name", *owner)
        fd = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
        with Rootfs(fd, (OWNER, OWNER)) as held, Directories(held) as directories:
            os.close(directories.make("").make_directory("name").fd)
            os.close(directories.make("").make_directory("new").fd)
        tally.count()
        found = os.stat(rootfs / "name")
        assert (found.st_uid, found.st_gid) == owner
        found = os.stat(rootfs / "new")
        assert (found.st_uid, found.st_gid) == (OWNER, OWNER)


def test_what_lies_below_a_mount_is_not_taken_away(enter, machine, directory, tally):
    """Whoever removes a mountpoint from another namespace removes the mount; what was looked at was the mount."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    for name in ("hidden", "mask"):
        (rootfs / name).touch()
    (rootfs / "empty").mkdir()
    with enter(rootfs) as sandbox:
        inside = ["nsenter", f"--mount=/proc/{sandbox.pid}/ns/mnt", "--", "mount"]
        subprocess.run([*inside, "--bind", rootfs / "mask", rootfs / "hidden"], check=True)
        subprocess.run([*inside, "-t", "tmpfs", "tmpfs", rootfs / "empty"], check=True)
        before = sandbox.mounts()
        everything = frozenset(int(line.split()[0]) for line in before)  # as if all were the container's own
        held = Rootfs(os.open(sandbox.path("/"), os.O_PATH | os.O_DIRECTORY), own_mounts=lambda _mount: everything)
        with held:
            cleanup.take_back(held, [change(FILE, "/hidden"), change(DIRECTORY, "/empty")])
        tally.count()
        assert sandbox.mounts() == before
        for name in ("hidden", "empty"):  # seen from where nothing is mounted, they are what may be removed
            assert (rootfs / name).exists()


@pytest.mark.race
def test_a_volume_of_a_container_whose_rootfs_another_one_uses(runc, make_bundle, directory, tally, full):
    """The whole way, under runc: the other container begins to rename once the volume is mounted."""
    volume = directory / "hosts"
    volume.mkdir(mode=0o755)
    mounts = ({"destination": "/volume", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]},)
    begun = directory / "begun"
    for number in range(60 if full else 12):
        bundle = make_bundle("list=/", gpus="0", user_namespace=True, mounts=mounts, name=f"bundle-{number}")
        script = f"echo > {begun}"
        bundle.config["hooks"]["prestart"].insert(0, {"path": "/bin/sh", "args": ["sh", "-c", script]})
        (bundle.rootfs / "volume").mkdir()
        where = bundle.rootfs / "usr/lib/firmware"
        assert not where.exists()
        with renaming(bundle.rootfs / "volume", where, begun):
            result = runc.run(bundle)
        tally.count()
        assert result.status == 0 or "internal error" not in result.stderr
        assert os.stat(volume).st_uid == 0, f"the host's directory is the container's now, by container {number}"
        begun.unlink(missing_ok=True)


@contextmanager
def renaming(mountpoint: Path, name: Path, begun: Path):
    """Give a mount point the name where the hook makes something, and take it away again, once a file is there."""
    context = multiprocessing.get_context("fork")
    stop = context.Event()

    def keep_renaming() -> None:
        while not begun.exists() and not stop.is_set():
            time.sleep(0.001)
        while not stop.is_set():
            for one, other in ((mountpoint, name), (name, mountpoint)):
                try:
                    os.rename(one, other)
                except OSError:
                    continue
                time.sleep(0.0003)

    process = context.Process(target=keep_renaming)
    process.start()
    try:
        yield
    finally:
        stop.set()
        process.join(10)
    assert process.exitcode == 0

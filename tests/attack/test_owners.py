"""What the hook makes for a container of a user namespace belongs to the container's root, and nothing else ever does.

Two containers share a rootfs. In the one that is started a volume of the host is mounted at `volume`; from the other,
where nothing is mounted, that directory is renamed to where the hook is about to make one, and back, all the while.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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

"""The pipe directory of MPS is mounted writable: whoever could choose it would have any directory of the host.

A process that root owns may have been started by anybody, with a name and an environment of his choice: a link to a
program with the set-user-ID bit, which then waits for a password.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runtime import rootfs as images

NAME = "nvidia-cuda-mps-control"
NOBODY = "65534"
SUITABLE = {"control": os.mkfifo, "log": os.mkfifo}  # what the daemon makes in its directory


def program(directory: Path, kind: str) -> tuple[Path, tuple[str, ...]]:
    """Return a program that a process of root's can be started with by somebody else, and the words that do that."""
    place = directory / "bin"
    place.mkdir()
    place.chmod(0o755)
    by_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    sleep = shutil.which("sleep")
    assert sleep
    if kind == "su":
        (place / NAME).symlink_to("/usr/bin/su")
        return place / NAME, by_nobody
    (place / "waits").write_bytes(Path(sleep).read_bytes())
    (place / "waits").chmod(0o4755)
    if kind == "a hard link":
        os.link(place / "waits", place / NAME)
    else:
        (place / NAME).symlink_to(place / "waits")
    return place / NAME, by_nobody if kind != "as sudo" else ()  # sudo has every id of root's while it asks


@contextmanager
def running(host, path: Path, before: tuple[str, ...], pipes: Path):
    waits = ("100",) if os.path.basename(os.path.realpath(path)) != "su" else ()
    command = host.command(*before, "env", "-i", f"CUDA_MPS_PIPE_DIRECTORY={pipes}", path, *waits)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 10
        while Path(f"/proc/{process.pid}/comm").read_text() != f"{NAME[:15]}\n":
            assert time.monotonic() < give_up
            time.sleep(0.02)
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["su", "a link", "a hard link", "as sudo"])
def test_nobody_else_names_the_directory(kind, runc, enter, machine, directory, canary, tally):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    wanted = canary.directory / "of-root"
    wanted.mkdir()
    for name, make in SUITABLE.items():
        make(wanted / name)
    canary.seal()
    path, before = program(directory, kind)
    env = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_MPS=enabled", f"CUDA_MPS_PIPE_DIRECTORY={wanted}")
    with running(runc.host, path, before, wanted) as pid:
        assert os.stat(f"/proc/{pid}").st_uid == 0
        with enter(rootfs, env=env) as sandbox:
            mounts = sandbox.mounts()
            outcome = sandbox.attach(warns=True)
            tally.count(outcome)
            assert [line for line in set(sandbox.mounts()) - set(mounts) if "of-root" in line] == []
            assert not sandbox.path(str(wanted)).exists()


@pytest.mark.parametrize(
    "kind", ["no pipe of the daemon", "a pipe of somebody else", "in a directory of somebody else"]
)
def test_a_directory_that_is_no_daemons(kind, runc, enter, machine, directory, canary, tally):
    """Were the name of the program true, the directory still would have to be one that root's daemon has made."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    above = canary.directory / "above"
    wanted = above / "of-root"
    wanted.mkdir(parents=True)
    if kind != "no pipe of the daemon":
        os.mkfifo(wanted / "control")
    if kind == "a pipe of somebody else":
        wanted.chmod(0o1777)
        os.chown(wanted / "control", int(NOBODY), int(NOBODY))
    if kind == "in a directory of somebody else":
        os.chown(above, int(NOBODY), int(NOBODY))
    canary.seal()
    (directory / "bin").mkdir()
    path = directory / "bin" / NAME
    sleep = shutil.which("sleep")
    assert sleep
    shutil.copy(sleep, path)
    env = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_MPS=enabled", f"CUDA_MPS_PIPE_DIRECTORY={wanted}")
    with running(runc.host, path, (), wanted), enter(rootfs, env=env) as sandbox:
        mounts = sandbox.mounts()
        tally.count(sandbox.attach(warns=True))
        assert [line for line in set(sandbox.mounts()) - set(mounts) if "of-root" in line] == []

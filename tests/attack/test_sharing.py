"""Attacks on what holds a container to its part of a GPU: a root process on the host, whose directory it is shown."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.runtime import rootfs as images
from tests.runtime.sharing import PIPE, SHARE, daemons, settle, shares

pytestmark = pytest.mark.root
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def inside(sandbox, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the container, as root and with all capabilities."""
    enter = ("nsenter", f"--mount=/proc/{sandbox.pid}/ns/mnt", "--wd=/", "--", "chroot", sandbox.rootfs)
    return subprocess.run([*enter, *command], capture_output=True, text=True, check=False, timeout=30)


@pytest.fixture
def host(sharing_host):
    return sharing_host


def other_place(directory: Path) -> Path:
    """Return where the rootfs of one more container goes, with a bundle of its own."""
    (directory / "other").mkdir()
    return directory / "other/rootfs"


@pytest.fixture
def rootfs(machine, directory):
    return images.copy(machine.image("debian"), directory / "rootfs")


@pytest.fixture
def share(enter, rootfs, host):
    """A container with a part of a GPU."""
    with enter(rootfs, env=SHARE, simulated=host) as sandbox:
        assert not sandbox.attach().refused
        yield sandbox
    settle(lambda: (daemons(host), shares(host)) == ([], []))


def to_somewhere(rootfs: Path, canary) -> None:
    (rootfs / "tmp/nvidia-mps").symlink_to(canary.directory)


def up_and_out(rootfs: Path, canary) -> None:
    (rootfs / "tmp/nvidia-mps").symlink_to("../../../../../../../.." + str(canary.directory))


def a_tmp_that_leads_out(rootfs: Path, canary) -> None:
    (rootfs / "tmp").rmdir()
    (rootfs / "tmp").symlink_to(canary.directory)


def into_proc(rootfs: Path, canary) -> None:
    (rootfs / "tmp/nvidia-mps").symlink_to("/proc/self/root" + str(canary.directory))


def a_file(rootfs: Path, _canary) -> None:
    (rootfs / "tmp/nvidia-mps").write_text("")


def a_pipe(rootfs: Path, _canary) -> None:
    os.mkfifo(rootfs / "tmp/nvidia-mps")


def a_socket(rootfs: Path, _canary) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(rootfs / "tmp/nvidia-mps"))


@pytest.mark.parametrize("trap", [to_somewhere, up_and_out, a_tmp_that_leads_out, into_proc, a_file, a_pipe, a_socket])
def test_the_place_of_the_pipe_directory_is_a_trap(trap, enter, rootfs, host, canary, tally):
    """Whatever is there, nothing of the host's changes, and no daemon is left of a start that was refused."""
    trap(rootfs, canary)
    canary.seal()
    with enter(rootfs, env=SHARE, simulated=host) as sandbox:
        outcome = sandbox.attach()
        tally.count(outcome)
        if outcome.refused:
            assert (daemons(host), shares(host)) == ([], [])
        else:
            assert f" {sandbox.rootfs}" in next(line for line in sandbox.mounts() if "/mps/" in line)
            assert not any(str(canary.directory) in line.split()[4] for line in sandbox.mounts())
    sandbox.release()
    settle(lambda: (daemons(host), shares(host)) == ([], []))


WRITES = {
    "rm": ("rm", "-f", "control"),
    "mv": ("mv", "control", "other"),
    "ln": ("ln", "-sf", "/etc/passwd", "control"),
    "chmod": ("chmod", "0", "control"),
    "chown": ("chown", "1:1", "."),
    "mkdir": ("mkdir", "new"),
    "touch": ("touch", "nvidia-cuda-mps-control.pid"),
    "sh": ("sh", "-c", "echo 1 > nvidia-cuda-mps-control.pid"),
}


@pytest.mark.parametrize("act", WRITES)
def test_nothing_of_the_daemon_s_directory_can_be_replaced(act, share, host, tally):
    (name,) = shares(host)
    pipe = Path(host.directory) / "state/mps" / name / "pipe"
    before = {each: os.lstat(pipe / each) for each in os.listdir(pipe)}
    there = ("nsenter", f"--mount=/proc/{share.pid}/ns/mnt", f"--wd={share.path(PIPE)}", "--")  # images lack most tools
    done = subprocess.run([*there, *WRITES[act]], capture_output=True, text=True, check=False, timeout=30)
    tally.count()
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    after = {each: os.lstat(pipe / each) for each in os.listdir(pipe)}
    assert {name: (info.st_mode, info.st_ino, info.st_size) for name, info in after.items()} == {
        name: (info.st_mode, info.st_ino, info.st_size) for name, info in before.items()
    }


def test_the_daemon_is_the_host_s_and_has_nothing_of_the_hook_or_the_container(
    enter,
    rootfs,
    host,
    runc,
    tally,
):
    """The image has programs of that name, which do not run; the environment of the container does not reach it."""
    mark = rootfs / "ran"
    for place in ("usr/bin", "bin", "usr/sbin"):
        for name in ("nvidia-cuda-mps-control", "nvidia-cuda-mps-server"):
            (rootfs / place).mkdir(parents=True, exist_ok=True)
            (rootfs / place / name).write_text(f"#!/bin/sh\ntouch /ran {mark}\n")
            (rootfs / place / name).chmod(0o755)
    hostile = ("LD_PRELOAD=/evil.so", "CUDA_MPS_LOG_DIRECTORY=/etc", "CUDA_VISIBLE_DEVICES=7", "PATH=/evil")
    with enter(rootfs, env=(*SHARE, *hostile), simulated=host) as sandbox:
        assert not sandbox.attach().refused
        tally.count()
        (pid, *more) = daemons(host)
        assert more == [], "its server starts with its first client"
        assert os.readlink(f"/proc/{pid}/exe").startswith(str(host.driver_root))
        assert os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink(f"/proc/{sandbox.pid}/ns/mnt")
        environment = dict(
            each.split("=", 1) for each in Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
        )
        assert {*environment} <= {
            *("PATH", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
        }
        assert environment["CUDA_VISIBLE_DEVICES"] == host.gpus()[0].uuid
        assert "/evil" not in environment["PATH"]
        opened = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        left = [each for each in opened if not each.startswith(("/dev/null", "socket:", "pipe:"))]
        assert [each for each in left if not each.startswith(f"{host.directory}/state/mps/")] == []
        groups = Path(f"/proc/{pid}/cgroup").read_text()
        assert f"oci-gpu-hook/{shares(host)[0]}" in groups, "by which all of it is found and ended"
    assert not mark.exists()
    sandbox.release()
    settle(lambda: (daemons(host), shares(host)) == ([], []))


def test_a_flood_of_connections_stays_with_the_container_s_own_daemon(
    share,
    enter,
    machine,
    directory,
    host,
    tally,
):
    """Others' starts talk to daemons of their own; and the flooded one ends with its container."""
    control = f"/proc/{share.pid}/root{share.rootfs}{PIPE}/control"
    floods = []
    for _ in range(600):
        one = socket.socket(socket.AF_UNIX)
        one.setblocking(False)
        try:
            one.connect(control)
            one.send(b"x" * 400)  # a line without an end
        except OSError:
            one.close()
            break
        floods.append(one)
    tally.count()
    assert len(floods) > 10
    other = images.copy(machine.image("debian"), other_place(directory))
    try:
        with enter(other, env=SHARE, simulated=host) as sandbox:
            assert not sandbox.attach().refused
            assert len(shares(host)) == 2
        sandbox.release()
        settle(lambda: len(shares(host)) == 1)
    finally:
        for one in floods:
            one.close()


def test_a_container_can_end_its_own_daemon_and_no_other(
    share,
    enter,
    machine,
    directory,
    host,
    tally,
):
    """Said in docs/sharing.md: what is sent to the control socket is obeyed; the neighbour's is out of reach."""
    other = images.copy(machine.image("debian"), other_place(directory))
    with enter(other, env=SHARE, simulated=host) as neighbour:
        assert not neighbour.attach().refused
        before = daemons(host)
        assert len(before) == 2
        done = inside(share, "sh", "-c", "echo quit | nvidia-cuda-mps-control")
        tally.count()
        assert done.returncode == 0, done.stderr
        settle(lambda: len(daemons(host)) == 1)
        assert {*daemons(host)} < {*before}
        (mount,) = [line for line in share.mounts() if "/mps/" in line]
        assert mount.split()[3].count("/pipe") == 1, "of all daemons' directories it sees its own"
        state = str(host.directory / "state")
        assert inside(share, "sh", "-c", f"cd {state}").returncode != 0
    neighbour.release()
    settle(lambda: daemons(host) == [])


def test_users_of_the_host_cannot_reach_a_daemon(share, host, runc, tally):
    (name,) = shares(host)
    place = f"{host.directory}/state/mps/{name}/pipe/control"
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect({place!r})"
    done = runc.host.call(*NOBODY, "/usr/bin/python3", "-c", connect, check=False)
    tally.count()
    assert "Permission denied" in done.stderr

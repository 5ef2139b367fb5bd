"""A container's cgroup is frozen while it is looked at, and thawed whatever happens: real cgroups of this machine."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from oci_gpu_hook.apply.device_access.model import DeviceCgroup
from oci_gpu_hook.base import limits, syscalls
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import AllocationError
from oci_gpu_hook.lifecycle import freezing, in_use, taking
from oci_gpu_hook.lifecycle.members import Members

pytestmark = pytest.mark.root
TEN = 10  # looks
FULL = (1, 7)  # /dev/full, which nothing else has open
V1 = Path("/sys/fs/cgroup/freezer")
V2 = next(
    (path for path in map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")) if (path / "cgroup.procs").exists()), V1
)


class Frozen:
    """A process in a cgroup of its own."""

    def __init__(self, version: int, pid: int, group: Path, config: Config) -> None:
        self.pid, self.group, self.config = pid, group, config
        levels = (os.open(group, os.O_RDONLY | os.O_DIRECTORY),)
        self.devices = DeviceCgroup(version=version, path=f"/{group.name}", own_path=f"/{group.name}", levels=levels)

    def frozen(self) -> freezing.Frozen:
        return freezing.Frozen(self.pid, "c", self.devices, self.config)

    def container(self) -> Any:
        return SimpleNamespace(pid=self.pid, id="c")

    def file(self) -> Path:
        return self.group / ("freezer.state" if self.devices.version == 1 else "cgroup.freeze")

    def stands(self) -> bool:
        return self.file().read_text().strip() in ("FROZEN", "1")


@pytest.fixture(params=[1, 2])
def one(request, tmp_path):
    root = V1 if request.param == 1 else V2
    if not root.exists() or (request.param == 2 and root == V1):
        pytest.skip("the machine has no such cgroups")
    group = root / f"oci-gpu-hook-freezing-{os.getpid()}"
    group.mkdir()
    process = subprocess.Popen(["sleep", "100"])
    (group / "cgroup.procs").write_text(str(process.pid))
    (tmp_path / "containers").mkdir(mode=0o700)
    made = Frozen(request.param, process.pid, group, Config(state_dir=str(tmp_path)))
    yield made
    made.file().write_text("THAWED" if request.param == 1 else "0")
    made.devices.close()
    process.kill()
    process.wait()
    for _ in range(100):
        try:
            group.rmdir()
            break
        except OSError:
            time.sleep(0.02)


def test_it_stands_still_for_the_block_and_no_longer(one):
    with one.frozen():
        assert one.stands()
        assert freezing.is_marked("c", one.pid, one.config)
    assert not one.stands()
    assert not freezing.is_marked("c", one.pid, one.config)


def test_what_a_killed_process_has_left_frozen_is_thawed_by_the_next(one):
    child = os.fork()
    if child == 0:
        with one.frozen():
            os._exit(0)  # as by kill -9: nothing is undone
    os.waitpid(child, 0)
    assert one.stands()
    assert freezing.thaw("c", one.pid, one.config)
    assert not one.stands()
    assert not freezing.thaw("c", one.pid, one.config)


def test_a_container_that_is_paused_stays_so(one):
    one.file().write_text("FROZEN" if one.devices.version == 1 else "1")
    with one.frozen() as frozen:  # which waits until it stands
        assert one.stands()
        assert frozen.fault() == ""
        assert not freezing.is_marked("c", one.pid, one.config)
    assert one.stands()


@pytest.mark.parametrize("one", [1], indirect=True, ids=[""])
def test_a_pause_that_is_under_way_is_waited_for(one, monkeypatch):
    """On cgroup v1 it says FREEZING until all its processes stand, and what is looked at until then may move."""
    word, states = one.file().read_text(), iter(["FREEZING\n", "FREEZING\n", "FROZEN\n"])
    waited: list[float] = []

    def read(path):
        data = Path(path).read_bytes()
        return data.replace(word.encode(), next(states).encode()) if path == str(one.file()) else data

    monkeypatch.setattr(freezing, "_file_of", lambda *_: str(one.file()))
    monkeypatch.setattr(freezing, "read_file", read)
    monkeypatch.setattr(time, "sleep", waited.append)
    with one.frozen():
        assert waited
        assert not freezing.is_marked("c", one.pid, one.config)


@pytest.mark.parametrize("is_asked", [False, True], ids=["", "after fault"])
def test_a_pause_of_somebody_else_meanwhile_stays(one, is_asked):
    """It writes the word that is there already. To thaw it is the business of who has paused it."""
    with one.frozen() as frozen:
        one.file().write_text("FROZEN" if one.devices.version == 1 else "1")
        if is_asked:
            assert frozen.fault(), "it may have been thawed in between"
    assert one.stands()
    assert not freezing.is_marked("c", one.pid, one.config)
    with one.frozen() as frozen:
        assert frozen.fault() == ""
    assert one.stands()


def test_without_a_watch_it_is_thawed(one, monkeypatch):
    def refused(_path):
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(syscalls, "watch_of_writes", refused)
    with one.frozen() as frozen:
        assert frozen.fault() == ""
    assert not one.stands()


def test_who_thaws_it_for_a_moment_is_noticed(one):
    with one.frozen() as frozen:
        for word in ("THAWED", "FROZEN") if one.devices.version == 1 else "01":
            one.file().write_text(word)
        assert frozen.fault()


def test_who_thaws_it_meanwhile_is_noticed(one):
    with one.frozen() as frozen:
        assert frozen.fault() == ""
        one.file().write_text("THAWED" if one.devices.version == 1 else "0")
        assert frozen.fault()


def test_a_container_that_is_thawed_at_each_look_is_refused(one, monkeypatch):
    """None of ten looks counts, so that nobody knows who has the device open; what it has stays."""
    looks: list[bool] = []
    users = in_use.users

    def thawed(members, nodes, pids=None):
        found = users(members, nodes, [one.pid])
        if pids is None:
            looks.append(one.stands())
            assert len(looks) <= TEN
            one.file().write_text("THAWED" if one.devices.version == 1 else "0")
        return found

    monkeypatch.setattr(in_use, "users", thawed)
    monkeypatch.setattr(taking, "_LOOK_AGAIN", 0.0)
    members = Members(one.pid, one.devices, lambda: ())
    container = one.container()
    with pytest.raises(AllocationError, match="were thawed each time that they were looked at") as refused:
        taking._found(members, container, one.devices, [(195, 0)], one.config)
    assert refused.value.code == "OGH1311"
    assert looks == [True] * TEN
    assert not freezing.is_marked("c", one.pid, one.config)


def test_a_look_after_those_that_were_thawed_counts(one, monkeypatch):
    looks = iter([True] * (TEN - 1) + [False])
    users = in_use.users

    def thawed(members, nodes, pids=None):
        if pids is None and next(looks):
            one.file().write_text("THAWED" if one.devices.version == 1 else "0")
        return users(members, nodes, [one.pid])

    monkeypatch.setattr(in_use, "users", thawed)
    monkeypatch.setattr(taking, "_LOOK_AGAIN", 0.0)
    members = Members(one.pid, one.devices, lambda: ())
    assert taking._found(members, one.container(), one.devices, [(195, 0)], one.config) == ()
    assert list(looks) == []


def test_who_receives_a_descriptor_in_that_moment_is_not_missed(one, monkeypatch):
    """The kernel has taken it from the socket, and put it in no table: nothing in /proc shows it."""
    command = [sys.executable, str(Path(__file__).with_name("holding.py")), "receiving"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"there\n"
            (one.group / "cgroup.procs").write_text(str(process.pid))
            monkeypatch.setattr(limits, "FREEZE_SECONDS", 0.02)
            monkeypatch.setattr(taking, "_LOOK_AGAIN", 0.0)
            members = Members(one.pid, one.devices, lambda: ())
            assert in_use.users(members, [FULL]) == ()
            container = one.container()
            with pytest.raises(AllocationError, match="did not all stand still") as refused:
                taking._found(members, container, one.devices, [FULL], one.config)
            assert refused.value.code == "OGH1311"
            assert not one.stands()
        finally:
            process.kill()

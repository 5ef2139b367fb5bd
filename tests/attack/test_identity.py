"""A container's id is a name that its owner chooses: nothing is taken from another container that has the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.attack.sandbox import ENVIRONMENT, Outcome
from tests.runtime import rootfs as images
from tests.runtime.host import contents, difference

SLEEPS = ("/bin/sleep", "100")
UTILITY = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=utility")


@pytest.fixture
def cli(simulated):
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name("oci-gpu"), "--config", simulated.config, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


class Starter:
    """Starts containers of one id."""

    def __init__(self, runtime, directory):
        self._runtime, self._directory = runtime, directory
        self.id = f"gpu-hook-test-{os.getpid()}-same"
        self._number = 0

    @contextmanager
    def __call__(self, bundle):
        self._number += 1
        cgroup = f"{self.id}-{self._number}"
        own = replace(self._runtime, state_dir=self._directory / f"root-{self._number}")
        bundle.config["linux"]["cgroupsPath"] = f"{own.cgroup}/{cgroup}"
        bundle.write()
        created = own._call("create", "--bundle", bundle.directory, self.id)
        try:
            if created.status == 0:
                started = own._call("start", self.id)
                assert started.status == 0, started.stderr
                yield json.loads(own._call("state", self.id).stdout)["pid"]
            else:
                yield None
        finally:
            if (own.state_dir / self.id).exists():
                own._call("delete", "--force", self.id)
            own.host.remove_cgroups(cgroup)


@pytest.fixture
def start(runtime, directory):
    """Return a function that starts a container of one id, in a --root of the runtime's that is for it alone."""
    return Starter(runtime, directory)


def own_leases(cli, start) -> set[tuple[int, bool]]:
    leases = json.loads(cli("leases", "--json").stdout)
    return {(lease["pid"], lease["exclusive"]) for lease in leases if lease["container"] == start.id}


@pytest.mark.parametrize("shared", [False, True], ids=["two-bundles", "one-bundle"])
def test_a_refused_container_takes_nothing_of_a_living_one(start, make_bundle, cli, simulated, tally, shared):
    """Two --roots of a runtime, one id: poststop of the second, which was refused, is told the id of the first."""
    first = make_bundle(args=SLEEPS, gpus="0", annotations={"io.oci-gpu-hook.exclusive": "true"}, name="first")
    second = make_bundle(args=SLEEPS, gpus="7", name="second")
    before = contents(first.rootfs)
    with start(first) as pid:
        assert pid
        inside = contents(first.rootfs)
        config = {**second.config, "root": {"path": str(first.rootfs)}} if shared else second.config
        with start(replace(first if shared else second, config=config)) as refused:
            tally.count()
            assert refused is None
        assert difference(inside, contents(first.rootfs)) == []
        assert cli("verify", start.id).stdout == f"{start.id}: has what it was given\n"
        assert own_leases(cli, start) == {(pid, True)}
    assert difference(before, contents(first.rootfs)) == []
    assert own_leases(cli, start) == set()
    assert not list((simulated.state_dir / "containers").glob(f"{start.id}*"))


@pytest.mark.parametrize("shared", [False, True], ids=["two-bundles", "one-bundle"])
def test_two_of_one_id_end_each_for_itself(start, make_bundle, cli, simulated, tally, shared):
    first = make_bundle(args=SLEEPS, gpus="0", name="first")
    second = first if shared else make_bundle(args=SLEEPS, gpus="1", name="second")
    before = contents(first.rootfs)
    with start(first) as one:
        with start(second) as other:
            tally.count()
            assert {one, other} == {pid for pid, _ in own_leases(cli, start)}
            for pid in (one, other):
                assert cli("verify", pid).stdout == f"{start.id}: has what it was given\n"
            said = cli("verify", start.id).stderr
            assert str(one) in said
            assert str(other) in said
            assert "give its pid or its bundle" in said
            if not shared:
                assert cli("verify", second.directory).returncode == 0
        assert {one} == {pid for pid, _ in own_leases(cli, start)}
        assert cli("verify", start.id).stdout == f"{start.id}: has what it was given\n"
    assert difference(before, contents(first.rootfs)) == []
    assert not list((simulated.state_dir / "containers").glob(f"{start.id}*"))


def make_anew(rootfs: Path) -> None:
    """Remove the directory and make another of the same inode number, or skip the test."""
    inode = rootfs.stat().st_ino
    aside = rootfs.parent / "aside"
    aside.mkdir()
    for path in rootfs.iterdir():  # only the one number is to become free
        path.rename(aside / path.name)
    rootfs.rmdir()
    for number in range(1000):
        made = rootfs.parent / f"made-{number}"
        made.mkdir()
        if made.stat().st_ino == inode:
            made.rename(rootfs)
            return
    pytest.skip("the file system does not use inode numbers again")


def test_a_rootfs_with_the_inode_number_of_an_ended_one_keeps_what_is_its_own(enter, machine, directory, tally):
    """A file system gives the number of a removed directory to the next: that is no reason to clean up in it."""
    image = machine.image("debian")
    rootfs = images.copy(image, directory / "rootfs")
    with enter(rootfs, env=UTILITY) as ended:
        assert ended.attach() == Outcome("")
        made = [name for name in contents(rootfs).keys() - contents(image).keys() if (rootfs / name).is_file()]
        empty = [name for name in made if not (rootfs / name).is_symlink() and not (rootfs / name).stat().st_size]
    assert empty
    make_anew(rootfs)
    shutil.copytree(image, rootfs, symlinks=True, dirs_exist_ok=True)
    for name in empty:  # as an image may have it for its own
        (rootfs / name).parent.mkdir(parents=True, exist_ok=True)
        (rootfs / name).touch()
    before = contents(rootfs)
    tally.count()
    with enter(rootfs, env=UTILITY) as stranger:
        assert stranger.attach() == Outcome("")
        assert all((rootfs / name).exists() for name in empty)
    assert stranger.release() == Outcome("")
    assert difference(before, contents(rootfs)) == []


def test_the_changes_of_an_ended_container_go_to_no_stranger(enter, machine, simulated, directory, tally):
    """The same, where the other lives already when somebody cleans up after the ended one."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    with enter(rootfs, env=UTILITY) as ended:
        assert ended.attach() == Outcome("")
        (journal,) = (simulated.state_dir / "containers").glob(f"{ended.id}*.json")
        written = journal.read_bytes()
    assert ended.release() == Outcome("")
    make_anew(rootfs)
    shutil.copytree(machine.image("debian"), rootfs, symlinks=True, dirs_exist_ok=True)
    (rootfs / "usr/bin").mkdir(parents=True, exist_ok=True)
    (rootfs / "usr/bin/nvidia-smi").touch()
    before = contents(rootfs)
    tally.count()
    with enter(rootfs, env=UTILITY) as stranger:
        assert stranger.attach() == Outcome("")
        journal.write_bytes(written)  # as if the ended one's poststop had not run until now
        journal.chmod(0o600)
        assert ended.release() == Outcome("")
    assert stranger.release() == Outcome("")
    assert difference(before, contents(rootfs)) == []


@pytest.mark.parametrize("trap", ["link", "directory"])
def test_a_state_directory_that_somebody_else_made_is_not_touched(hook, simulated, directory, tally, trap):
    """Rootless without /run/user/UID: what lies in /tmp by the name of the hook's directory may be anybody's."""
    victim, attacker = 54321, 54322
    place = f"/tmp/oci-gpu-hook-{victim}"
    precious = directory / "precious"
    precious.mkdir(mode=0o700)
    directory.parent.chmod(0o755)
    (precious / "containers").mkdir(mode=0o700)
    (precious / "containers/victim.json").write_text("not a journal")
    (precious / "containers/victim.ld.so.cache").write_text("precious")
    for path in (precious, precious / "containers", *(precious / "containers").iterdir()):
        os.chown(path, victim, victim)
    if trap == "link":
        os.symlink(precious, place)
        os.chown(place, attacker, attacker, follow_symlinks=False)
    else:
        os.mkdir(place, 0o777)
        os.chmod(place, 0o777)
        os.chown(place, attacker, attacker)
        os.mkdir(f"{place}/containers", 0o777)
        os.chmod(f"{place}/containers", 0o777)
    seen = precious if trap == "link" else place
    before = _everything(seen)
    state = {"ociVersion": "1.0.2", "id": "victim", "status": "stopped", "pid": 0, "bundle": "/nowhere"}
    command = ["setpriv", "--reuid", str(victim), "--regid", str(victim), "--clear-groups"]
    command += ["unshare", "--user", "--map-root-user", "--", str(hook), "poststop"]
    try:
        done = subprocess.run(
            command, input=json.dumps(state).encode(), capture_output=True, env=ENVIRONMENT, check=False, timeout=30
        )
        tally.count()
        assert _everything(seen) == before
        assert Outcome.of(done.returncode, done.stdout.decode(), done.stderr.decode()).refused
    finally:
        os.unlink(place) if trap == "link" else shutil.rmtree(place)


def _everything(directory) -> list[tuple]:
    found = []
    for root, names, files in os.walk(directory):
        for name in (*names, *files):
            status = os.lstat(os.path.join(root, name))
            found.append((root, name, status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns))
    return sorted(found)

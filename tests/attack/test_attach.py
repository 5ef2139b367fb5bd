"""`oci-gpu attach` and `detach` work in a container that runs, and whose root is hostile while they do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.attack.test_races import Swapper
from tests.attack.test_repair import CONFINING, points
from tests.runtime.host import tree
from tests.runtime.simulated import SimulatedHost

ROUNDS = {False: 6, True: 200}


@pytest.fixture
def host(directory):
    """A host of the test's own, with two GPUs."""
    return SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory))


def call(runtime, host, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    path = Path(sys.executable).with_name("oci-gpu")
    options = ("--runtime-root", runtime.state_dir) if name in ("attach", "detach") else ()
    command = (path, "--config", host.config, name, *map(str, arguments), *options)
    done: subprocess.CompletedProcess[str] = runtime.host.call(*command, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    assert "internal error" not in done.stderr, done.stderr
    return done


def held(runtime, host) -> list[str]:
    found = json.loads(call(runtime, host, "leases", "--json").stdout)
    return [str(gpu) for lease in found for gpu in lease["gpus"]]


@pytest.mark.parametrize("gpus", [None, "0"])
def test_a_container_whose_root_is_a_volume_of_the_host_by_now(runc, make_bundle, host, directory, tally, gpus):
    """Its first process has gone to live there; seen from there, the volume is a rootfs that lacks everything."""
    volume = directory / "volume"
    for name in ("bin", "dev", "etc", "usr", "proc", "lib"):
        (volume / name).mkdir(parents=True)
    mounts = ({"destination": "/volume", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]},)
    script = "cp /bin/busybox /volume/bin/busybox; exec chroot /volume /bin/busybox sleep 100"
    bundle = make_bundle(args=("/bin/busybox", "sh", "-c", script), gpus=gpus, config=host.config, mounts=mounts)
    with runc.started(bundle) as container:
        give_up = time.monotonic() + 10
        while not os.path.samefile(f"/proc/{container.pid}/root", volume):
            assert time.monotonic() < give_up
            time.sleep(0.05)
        before, mounted, leases = tree(volume), points(container), held(runc, host)
        done = call(runc, host, "attach", container.id, "--devices", "1")
        tally.count()
        assert done.returncode == 1
        assert "has another root directory" in done.stderr
        assert tree(volume) == before
        assert points(container) == mounted
        assert held(runc, host) == leases


@pytest.mark.parametrize("place", ["/proc/driver", "/proc/driver/nvidia"])
def test_a_volume_of_the_host_over_what_proc_shows(runc, make_bundle, host, directory, tally, place):
    """A place for a further GPU is made in the hook's own file system, not in what is at its path by now."""
    volume = directory / "volume"
    volume.mkdir()
    runc.host.call("mount", "-t", "tmpfs", "tmpfs", volume)
    mounts = ({"destination": "/volume", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]},)
    bundle = make_bundle(args=("/bin/sleep", "1000"), gpus="0", config=host.config, mounts=mounts)
    with runc.started(bundle) as container:
        binds = ("/bin/busybox", "mount", "-o", "bind", "/volume", place)
        runc.host.call("nsenter", "--mount", "--target", container.pid, *binds)
        leases = held(runc, host)
        done = call(runc, host, "attach", container.id, "--devices", "1")
        tally.count()
        assert done.returncode == 1
        assert "is not what the hook mounted there" in done.stderr or "is a volume of the host" in done.stderr
        assert held(runc, host) == leases
        assert runc.host.call("ls", "-A", volume).stdout == ""
    runc.host.call("umount", volume)


VIEWS = "/proc/driver/nvidia" if Path("/proc/driver/nvidia").exists() else "/proc/driver"


@pytest.mark.parametrize("place", [VIEWS, "/etc/ld.so.cache"])
def test_a_file_system_of_the_containers_own_is_not_taken_for_the_hooks(runc, make_bundle, host, tally, place):
    """The container's root mounts a tmpfs of its own where the hook has one, or over it."""
    bundle = make_bundle(args=("/bin/sleep", "1000"), gpus=None, config=host.config)
    with runc.started(bundle) as container:
        assert call(runc, host, "attach", container.id, "--devices", "0").returncode == 0
        own = "/mine"
        inside = ("nsenter", "--mount", "--target", container.pid, "/bin/busybox")
        runc.host.call(*inside, "mkdir", own)
        runc.host.call(*inside, "mount", "-t", "tmpfs", "tmpfs", own)
        runc.host.call(*inside, "touch", f"{own}/file")
        source = f"{own}/file" if place.endswith(".cache") else own
        runc.host.call(*inside, "mount", "-o", "bind", source, place)
        if source == own:
            done = call(runc, host, "attach", container.id, "--devices", "1")
            assert done.returncode == 1
            assert "is not what the hook mounted there" in done.stderr
            assert [*runc.host.call(*inside, "ls", own).stdout.split()] == ["file"]
        tally.count()
        assert call(runc, host, "detach", container.id, "--all").returncode == 0
        root = f"/proc/{container.pid}/root"
        assert os.stat(root + place).st_dev == os.stat(root + own).st_dev, "the container's own was unmounted"


@pytest.mark.race
def test_directories_that_lead_to_the_host_by_turns(runc, make_bundle, host, directory, canary, tally, full):
    """While the container's root exchanges directories that GPUs go into with links to a volume of the host."""
    volume = directory / "volume"
    (volume / "inside").mkdir(parents=True)
    mounts = ({"destination": "/volume", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]},)
    bundle = make_bundle(args=("/bin/sleep", "1000"), gpus=None, config=host.config, mounts=mounts)
    with runc.started(bundle) as container:
        rootfs = bundle.rootfs
        pairs = []
        for name in ("usr/bin", "usr/lib", "etc"):
            other = rootfs / f"{name}-other"
            other.symlink_to("/volume/inside")
            pairs.append((rootfs / name, other))
        before = tree(volume)
        with Swapper(pairs) as swapper:
            for _ in range(ROUNDS[full]):
                call(runc, host, "attach", container.id, "--count", "2")
                call(runc, host, "detach", container.id, "--all")
                tally.count()
                assert tree(volume) == before, "a volume of the host was changed"
                assert points(container) >= CONFINING, "the container is no longer confined"
        assert swapper.swaps > 1000
        print(f"{swapper.swaps} swaps in {ROUNDS[full]} attachments and detachments")


def test_a_mount_of_the_runtimes_at_the_path_of_one_of_ours(runc, make_bundle, host, canary, tally):
    """detach unmounts what is proved to be the hook's, not what is at its path by then."""
    bundle = make_bundle(args=("/bin/sleep", "1000"), gpus=None, config=host.config)
    with runc.started(bundle) as container:
        assert call(runc, host, "attach", container.id, "--count", "1").returncode == 0
        rootfs = bundle.rootfs
        (rootfs / "usr/bin").rename(rootfs / "usr/was-bin")
        (rootfs / "usr/bin").mkdir()
        for name in ("nvidia-smi", "nvidia-debugdump"):
            (rootfs / "usr/bin" / name).symlink_to("/proc/sys")
        done = call(runc, host, "detach", container.id, "--all")
        tally.count()
        assert done.returncode == 0, done.stderr
        assert points(container) >= CONFINING
        assert held(runc, host) == []


def test_a_node_of_the_containers_own_stays_useless(runtime, make_bundle, host, tally):
    """It was made, and hidden, while the container had the GPU."""
    bundle = make_bundle(args=("/bin/sleep", "1000"), gpus=None, config=host.config)
    with runtime.started(bundle) as container:
        assert call(runtime, host, "attach", container.id, "--devices", "0").returncode == 0
        seen = container.exec("/probe", "mknod=/tmp/mine:195:0", "open=/tmp/mine").seen()
        assert seen["open=/tmp/mine"] == "ENXIO"
        assert call(runtime, host, "detach", container.id, "--all").returncode == 0
        tally.count()
        assert container.exec("/probe", "open=/tmp/mine").seen()["open=/tmp/mine"] == "EPERM"


@pytest.mark.parametrize("name", ["attach", "detach"])
def test_killed_at_any_moment(runc, make_bundle, host, tally, name, full):
    """What is left is undone when the container ends; nobody else's lease is touched, and no GPU is lost."""
    path = str(Path(sys.executable).with_name("oci-gpu"))
    for after in range(0, 600, 40 if full else 120):
        bundle = make_bundle(args=("/bin/sleep", "1000"), gpus=None, config=host.config, name=f"killed-{name}-{after}")
        with runc.started(bundle) as container:
            if name == "detach":
                assert call(runc, host, "attach", container.id, "--count", "2").returncode == 0
            which = ("--count", "2") if name == "attach" else ("--all",)
            command = [path, "--config", host.config, name, container.id, *which, "--runtime-root", str(runc.state_dir)]
            process = subprocess.Popen(
                runc.host.command(*command),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            time.sleep(after / 1000)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            tally.count()
            time.sleep(0.2)
        call(runc, host, "repair", "--all")
        assert held(runc, host) == []
        assert not list(bundle.rootfs.glob("dev/nvidia*"))
        assert not list(bundle.rootfs.rglob("libcuda*"))

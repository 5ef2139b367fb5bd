"""`oci-gpu attach` gives a running container GPUs, `oci-gpu detach` takes them; looked at from inside."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.simulated import SimulatedHost

pytestmark = pytest.mark.root
OPEN = ("open=/dev/nvidia0", "open=/dev/nvidia1", "open=/dev/nvidiactl")
NOTHING = {"open=/dev/nvidia0": "ENOENT", "open=/dev/nvidia1": "ENOENT", "open=/dev/nvidiactl": "ENOENT"}
OPENS = "ENXIO"  # the cgroup lets it through; simulated nodes have no driver behind them


@pytest.fixture
def host(directory):
    """A host of the test's own, with two GPUs."""
    return SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory))


@pytest.fixture
def command(runtime, host):
    """Run `oci-gpu` on the runtime's host; return its status and output."""

    def call(name: str, *arguments: object):
        path = Path(sys.executable).with_name("oci-gpu")
        options = ("--runtime-root", runtime.state_dir) if name in ("attach", "detach") else ()
        done = runtime.host.call(path, "--config", host.config, name, *map(str, arguments), *options, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return call


@pytest.fixture
def plain(runtime, make_bundle, host):
    """A container that has asked for no GPU and does nothing."""
    with runtime.started(make_bundle(args=("/bin/sleep", "100"), gpus=None, config=host.config)) as container:
        yield container


@pytest.fixture
def with_gpu(runtime, make_bundle, host):
    """A container that has GPU 0 and does nothing."""
    with runtime.started(make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)) as container:
        yield container


def seen(container, *what: str) -> dict[str, str]:
    found: dict[str, str] = container.exec("/probe", *(what or OPEN)).seen()
    return found


def leases(command) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(command("leases", "--json").stdout)
    return found


def test_a_container_that_asked_for_nothing(plain, command):
    assert seen(plain) == NOTHING
    done = command("attach", plain.id, "--count", 1)
    assert done.returncode == 0, done.stderr
    assert "attached GPU-" in done.stdout
    assert seen(plain) == {**NOTHING, "open=/dev/nvidia0": OPENS, "open=/dev/nvidiactl": OPENS}
    assert seen(plain, "dlopen=libcuda.so.1")["dlopen=libcuda.so.1"]
    assert command("verify", plain.id).returncode == 0

    done = command("detach", plain.id, "--all")
    assert done.returncode == 0, done.stderr
    assert seen(plain) == NOTHING
    assert leases(command) == []


def test_one_more_and_one_less(with_gpu, command):
    assert command("attach", with_gpu.id, "--devices", "1").returncode == 0
    assert seen(with_gpu) == dict.fromkeys(OPEN, OPENS)
    assert command("verify", with_gpu.id).returncode == 0
    assert command("detach", with_gpu.id, "--devices", "0").returncode == 0
    made = seen(with_gpu, *OPEN, "mknod=/dev/mine:195:0", "open=/dev/mine")
    assert made["open=/dev/nvidia0"] == "ENOENT"
    assert made["open=/dev/nvidia1"] == OPENS
    assert made["open=/dev/mine"] == "EPERM"
    assert command("verify", with_gpu.id).returncode == 0


def shown(container) -> list[str]:
    """The GPUs that /proc shows in a container."""
    found: list[str] = container.exec("/bin/busybox", "ls", "/proc/driver/nvidia/gpus").stdout.split()
    return found


def test_proc_shows_what_it_has(runtime, make_bundle, host, command):
    first, second = (gpu.bus_id for gpu in host.gpus())
    bundle = make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)
    with runtime.started(bundle) as container:
        assert shown(container) == [first]
        assert command("attach", container.id, "--devices", "1").returncode == 0
        assert shown(container) == [first, second]
        information = f"/proc/driver/nvidia/gpus/{second}/information"
        assert (
            container.exec("/bin/busybox", "cat", information).stdout
            == (host.proc / "gpus" / second / "information").read_text()
        )
        assert container.exec("/bin/busybox", "mkdir", "/proc/driver/nvidia/mine").status != 0
        assert command("verify", container.id).returncode == 0
        assert command("detach", container.id, "--devices", "0").returncode == 0
        assert shown(container) == [second]
        assert command("attach", container.id, "--devices", "0").returncode == 0
        assert command("detach", container.id, "--devices", "1").returncode == 0
        assert shown(container) == [first]
        assert command("verify", container.id).returncode == 0
    assert not list((host.state_dir / "containers").glob("*.json"))


def test_what_proc_shows_is_repaired(runtime, make_bundle, host, command):
    bundle = make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)
    with runtime.started(bundle) as container:
        assert command("attach", container.id, "--devices", "1").returncode == 0
        inside = f"/proc/driver/nvidia/gpus/{host.gpus()[1].bus_id}"
        view = "/proc/driver/nvidia" if Path("/proc/driver/nvidia").exists() else "/proc/driver"
        for lost in (inside, view):
            unmount = ("/bin/busybox", "umount", "-l", lost)
            runtime.host.call("nsenter", "--mount", "--target", container.pid, *unmount)
            assert command("verify", container.id).returncode == 1
            assert command("repair", container.id).returncode == 0
            assert len(shown(container)) == 2
            assert "information" in container.exec("/bin/busybox", "ls", inside).stdout.split()


def test_what_it_has_is_not_attached_twice(with_gpu, command):
    done = command("attach", with_gpu.id, "--devices", "0")
    assert done.returncode == 1
    assert "has it already" in done.stderr
    assert command("attach", with_gpu.id, "--count", 1).returncode == 0
    done = command("attach", with_gpu.id, "--count", 1)
    assert done.returncode == 1
    assert seen(with_gpu) == dict.fromkeys(OPEN, OPENS)


def test_many_times(plain, command):
    for _ in range(5):
        assert command("attach", plain.id, "--devices", "0,1").returncode == 0
        assert command("detach", plain.id, "--devices", "0").returncode == 0
        assert command("detach", plain.id, "--devices", "1").returncode == 0
    assert seen(plain) == NOTHING
    assert leases(command) == []


def test_a_repair_knows_what_was_attached(plain, command):
    assert command("attach", plain.id, "--count", 1).returncode == 0
    plain.exec("/bin/busybox", "rm", "/dev/nvidia0")
    assert command("verify", plain.id).returncode == 1
    assert command("repair", plain.id).returncode == 0
    assert seen(plain)["open=/dev/nvidia0"] == OPENS


def test_the_end_of_a_container_frees_what_was_attached(runtime, make_bundle, host, command):
    """Its own poststop does that, though the container has asked for nothing: nobody needs to repair."""
    bundle = make_bundle(args=("/bin/sleep", "100"), gpus=None, config=host.config)
    with runtime.started(bundle) as container:
        assert command("attach", container.id, "--count", 2, "--exclusive").returncode == 0
        assert list(bundle.rootfs.rglob("libcuda.so.1"))
        assert list((host.state_dir / "containers").glob("*.json"))
    assert leases(command) == []
    assert not list(bundle.rootfs.glob("dev/nvidia*"))
    assert not list(bundle.rootfs.rglob("libcuda*"))
    assert not list((host.state_dir / "containers").glob("*.json"))
    assert command("repair", "--all").stdout == "No running container was given GPUs.\n"


def test_a_name_that_is_none(command):
    done = command("attach", "nobody", "--count", 1)
    assert done.returncode == 1
    assert "is not a running container" in done.stderr

"""`oci-gpu verify` sees what a running container has lost, `oci-gpu repair` puts just that back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.admin.simulate.host import make, upgrade
from oci_gpu_hook.apply.device_access import bpf
from oci_gpu_hook.apply.device_access.runtime_program import candidates
from oci_gpu_hook.oci.container import DeviceRule
from tests.runtime.simulated import SimulatedHost

pytestmark = pytest.mark.root
SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/verify.schema.json").read_text())
OPEN = ("/probe", "open=/dev/nvidia0", "open=/dev/nvidiactl", "mknod=/dev/mine1:195:1", "open=/dev/mine1")
NEW_DRIVER = "590.48.01"


@pytest.fixture
def host(directory):
    """A host of the test's own, which it may upgrade."""
    return SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory))


@pytest.fixture
def command(runtime, host):
    """Run `oci-gpu` on the runtime's host; return its status and output."""

    def call(*arguments: str):
        path = Path(sys.executable).with_name("oci-gpu")
        done = runtime.host.call(path, "--config", host.config, *arguments, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return call


@pytest.fixture
def findings(command):
    """Verify one container; return its findings as (kind, what)."""

    def look(container_id: str) -> list[tuple[str, str]]:
        done = command("verify", container_id, "--json")
        documents = json.loads(done.stdout)
        jsonschema.validate(documents, SCHEMA)
        (document,) = documents
        assert document["container"] == container_id
        assert done.returncode == (1 if document["findings"] else 0)
        return [(finding["kind"], finding["what"]) for finding in document["findings"]]

    return look


@pytest.fixture
def running(runtime, make_bundle, host):
    """A container that has GPU 0 and does nothing."""
    with runtime.started(make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)) as container:
        yield container


def access(container) -> dict[str, str]:
    seen = container.exec(*OPEN).seen()
    container.exec("/bin/busybox", "rm", "/dev/mine1")
    return {name.rpartition("/")[2]: seen[f"open=/dev/{name}"] for name in ("nvidia0", "nvidiactl", "mine1")}


FINE = {"nvidia0": "ENXIO", "nvidiactl": "ENXIO", "mine1": "EPERM"}


def in_container(container, *arguments: str) -> None:
    """Do something with the container's files as the host's root, who may what a container mostly may not."""
    command = ["nsenter", f"--mount=/proc/{container.pid}/ns/mnt", f"--root=/proc/{container.pid}/root", "--"]
    subprocess.run([*command, "/bin/busybox", *arguments], check=True, capture_output=True)


def take_rights(container) -> None:
    """Do what systemd's reload does, where no systemd runs: write the device rules anew."""
    for path in container.runtime.host.cgroups_named(container.id):
        if "/devices/" in path:
            Path(path, "devices.deny").write_text("c 195:0 rw")
            return
    (path,) = container.runtime.host.cgroups_named(container.id)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    flags, (program,) = bpf.attached(directory)
    as_the_runtime_made_it = next(candidates([DeviceRule(allow=False, type="a", major=None, minor=None, access="rwm")]))
    old, new = bpf.open_program(program), bpf.load(as_the_runtime_made_it)
    bpf.replace(directory, new, old, flags)
    for fd in (directory, old, new):
        os.close(fd)


def test_a_container_that_has_all(running, command, findings):
    assert findings(running.id) == []
    assert command("verify").stdout == f"{running.id}: has what it was given\n"
    assert command("verify", str(running.pid)).returncode == 0
    assert command("repair", running.id[:-1]).stdout == f"{running.id}: has what it was given\n"


def test_who_is_not_there_is_an_error(running, command):
    for name in ("nobody", "1", str(os.getpid()), ""):
        if name:
            done = command("verify", name)
            assert done.returncode == 1
            assert "not a running container" in done.stderr
    assert command("repair").returncode == 2


def test_rights_taken_are_seen_and_put_back(running, command, findings):
    take_rights(running)
    assert access(running)["nvidia0"] == "EPERM"
    ((kind, what),) = findings(running.id)
    assert kind == "rights"
    assert "/dev/nvidia0 (195:0)" in what
    done = command("repair", running.id)
    assert (done.returncode, done.stderr) == (0, "")
    assert access(running) == FINE
    assert findings(running.id) == []
    assert command("repair", running.id).stdout == f"{running.id}: has what it was given\n"


def test_nodes_removed_or_exchanged_are_put_back(running, command, findings):
    in_container(running, "rm", "/dev/nvidia0", "/dev/nvidiactl")
    in_container(running, "mknod", "/dev/nvidiactl", "c", "1", "3")
    assert [kind for kind, _ in findings(running.id)] == ["node", "node"]
    done = command("repair", running.id)
    assert done.returncode == 1, "another device stands there: the container's own doing"
    assert "device node of other numbers" in done.stderr
    assert not running.path("/dev/nvidia0").exists(), "all or nothing"
    in_container(running, "rm", "/dev/nvidiactl")
    assert command("repair", running.id).returncode == 0
    assert access(running) == FINE
    assert findings(running.id) == []


def test_mounts_links_and_the_ld_cache_are_put_back(running, command, findings, host):
    library = next(line.split()[4] for line in mountinfo(running) if "/libcuda.so." in line)
    link = str(Path(library).with_name("libcuda.so.1"))
    in_container(running, "umount", library)
    in_container(running, "umount", "/etc/ld.so.cache")
    in_container(running, "rm", link)
    kinds = {kind for kind, _ in findings(running.id)}
    assert kinds == {"mount", "link", "ld-cache"}
    done = command("repair", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    assert findings(running.id) == []
    assert running.exec("/probe", "dlopen=libcuda.so.1").seen()["dlopen=libcuda.so.1"]
    assert mountinfo(running)[-1].split()[5].startswith("ro,nosuid,nodev")


def mountinfo(container) -> list[str]:
    return Path(f"/proc/{container.pid}/mountinfo").read_text().splitlines()


def test_a_link_laid_in_place_of_a_node_leads_nowhere(running, command, host):
    """The container lays a trap while it runs: what is repaired stays in it."""
    in_container(running, "rm", "/dev/nvidia0")
    in_container(running, "ln", "-s", "../../../../etc/passwd", "/dev/nvidia0")
    before = Path("/etc/passwd").read_bytes()
    command("repair", running.id)
    assert Path("/etc/passwd").read_bytes() == before
    assert not any("/etc/passwd" in line for line in running.runtime.host.mounts())


def test_no_more_than_was_given(runtime, make_bundle, command, host):
    """A bundle that is changed afterwards, or a config that allows more, brings nothing more by a repair."""
    bundle = make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)
    with runtime.started(bundle) as container:
        config = json.loads((bundle.directory / "config.json").read_text())
        config["process"]["env"] += ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all"]
        (bundle.directory / "config.json").write_text(json.dumps(config))
        mounts = mountinfo(container)
        take_rights(container)
        in_container(container, "rm", "/dev/nvidia0")
        assert command("repair", container.id).returncode == 0
        assert access(container) == FINE
        names = {path.name for path in container.path("/dev").iterdir()}
        assert {name for name in names if name.startswith("nvidia")} == {
            "nvidia0",
            "nvidiactl",
            "nvidia-uvm",
            "nvidia-uvm-tools",
        }
        assert len(mountinfo(container)) == len(mounts)


def test_after_a_driver_upgrade_the_container_is_named_and_not_repaired(running, command, findings, host):
    given = host.driver_version
    upgrade(str(host.directory), NEW_DRIVER)
    found = findings(running.id)
    assert ("driver", f"container '{running.id}' holds the files of driver {given}") in found
    text = command("verify").stdout
    assert f"the kernel now runs driver {NEW_DRIVER}; restart the container" in text
    done = command("repair", running.id)
    assert done.returncode == 1
    assert given in done.stderr
    assert NEW_DRIVER in done.stderr
    assert "restart the container" in done.stderr


def test_a_node_that_has_another_number_on_the_host_now(running, command, findings, host):
    """As after a reload of the module: its dynamic major is given anew, and the old one may be anybody's."""
    node = host.dev / "nvidia-uvm"
    info = os.lstat(node)
    node.unlink()
    os.mknod(node, info.st_mode, os.makedev(os.major(info.st_rdev) + 1, 0))
    take_rights(running)
    assert "device '/dev/nvidia-uvm'" in dict(findings(running.id))["node"]
    assert "restart the container" in command("repair", running.id).stderr
    assert access(running)["nvidia0"] == "EPERM"


def test_a_killed_container_is_cleaned_up_by_the_next_start(runtime, make_bundle, host, command):
    """No poststop: the runtime's state is taken away, as by a machine that lost /run/runc."""
    bundle = make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config, name="first")
    before = sorted(str(path.relative_to(bundle.rootfs)) for path in bundle.rootfs.rglob("*"))
    with runtime.started(bundle) as container:
        (journal,) = (host.state_dir / "containers").glob(f"{container.id}~*.json")
        os.kill(container.pid, signal.SIGKILL)
        shutil.rmtree(runtime.state_dir / container.id)
        other = make_bundle("list=/", gpus="1", config=host.config, name="second")
        assert runtime.run(other).status == 0
        assert not journal.exists()
        after = sorted(str(path.relative_to(bundle.rootfs)) for path in bundle.rootfs.rglob("*"))
        assert after == before
        assert command("verify").stdout == "No running container was given GPUs.\n"


def test_repair_all_cleans_up_too(runtime, make_bundle, host, command):
    with runtime.started(make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)) as container:
        os.kill(container.pid, signal.SIGKILL)
        shutil.rmtree(runtime.state_dir / container.id)
        done = command("repair", "--all")
        assert f"{container.id}: ended without poststop" in done.stdout
        assert os.listdir(host.state_dir / "containers") == [".lock"]


SOCKETS = {"run/nvidia-persistenced": "/var/run/nvidia-persistenced", "tmp/nvidia-mps": "/tmp/nvidia-mps"}


@pytest.fixture(params=SOCKETS)
def daemon(request, host):
    """A daemon's socket in the driver root: a function that starts it (again), and where containers see it."""
    directory = host.driver_root / request.param
    listening: list[socket.socket] = []

    def listen(anew: bool = False) -> None:
        for server in listening:
            server.close()
        if anew:
            shutil.rmtree(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "socket").unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX)
        os.chdir(directory)  # a socket's path has at most 107 bytes
        server.bind("socket")
        os.chdir("/")
        server.listen(1)
        listening[:] = [server]

    listen()
    yield listen, f"{SOCKETS[request.param]}/socket"
    for server in listening:
        server.close()


def meets(container, path: str) -> bool:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(str(container.path(path)))
    except OSError:
        return False
    finally:
        client.close()
    return True


def test_a_restarted_daemon_is_met_again(runtime, make_bundle, host, command, findings, daemon):
    restart, path = daemon
    env = ("NVIDIA_MPS=enabled",)
    bundle = make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config, env=env)
    with runtime.started(bundle) as container:
        assert meets(container, path)
        restart()
        assert meets(container, path), "the same directory has the new socket"
        restart(anew=True)  # as units do that remove the directory when the daemon stops
        assert not meets(container, path)
        assert [kind for kind, _ in findings(container.id)] == ["mount"]
        assert command("repair", container.id).returncode == 0
        assert meets(container, path)
        assert findings(container.id) == []
        assert sum(path.rpartition("/")[0].removeprefix("/var") in line for line in mountinfo(container)) == 1

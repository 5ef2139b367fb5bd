"""The resident with real runtimes: starts that begin no Python, many at once, idleness, an upgrade."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from oci_gpu_hook.admin.install import front_file
from oci_gpu_hook.base import limits
from tests.runtime import residents
from tests.runtime.fixtures import HOOK_ENVIRONMENT
from tests.runtime.host import contents, difference
from tests.runtime.test_devices import assert_reaches, reach
from tests.runtime.test_oci_runtime import leases

REFUSED = b'{"ociVersion":"1.0.2","id":"a","status":"creating","pid":1,"bundle":"/nonexistent"}'


@pytest.fixture
def python(hook, directory):
    return residents.Interpreter(hook, directory)


@pytest.fixture
def begin(runtime, hook, directory):
    """Start residents on the runtime's host, and end them."""
    address = directory / "resident" / "socket"
    listening = residents.listen(address)
    running: list[residents.Resident] = []

    def start(*options: str, hook: Path = hook) -> residents.Resident:
        before = tuple(runtime.host.command())
        running.append(residents.Resident(listening, hook, directory / "said", *options, before=before))
        running[-1].wait_until_ready()
        return running[-1]

    yield start
    for each in running:
        each.end()
    listening.close()


@pytest.fixture
def begin_at_once(runtime, directory):
    """Start a resident and do not wait until it serves; return it and its socket. `before`: the command before it."""
    listening = residents.listen(directory / "resident" / "socket")
    running: list[residents.Resident] = []

    def start(hook: Path, *before: str) -> tuple[residents.Resident, socket.socket]:
        command = (*runtime.host.command(), *before)
        running.append(residents.Resident(listening, hook, directory / "said", before=command))
        return running[-1], listening

    yield start
    for each in running:
        each.end()
    listening.close()


@pytest.fixture
def front(hook, directory, python):
    return residents.lay_front(directory / "oci-gpu-hook", hook, directory / "resident" / "socket", str(python.path))


@pytest.fixture
def pythons(python):
    return lambda: python.starts


def refused(runtime, front):
    """Have the front refuse a container that has no bundle."""
    command = runtime.host.command(front, "prestart")
    done = subprocess.run(command, input=REFUSED, capture_output=True, check=False, timeout=30)
    assert done.returncode == 1, done
    return done


def by(front, bundle, config):
    """Register a front in a bundle for its beginning and its end."""
    for stage in ("prestart", "poststop"):
        arguments = ["oci-gpu-hook", "--config", str(config), stage]
        bundle.config["hooks"][stage] = [{"path": str(front), "args": arguments, "env": HOOK_ENVIRONMENT}]
    return bundle


def test_containers_start_without_python(runtime, begin, front, pythons, make_bundle, simulated):
    begin()
    bundle = by(front, make_bundle(*reach(simulated), "dlopen=libcuda.so.1", gpus="0"), simulated.config)
    image = contents(bundle.rootfs)
    for _ in range(4):
        seen = runtime.run(bundle).seen()
        assert_reaches(seen, simulated, (0,))
        assert seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")
        assert difference(image, contents(bundle.rootfs)) == []
        assert leases(simulated) == []
    assert pythons() == 0


def test_a_refusal_is_the_same(runtime, begin, front, pythons, hook, make_bundle, simulated):
    begin()
    said = []
    for number, each in enumerate((front, hook)):
        bundle = by(each, make_bundle(gpus="7", name=f"bundle{number}", args=("/bin/true",)), simulated.config)
        said.append(runtime.run(bundle).complaint())
        assert leases(simulated) == []
    assert said[0] == said[1]
    assert pythons() == 0


def test_an_end_that_is_pythons_is_done_by_it(runtime, begin, front, pythons, make_bundle, simulated, directory):
    """The front ends ordinary containers alone; not where it cannot tell the state directory."""
    begin()
    config = directory / "config.toml"
    config.write_text(
        simulated.config.read_text().replace(f'dir = "{simulated.state_dir}"', f"dir = '{simulated.state_dir}'")
    )
    assert "dir = '" in config.read_text()
    bundle = by(front, make_bundle(gpus="0", args=("/bin/true",)), config)
    image = contents(bundle.rootfs)
    runtime.run(bundle).seen()
    assert difference(image, contents(bundle.rootfs)) == []
    assert leases(simulated) == []
    assert pythons() == 0


def test_workers_serve_again_and_end_when_there_is_nothing_to_do(
    runtime, begin, front, pythons, make_bundle, simulated
):
    running = begin("--idle", "1")
    first = {*running.workers()}
    bundle = by(front, make_bundle(gpus="0", args=("/bin/true",)), simulated.config)
    used = set()
    for _ in range(4):
        runtime.run(bundle).seen()
        used |= {*running.workers()}
    assert len(used) <= len(first) + 3
    assert running.has_ended()
    assert pythons() == 0
    refused(runtime, front)
    assert pythons() == 1


def test_many_at_once(runtime, begin, front, hook, make_bundle, simulated, directory):
    running = begin()
    bundles = [
        by(front, make_bundle(gpus="0", args=("/bin/true",), name=f"b{number}"), simulated.config)
        for number in range(16)
    ]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(runtime.run, bundles))
    for result in results:
        assert result.status == 0, result
    assert leases(simulated) == []
    running.end()
    assert [pid for pid in running.seen if Path(f"/proc/{pid}").exists()] == []


@pytest.fixture
def own(hook, directory, python):
    """An installation of this test's own, to be upgraded."""
    place = directory / "libexec"
    place.mkdir()
    for suffix in (".py", ".pyc", ".modules"):
        shutil.copy2(hook.with_name(f"oci-gpu-hook{suffix}") if suffix == ".py" else _installed(hook, suffix), place)
    stub = _installed(hook, "").with_name("oci-gpu-resident.py").read_text()
    installed = str(_installed(hook, ""))
    (place / "oci-gpu-resident.py").write_text(stub.replace(installed, str(place / "oci-gpu-hook")))
    address = directory / "resident" / "socket"
    written = front_file.write_front(
        str(place / "oci-gpu-hook"), "hook", str(python.path), str(place / "oci-gpu-hook.pyc"), resident=str(address)
    )
    assert written
    return place / "oci-gpu-hook"


def _installed(hook: Path, suffix: str) -> Path:
    front = front_file.read_front(str(hook))
    assert front
    return Path(front.stub.removesuffix(".pyc") + suffix)


@pytest.mark.parametrize("name", ["oci-gpu-hook.pyc", "oci-gpu-hook.modules"])
def test_after_an_upgrade_the_old_one_serves_nobody(runtime, begin, own, pythons, name):
    """As `oci-gpu hook-path` replaces a file: the name leads to another one."""
    running = begin(hook=own)
    started = pythons()  # the resident's own
    refused(runtime, own)
    assert pythons() == started
    copy = own.with_name("new")
    shutil.copy2(own.with_name(name), copy)
    copy.rename(own.with_name(name))
    refused(runtime, own)
    assert pythons() == started + 1
    assert running.has_ended()
    begin(hook=own)
    started = pythons()
    refused(runtime, own)
    assert pythons() == started


@pytest.mark.parametrize("how", ["upgraded", "stopped"])
def test_what_happens_to_it_amid_starts_is_nothing_to_these(runtime, begin, own, make_bundle, simulated, how):
    """Workers at work finish, and Python starts for those who come later: nothing fails, nothing is left."""
    running = begin(hook=own)
    bundles = [
        by(own, make_bundle(gpus="0", args=("/bin/true",), name=f"b{number}"), simulated.config) for number in range(8)
    ]
    with ThreadPoolExecutor(6) as pool:
        starts = [pool.submit(runtime.run, bundle) for bundle in bundles]
        starts[1].result()
        running.workers()
        if how == "stopped":
            running.stop()
        else:
            copy = own.with_name("new")
            shutil.copy2(own.with_name("oci-gpu-hook.modules"), copy)
            copy.rename(own.with_name("oci-gpu-hook.modules"))
        results = [start.result() for start in starts]
    for result in results:
        assert result.status == 0, result
    assert leases(simulated) == []
    running.end()
    assert [pid for pid in running.seen if Path(f"/proc/{pid}").exists()] == []


def test_without_its_socket_it_says_what_it_needs(hook, directory, machine):
    stub = _installed(hook, "").with_name("oci-gpu-resident.py")
    front = front_file.read_front(str(hook))
    assert front
    command = [front.interpreter, "-ISBXutf8", str(stub)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, close_fds=True)
    assert done.returncode == 1
    assert "it is started by: systemctl start oci-gpu-hook.socket" in done.stderr


def test_those_that_have_rested_long_enough_are_no_failures(runtime, begin, front, pythons):
    """After many starts at once many workers wait, and end without another front."""
    running = begin()
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: refused(runtime, front), range(24)))
    once = pythons()
    time.sleep(limits.RESIDENT_REST_SECONDS + 1)
    running.wait_until_ready()
    refused(runtime, front)
    assert pythons() == once


def test_an_installation_that_is_not_whole_turns_fronts_away_and_ends(runtime, begin_at_once, own, pythons):
    """As amid an upgrade: systemd would start it for the same connection again and again, and then give up."""
    own.with_name("oci-gpu-hook.modules").unlink()
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(refused, runtime, own) for _ in range(4)]
        began = time.monotonic()
        running, listening = begin_at_once(own)
        assert running.has_ended(limits.RESIDENT_LEAST_SECONDS + 10)
        [each.result() for each in done]
    assert running.status == 0
    assert time.monotonic() - began > limits.RESIDENT_LEAST_SECONDS - 1
    assert "run `oci-gpu hook-path`" in running.log.read_text() or "No such file" in running.log.read_text()
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.accept()


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_fork_that_fails_is_tried_again(runtime, begin_at_once, front, hook, pythons):
    inject = "inject=clone,clone3,fork,vfork:error=EAGAIN:when=1..3"
    running, _ = begin_at_once(hook, "strace", "-D", "-qq", "-o", "/dev/null", "-e", inject)
    deadline = time.monotonic() + 20
    started = -1
    while started != pythons():
        assert time.monotonic() < deadline, running.log.read_text()
        started = pythons()
        refused(runtime, front)
    assert started
    assert "cannot fork: Resource temporarily unavailable" in running.log.read_text()


def test_those_that_wait_for_gpus_keep_no_others_waiting(runtime, begin, front, pythons, make_bundle, simulated):
    """More of them than workers that get on: further ones are forked."""
    running = begin()
    with ThreadPoolExecutor(16) as pool:
        held = by(
            front,
            make_bundle(args=("/bin/sleep", "8"), env=("OCI_GPU_COUNT=2", "OCI_GPU_EXCLUSIVE=1")),
            simulated.config,
        )
        first = pool.submit(runtime.run, held)
        while not leases(simulated):
            time.sleep(0.05)
        waiting = []
        for number in range(3 * len(os.sched_getaffinity(0))):
            env = ("OCI_GPU_COUNT=1", "OCI_GPU_WAIT=60s")
            bundle = by(front, make_bundle(args=("/bin/true",), env=env, name=f"w{number}"), simulated.config)
            waiting.append(pool.submit(runtime.run, bundle))
        time.sleep(3)
        once = pythons()
        for _ in range(5):
            refused(runtime, front)
        assert pythons() == once
        assert len(running.workers()) > 2 * len(os.sched_getaffinity(0))
        results = [each.result() for each in (first, *waiting)]
    assert [result.status for result in results] == [0] * len(results), results
    assert pythons() < len(waiting)  # on a busy machine some may have waited for their 50 ms

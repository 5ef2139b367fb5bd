"""`oci-gpu top` on a simulated host: what GPUs are used for, and by which container, as NVML and /proc say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import termios
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.paths import ROOT
from tests.runtime.simulated import SimulatedHost

pytestmark = pytest.mark.root
MIB = 1 << 20
SLEEP = ("/bin/sleep", "100")


class Top:
    """The command on a runtime's host, and the file that says what the GPUs are used for."""

    def __init__(self, runtime, host: SimulatedHost) -> None:
        self.runtime = runtime
        self.host = host

    def use(self, *lines: str) -> None:
        (self.host.directory / "usage").write_text("".join(f"{line}\n" for line in lines))

    def command(self, *arguments: object) -> list[str]:
        path = Path(sys.executable).with_name("oci-gpu")
        top = (path, "--config", self.host.config, "top", "--runtime-root", self.runtime.state_dir)
        command: list[str] = self.runtime.host.command(*top, *arguments)
        return command

    def __call__(self, *arguments: object) -> str:
        done = subprocess.run(self.command("--once", *arguments), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def seen(self) -> list[dict]:
        document = json.loads(self("--json"))
        schema = json.loads((ROOT / "schemas/top.schema.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.Draft202012Validator(schema).validate(document)
        assert document["warnings"] == []
        found: list[dict] = document["devices"]
        return found


@pytest.fixture
def top(runtime, directory):
    """Of a host of the test's own, with two GPUs."""
    return Top(runtime, SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory)))


@pytest.fixture
def one(machine, directory):
    """The same for the first runtime: for what is the same under all of them."""
    runtime = next(iter(machine.runtimes.values()))
    return Top(runtime, SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory)))


@pytest.fixture
def sleeper():
    """A process of the host's, in no container."""
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def further_process(container) -> int:
    """Start one more process in a container, and return its pid on the host."""
    assert container.exec("/bin/sh", "-c", "sleep 99 >/dev/null 2>&1 &").status == 0
    namespace = os.readlink(f"/proc/{container.pid}/ns/pid")
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if int(name) != container.pid and os.readlink(f"/proc/{name}/ns/pid") == namespace:
                return int(name)
        except OSError:
            continue
    raise AssertionError("it has no other process")


def test_who_uses_what(runtime, make_bundle, top, sleeper):
    bundle = make_bundle(args=SLEEP, gpus="0", config=top.host.config)
    with runtime.started(bundle) as container:
        pids = [container.pid, further_process(container)]
        top.use(
            *("gpu 0 utilization 73 41", "gpu 0 power 312500", "gpu 0 temperature 61"),
            *(f"gpu 0 process {pids[0]} compute 2048 50 20", f"gpu 0 process {pids[1]} graphics 512 7 1"),
            *(f"gpu 0 process {sleeper.pid} compute 100 3 0", f"gpu 1 process {pids[1]} compute 64 1 1"),
        )
        first, second = top.seen()
        lease = top.seen()[0]["holders"][0]
        text = top()
    figures = ("utilization", "memoryUtilization", "memoryUsed", "power", "powerLimit", "temperature")
    assert [first[name] for name in figures] == [73, 41, 2660 * MIB, 312.5, 700.0, 61]
    (holder,) = first["holders"]
    assert (holder["container"], holder["pid"]) == (container.id, pids[0])
    assert (holder["leased"], holder["exclusive"], holder["since"]) == (True, False, lease["since"])
    assert (holder["memory"], holder["utilization"]) == (2560 * MIB, 57)
    assert [(each["pid"], each["name"], each["kind"]) for each in holder["processes"]] == [
        (pids[0], "sleep", "compute"),
        (pids[1], "sleep", "graphics"),
    ]
    assert [(each["pid"], each["memory"]) for each in first["outside"]] == [(sleeper.pid, 100 * MIB)]
    (other,) = second["holders"]
    assert (other["container"], other["leased"], other["memory"]) == (container.id, False, 64 * MIB)
    assert second["outside"] == []
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][:2] == ["GPU", "0"]
    assert {"73%", "2.6/79.6", "312/700", "61"} <= {*lines[0]}
    assert lines[1][0] == container.id
    assert ["outside", "any", "container", str(sleeper.pid)] in [line[:4] for line in lines]
    assert [container.id, "no", "lease"] in [line[:3] for line in lines]


def test_a_container_of_which_only_the_runtime_knows(runtime, make_bundle, top):
    bundle = make_bundle(args=SLEEP, gpus=None, config=top.host.config)
    with runtime.started(bundle) as container:
        top.use(f"gpu 1 process {further_process(container)} compute 64 1 1")
        free, used = top.seen()
    assert (free["holders"], free["outside"]) == ([], [])
    assert [(each["container"], each["leased"]) for each in used["holders"]] == [(container.id, False)]


def test_a_mig_device_s_holder_and_processes(runtime, make_bundle, directory):
    top = Top(runtime, SimulatedHost(Path(make(str(directory / "host"), gpus=1, mig=True).directory)))
    with runtime.started(make_bundle(args=SLEEP, gpus="0:1", config=top.host.config)) as container:
        top.use(f"gpu 0:1 process {container.pid} compute 128 0 0", "gpu 0 power 99000")
        devices = top.seen()
        text = top()
    assert [device["device"] for device in devices] == ["0", "0:0", "0:1", "0:2"]
    assert (devices[0]["power"], devices[0]["utilization"], devices[0]["holders"]) == (99.0, None, [])
    assert [len(device["holders"]) for device in devices[1:]] == [0, 1, 0]
    (holder,) = devices[2]["holders"]
    assert (holder["container"], holder["memory"], holder["utilization"]) == (container.id, 128 * MIB, None)
    assert devices[2]["parent"] == devices[0]["uuid"]
    assert [line.split()[:2] for line in text.splitlines() if line[:1] != " "] == [
        *(["GPU", "0"], ["MIG", "0:0"], ["MIG", "0:1"], ["MIG", "0:2"]),
    ]


def test_clients_of_mps_are_their_containers(runtime, make_bundle, top, directory):
    """The driver lists them as such, or only their server: then it is who has the node open that tells."""
    server = directory / "nvidia-cuda-mps-server"
    server.symlink_to("/bin/sleep")
    process = subprocess.Popen([server, "100"])
    try:
        with runtime.started(make_bundle(args=SLEEP, gpus="0", config=top.host.config)) as container:
            listed = further_process(container)
            top.use(f"gpu 0 process {process.pid} compute 30 0 0", f"gpu 0 process {listed} mps 64 5 5")
            device = top.seen()[0]
            assert [(each["pid"], each["kind"]) for each in device["outside"]] == [(process.pid, "mps-server")]
            assert [(each["pid"], each["kind"]) for each in device["holders"][0]["processes"]] == [(listed, "mps")]
            assert f"MPS server of root  {process.pid}" in top()
            with with_open_node(container) as opener:
                top.use(f"gpu 0 process {process.pid} compute 30 0 0")
                device = top.seen()[0]
            (found,) = device["holders"][0]["processes"]
            assert (found["pid"], found["kind"], found["memory"]) == (opener, "mps", None)
    finally:
        process.kill()
        process.wait()


@contextmanager
def with_open_node(container):
    """Run a process in the container's cgroups that has the node of GPU 0 open, as far as one can without a driver."""
    code = "import os, sys, time; os.open(sys.argv[1], os.O_PATH); print(flush=True); time.sleep(99)"
    command = [sys.executable, "-c", code, container.path("/dev/nvidia0")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        for cgroup in container.runtime.host.cgroups_named(container.id):
            Path(cgroup, "cgroup.procs").write_text(f"{process.pid}")
        yield process.pid
        process.kill()


def on_a_terminal(command, columns):
    """Return what a command prints on a terminal of that width."""
    terminal, slave = os.openpty()
    termios.tcsetwinsize(slave, (50, columns))
    # readline sets COLUMNS in the environment of the process that imports it, which rich believes before the terminal.
    started = subprocess.Popen(command, stdin=slave, stdout=slave, env={"PATH": os.environ["PATH"], "TERM": "xterm"})
    with open(terminal, "rb", buffering=0) as screen, started as process:
        os.close(slave)
        shown = b""
        with suppress(OSError):  # EIO: the last process that had the terminal has ended
            while part := screen.read(65536):
                shown += part
    assert process.returncode == 0
    return shown.decode()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_gpu_and_holder_are_shown_on_any_terminal(make_bundle, one, width):
    with one.runtime.started(make_bundle(args=SLEEP, gpus="all", config=one.host.config)) as container:
        pid = container.pid
        one.use(f"gpu 0 process {pid} compute 2048 50 20", f"gpu 0 process {os.getpid()} compute 1 1 1")
        shown = on_a_terminal(one.command("--once"), width)
    plain = [part.partition("m")[2] if number else part for number, part in enumerate(shown.split("\x1b["))]
    lines = [line.rstrip() for line in "".join(plain).replace("\r", "").split("\n")]
    assert all(len(line) <= width for line in lines), lines
    assert [line.split()[:2] for line in lines if line.startswith("GPU")] == [["GPU", "0"], ["GPU", "1"]]
    assert "".join(line.strip() for line in lines).count(container.id) == 2
    assert any(line.strip().startswith(str(pid)) for line in lines)


@pytest.fixture
def shared(make_bundle, one):
    """A container with a part of GPU 0, whose only process uses more than that."""
    with open(one.host.config, "a") as file:
        file.write('\n[sharing]\nenforce = "none"\n')
    share = ("OCI_GPU_MEMORY_LIMIT=8GiB", "OCI_GPU_CORES=25%", "NVIDIA_DRIVER_CAPABILITIES=utility")
    with one.runtime.started(make_bundle(args=SLEEP, env=share, config=one.host.config)) as container:
        one.use(f"gpu 0 process {container.pid} compute 9000 50 20")
        yield container


def test_parts_and_what_is_left(one, shared):
    first, second = one.seen()
    room = first["shares"]["memory"]
    assert room < first["memoryTotal"], "less what is kept for contexts"
    assert first["shares"] == {
        "memory": room,
        "memoryReserved": 8 << 30,
        "memoryLeft": room - (8 << 30),
        "coresReserved": 25,
        "coresLeft": 75,
    }
    assert (second["shares"]["memoryReserved"], second["shares"]["coresLeft"]) == (0, 100)
    (holder,) = first["holders"]
    assert (holder["reservedMemory"], holder["reservedCores"], holder["memory"]) == (8 << 30, 25, 9000 * MIB)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_parts_are_shown_on_any_terminal(one, shared, width):
    shown = on_a_terminal(one.command("--once"), width)
    plain = [part.partition("m")[2] if number else part for number, part in enumerate(shown.split("\x1b["))]
    lines = [line.rstrip() for line in "".join(plain).replace("\r", "").split("\n")]
    assert all(len(line) <= width for line in lines), lines
    assert any("MiB 75% free" in line for line in lines), lines
    assert any("8GiB 25% reserved" in line for line in lines), lines
    if width > len(shared.id) + len("    has 8GiB 25%, uses more"):
        assert any("has 8GiB 25%, uses more" in line for line in lines), lines


def test_a_line_of_json_at_each_interval(one):
    with subprocess.Popen(one.command("--json", "--interval", "0.1"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        idle = json.loads(process.stdout.readline())
        one.use("gpu 1 utilization 88 1")
        deadline = time.monotonic() + 30
        while json.loads(process.stdout.readline())["devices"][1]["utilization"] != 88:
            assert time.monotonic() < deadline
        process.terminate()
    assert idle["devices"][1]["utilization"] == 0


def test_without_nvml_the_holders_are_shown_and_what_is_missing(make_bundle, one):
    with one.runtime.started(make_bundle(args=SLEEP, gpus="0", config=one.host.config)) as container:
        for path in one.host.libraries("libnvidia-ml.so*"):
            path.write_bytes(path.read_bytes()[:100])
        document = json.loads(one("--json"))
        text = one()
    assert any("cannot ask NVML" in warning for warning in document["warnings"])
    assert document["devices"][0]["utilization"] is None
    assert document["devices"][0]["holders"][0]["container"] == container.id
    assert "warning: cannot ask NVML" in text


def test_a_user_is_told_what_only_root_may_read(make_bundle, one):
    with one.runtime.started(make_bundle(args=SLEEP, gpus="0", config=one.host.config)):
        one.host.state_dir.chmod(0o700)
        command = one.command("--once", "--json")
        nobody = [*command[: command.index("--") + 1], "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        done = subprocess.run(
            [*nobody, *command[command.index("--") + 1 :]], capture_output=True, text=True, check=False
        )
    if "Permission denied" in done.stderr:
        pytest.skip("users cannot run this checkout's Python")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert any("run this as root" in warning for warning in document["warnings"])
    assert document["devices"][0]["temperature"] == 35


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "soon", "inf"])
def test_an_interval_that_is_none(one, interval):
    done = subprocess.run(one.command(f"--interval={interval}"), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "give a number of seconds" in done.stderr

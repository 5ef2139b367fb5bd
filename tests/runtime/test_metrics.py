"""`oci-gpu metrics` of a host with a container on a GPU, scraped by a real Prometheus and asked back from it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.paths import ROOT
from tests.runtime.simulated import SimulatedHost

pytestmark = pytest.mark.root
MIB = 1 << 20
SLEEP = ("/bin/sleep", "100")
PATIENCE = 60.0
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="not installed: promtool")
needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="not installed: prometheus")


class Metrics:
    """The command on a runtime's host."""

    def __init__(self, runtime, host: SimulatedHost) -> None:
        self.runtime = runtime
        self.host = host

    def command(self, *arguments: object) -> list[str]:
        path = Path(sys.executable).with_name("oci-gpu")
        words = (path, "--config", self.host.config, *arguments, "--runtime-root", self.runtime.state_dir)
        command: list[str] = self.runtime.host.command(*words)
        return command

    def __call__(self, *arguments: object) -> str:
        done = subprocess.run(self.command("metrics", *arguments), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def use(self, *lines: str) -> None:
        (self.host.directory / "usage").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def metrics(machine, directory):
    """Of a host of the test's own, with two GPUs, and of one runtime: what is counted and shown is the same for all."""
    runtime = next(iter(machine.runtimes.values()))
    return Metrics(runtime, SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory)))


def value(text: str, name: str, **labels: str) -> float:
    """Return the value of the one sample with these labels among others."""
    found = []
    for line in text.splitlines():
        match = re.fullmatch(rf"oci_gpu_{name}(?:\{{(.*)\}})? (\S+)", line)
        if match and all(f'{key}="{word}"' in (match[1] or "") for key, word in labels.items()):
            found.append(float(match[2]))
    assert len(found) == 1, (name, labels, found, text)
    return found[0]


def start_one_and_refuse_one(metrics, make_bundle):
    """Return the bundle of a container with GPU 0, when another has been refused."""
    wrong = make_bundle("true", gpus="9", config=metrics.host.config, name="wrong")
    assert metrics.runtime.run(wrong).status != 0
    return make_bundle(args=SLEEP, gpus="0", config=metrics.host.config)


def test_what_happened_and_what_is(metrics, make_bundle, directory):
    with metrics.runtime.started(start_one_and_refuse_one(metrics, make_bundle)) as container:
        metrics.use("gpu 0 utilization 73 41", f"gpu 0 process {container.pid} compute 2048 50 20")
        text = metrics()
        output = directory / "oci-gpu.prom"
        output.write_text("old")
        assert metrics("--output", output) == ""
    assert value(text, "start_duration_seconds_count") == 1
    assert 0 < value(text, "start_duration_seconds_sum") < 30
    assert value(text, "refusals_total", code="OGH1201") == 1
    assert (value(text, "devices", state="shared"), value(text, "devices", state="free")) == (1, 1)
    assert value(text, "device_utilization_ratio", device="0") == 0.73
    assert value(text, "container_memory_used_bytes", device="0", container=container.id) == 2048 * MIB
    assert value(text, "container_utilization_ratio", container=container.id) == 0.5
    names = {line.partition(" ")[0] for line in text.splitlines()}
    assert {line.partition(" ")[0] for line in output.read_text().splitlines()} == names
    assert output.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in directory.glob("oci-gpu.prom*")] == ["oci-gpu.prom"]


def test_a_repair_is_counted(metrics, make_bundle):
    with metrics.runtime.started(make_bundle(args=SLEEP, gpus="0", config=metrics.host.config)) as container:
        container.exec("/bin/busybox", "rm", "/dev/nvidia0")
        path = Path(sys.executable).with_name("oci-gpu")
        call = metrics.runtime.host.call
        assert call(path, "--config", metrics.host.config, "repair", container.id).returncode == 0
    assert value(metrics(), "repairs_total", result="repaired") == 1


def test_a_wait_is_seen_and_measured(metrics, make_bundle):
    capabilities = "NVIDIA_DRIVER_CAPABILITIES=utility"
    alone = make_bundle(
        args=SLEEP, env=("OCI_GPU_COUNT=2", "OCI_GPU_EXCLUSIVE=1", capabilities), config=metrics.host.config
    )
    waiting = ("OCI_GPU_COUNT=1", "OCI_GPU_WAIT=60s", capabilities)
    second = make_bundle(args=("/bin/busybox", "true"), env=waiting, config=metrics.host.config, name="second")
    with metrics.runtime.started(alone) as container, ThreadPoolExecutor() as pool:
        answer = pool.submit(metrics.runtime.run, second)
        eventually(lambda: value(metrics(), "waiting_containers") == 1)
        assert value(metrics(), "wait_duration_seconds_count") == 0
        os.kill(container.pid, signal.SIGKILL)
        assert answer.result().status == 0
    text = metrics()
    assert (value(text, "waiting_containers"), value(text, "wait_duration_seconds_count")) == (0, 1)
    assert 0 < value(text, "wait_duration_seconds_sum") < 60


@needs_promtool
def test_prometheus_own_check_has_nothing_to_say(metrics, make_bundle):
    with metrics.runtime.started(start_one_and_refuse_one(metrics, make_bundle)) as container:
        metrics.use(f"gpu 0 process {container.pid} compute 2048 50 20")
        text = metrics()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], log: Path):
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            yield
            assert process.poll() is None, log.read_text()
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def prometheus(directory: Path, port: int):
    """Run a Prometheus that scrapes the port every second, and yield a function that asks it."""
    own = free_port()
    target = {"job_name": "oci-gpu", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    config = directory / "prometheus.yml"  # JSON is YAML
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [target]}))
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory}/data"]

    def ask(query: str) -> list[dict]:
        words = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"http://127.0.0.1:{own}/api/v1/query?{words}", timeout=10) as answer:
            document = json.load(answer)
        assert document["status"] == "success"
        found: list[dict] = document["data"]["result"]
        return found

    with running([*command, f"--web.listen-address=127.0.0.1:{own}"], directory / "prometheus.log"):
        yield ask


def eventually(look):
    """Return what a look at a program that is starting gives, when it gives something."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        try:
            if found := look():
                return found
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.2)
    raise AssertionError("it never came")


@needs_prometheus
def test_a_prometheus_scrapes_it(metrics, make_bundle, directory):
    port = free_port()
    bundle = start_one_and_refuse_one(metrics, make_bundle)
    with (
        metrics.runtime.started(bundle) as container,
        running(metrics.command("metrics", "--listen", f"127.0.0.1:{port}"), directory / "metrics.log"),
        prometheus(directory, port) as ask,
    ):
        metrics.use("gpu 0 utilization 73 41", f"gpu 0 process {container.pid} compute 2048 50 20")
        memory = f'oci_gpu_container_memory_used_bytes{{container="{container.id}"}}'
        (found,) = eventually(lambda: ask(f"{memory} > 0"))
        assert (found["metric"]["device"], float(found["value"][1])) == ("0", 2048 * MIB)
        assert ask("up")[0]["value"][1] == "1"
        assert {each["metric"]["state"]: each["value"][1] for each in ask("oci_gpu_devices == 1")} == {
            "shared": "1",
            "free": "1",
        }
        assert ask('oci_gpu_refusals_total{code="OGH1201"}')[0]["value"][1] == "1"
        for query in documented():
            ask(query)
        metrics.use("gpu 0 utilization 5 1")  # each scrape is a new look
        eventually(lambda: ask('oci_gpu_device_utilization_ratio{device="0"} == 0.05'))


def documented() -> list[str]:
    """Return the queries of the dashboard and of the document, as Grafana sends them."""
    dashboard = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rows = (ROOT / "docs/metrics.md").read_text().partition("\n## Questions\n")[2]
    asked = re.findall(r"^\| .+ \| `(.+)` \|$", rows, re.MULTILINE)
    assert len(asked) > 4
    return [each.replace("$instance", ".*").replace("$__rate_interval", "1m") for each in (*shown, *asked)]


def test_an_address_that_is_none(metrics):
    for address in ("0", "host", ":9835", "127.0.0.1:99999", "127.0.0.1:"):
        done = subprocess.run(
            metrics.command("metrics", "--listen", address), capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, address
        assert "give HOST:PORT or PORT" in done.stderr


def test_an_address_that_is_taken(metrics):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = metrics.command("metrics", "--listen", f"{taken.getsockname()[1]}")
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr

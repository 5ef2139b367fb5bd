"""Nodes that the host makes after a container has started: said at the start, found by verify, brought by repair."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.simulated import SimulatedHost

pytestmark = pytest.mark.root
SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/verify.schema.json").read_text())
SLEEP = ("/bin/sleep", "100")


@pytest.fixture
def host(directory):
    """A host of the test's own."""
    return SimulatedHost(Path(make(str(directory / "host"), gpus=1).directory))


@pytest.fixture
def unmade(host):
    """Take nodes of the host away, and return what makes them again."""

    def take(pattern):
        taken = [(path, path.with_name(f"~{path.name}")) for path in host.dev.glob(pattern)]
        assert taken
        for path, aside in taken:
            path.rename(aside)
        return lambda: [aside.rename(path) for path, aside in taken]

    return take


@pytest.fixture
def command(runtime, host):
    """Run `oci-gpu` on the runtime's host."""

    def call(*arguments):
        path = Path(sys.executable).with_name("oci-gpu")
        done = runtime.host.call(path, "--config", host.config, *arguments, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return call


@pytest.fixture
def findings(command):
    """Verify one container; return its findings as (path, repairable)."""

    def look(container_id):
        done = command("verify", container_id, "--json")
        documents = json.loads(done.stdout)
        jsonschema.validate(documents, SCHEMA)
        found = [(finding["what"], finding["repairable"]) for finding in documents[0]["findings"]]
        assert done.returncode == (1 if found else 0)
        return found

    return look


def asking(make_bundle, host, capabilities, *more):
    env = ("NVIDIA_VISIBLE_DEVICES=0", f"NVIDIA_DRIVER_CAPABILITIES={capabilities}", *more)
    return make_bundle(args=SLEEP, env=env, config=host.config)


def opened(container, path):
    return container.exec("/probe", f"open={path}").seen()[f"open={path}"]


def test_what_computing_needs_is_missed_at_once_and_comes_when_it_is_made(
    runtime, make_bundle, host, unmade, command, findings
):
    make_again = unmade("nvidia-uvm*")
    log = host.directory / "log"
    host.config.write_text(f'{host.config.read_text()}\n[log]\nfile = "{log}"\n')
    bundle = asking(make_bundle, host, "compute,utility")
    bundle.write()
    planned = json.loads(command("plan", bundle.directory, "--json").stdout)["warnings"]
    assert any(text.startswith("the host has no /dev/nvidia-uvm, which compute would use: run") for text in planned)
    with runtime.started(bundle) as container:
        said = [json.loads(line) for line in log.read_text().splitlines()]
        assert planned == [line["text"] for line in said if line["event"] == "warning"]
        assert findings(container.id) == [("device '/dev/nvidia-uvm'", False)]
        refused = command("repair", container.id)
        assert refused.returncode == 1
        assert "still has not; create it: run `nvidia-modprobe -c 0 -u`" in refused.stderr
        make_again()
        assert findings(container.id) == [("device '/dev/nvidia-uvm'", True), ("device '/dev/nvidia-uvm-tools'", True)]
        assert opened(container, "/dev/nvidia-uvm") == "ENOENT"
        repaired = command("repair", container.id)
        assert repaired.returncode == 0, repaired.stderr
        assert opened(container, "/dev/nvidia-uvm") == opened(container, "/dev/nvidia0") == "ENXIO"
        assert findings(container.id) == []
        assert command("repair", container.id).stdout == f"{container.id}: has what it was given\n"
        container.exec("/bin/busybox", "rm", "/dev/nvidia-uvm")
        assert findings(container.id) == [("device '/dev/nvidia-uvm'", True)]
        assert command("repair", container.id).returncode == 0
        assert opened(container, "/dev/nvidia-uvm") == "ENXIO"


def test_what_is_lost_besides_does_not_wait_for_what_the_host_has_not_made(
    runtime, make_bundle, host, unmade, command, findings
):
    unmade("nvidia-uvm*")
    with runtime.started(asking(make_bundle, host, "compute,utility")) as container:
        container.exec("/bin/busybox", "rm", "/dev/nvidia0")
        assert ("device '/dev/nvidia0'", True) in findings(container.id)
        assert command("repair", container.id).returncode == 0
        assert opened(container, "/dev/nvidia0") == "ENXIO"
        assert findings(container.id) == [("device '/dev/nvidia-uvm'", False)]


def test_what_little_needs_is_no_finding_until_it_is_made(runtime, make_bundle, host, unmade, command, findings):
    make_again = unmade("nvidia-modeset")
    with runtime.started(asking(make_bundle, host, "all")) as container:
        assert findings(container.id) == []
        make_again()
        assert findings(container.id) == [("device '/dev/nvidia-modeset'", True)]
        assert command("repair", container.id).returncode == 0
        assert opened(container, "/dev/nvidia-modeset") == "ENXIO"


def test_a_feature_comes_with_its_nodes_and_files(runtime, make_bundle, host, unmade, command, findings):
    make_again = unmade("nvidia-fs*")
    files = host.driver_root / "etc/cufile.json"
    assert files.exists()
    with runtime.started(asking(make_bundle, host, "compute,utility", "NVIDIA_GDS=enabled")) as container:
        assert findings(container.id) == [("device '/dev/nvidia-fs*'", False)]
        assert container.exec("/bin/busybox", "test", "-e", "/etc/cufile.json").status
        make_again()
        repaired = command("repair", container.id)
        assert repaired.returncode == 0, repaired.stderr
        assert opened(container, "/dev/nvidia-fs15") == "ENXIO"
        assert not container.exec("/bin/busybox", "test", "-e", "/etc/cufile.json").status
        assert findings(container.id) == []


def test_nothing_comes_that_was_not_asked_for(runtime, make_bundle, host, unmade, command, findings):
    """Neither what the bundle asks for now widens what was asked for at the start."""
    make_again = unmade("nvidia-uvm*")
    bundle = asking(make_bundle, host, "utility")
    with runtime.started(bundle) as container:
        text = (bundle.directory / "config.json").read_text()
        (bundle.directory / "config.json").write_text(text.replace("CAPABILITIES=utility", "CAPABILITIES=all"))
        make_again()
        assert findings(container.id) == []
        assert command("repair", container.id).returncode == 0
        assert opened(container, "/dev/nvidia-uvm") == "ENOENT"


def test_a_container_of_a_user_namespace_gets_them_too(runtime, make_bundle, host, unmade, command, findings):
    make_again = unmade("nvidia-uvm*")
    env = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
    with runtime.started(make_bundle(args=SLEEP, env=env, config=host.config, user_namespace=True)) as container:
        make_again()
        repaired = command("repair", container.id)
        assert repaired.returncode == 0, repaired.stderr
        assert opened(container, "/dev/nvidia-uvm") == "ENXIO"
        assert findings(container.id) == []

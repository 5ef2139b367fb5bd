"""GPU nodes of a group: a container whose process is not in it is told so, at the start, by plan, verify and doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.runtime import cdi_engine
from tests.runtime.fixtures import oci_gpu

GROUP = 4242
USER = (1000, 1000)
OPEN = "open=/dev/nvidia0"
SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/verify.schema.json").read_text())
# What each kind of container is, whether it is told, and what it is advised.
KINDS: dict[str, tuple[dict, str]] = {
    "user": ({"user": USER}, "add the group 4242 to the container's process (--group-add 4242, "),
    "root": ({}, ""),
    "root-without-capabilities": ({"capabilities": ()}, ""),
    "userns": ({"user": USER, "user_namespace": True}, "the container's user namespace has no such group: "),
    "userns-root": ({"user_namespace": True}, "the container's user namespace has no such group: "),
}


@pytest.fixture
def host(simulated, directory):
    """A host whose driver's nodes are of a group, and which keeps a log."""
    host = simulated.copy(directory / "host")
    for node in host.dev.glob("nvidia*"):
        if node.is_char_device():
            os.chown(node, 0, GROUP)
            node.chmod(0o660)
    text = host.config.read_text().partition("[log]")[0]
    host.config.write_text(f'{text}\n[log]\nlevel = "info"\nfile = "{directory}/log"\n')
    return host


def logged(directory) -> list[str]:
    records = [json.loads(line) for line in (directory / "log").read_text().splitlines()]
    return [record["text"] for record in records if record["event"] == "warning"]


def planned(bundle, config) -> list[str]:
    bundle.write()
    return json.loads(oci_gpu("--config", config, "plan", bundle.directory, "--json"))["warnings"]


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_not_open_its_gpus_is_told(runtime, make_bundle, host, directory, kind):
    options, advice = KINDS[kind]
    bundle = make_bundle(OPEN, gpus="0", config=host.config, **options)
    assert runtime.run(bundle).seen()[OPEN] == ("EACCES" if advice else "ENXIO")
    warnings = planned(bundle, host.config)
    assert warnings == logged(directory)
    assert bool(warnings) == bool(advice)
    for warning in warnings:
        assert " may not open /dev/nvidia0, /dev/nvidiactl, " in warning
        assert "(each of mode 0660, owner 0, group 4242): " + advice in warning


def test_who_has_the_group_is_told_nothing(runtime, make_bundle, host, directory):
    bundle = make_bundle(OPEN, gpus="0", config=host.config, user=USER)
    bundle.config["process"]["user"]["additionalGids"] = [GROUP]
    assert runtime.run(bundle).seen()[OPEN] == "ENXIO"
    assert planned(bundle, host.config) == logged(directory) == []


def test_whose_own_group_it_is_is_told_nothing(runtime, make_bundle, host, directory):
    bundle = make_bundle(OPEN, gpus="0", config=host.config, user=(1000, GROUP))
    assert runtime.run(bundle).seen()[OPEN] == "ENXIO"
    assert planned(bundle, host.config) == logged(directory) == []


@pytest.mark.parametrize("gids", [(), (GROUP,)])
def test_verify_says_it_of_who_runs(runtime, make_bundle, host, gids):
    bundle = make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config, user=USER)
    bundle.config["process"]["user"]["additionalGids"] = list(gids)
    command = Path(sys.executable).with_name("oci-gpu")
    with runtime.started(bundle) as container:
        call = (command, "--config", host.config, "verify", container.id, "--json")
        done = runtime.host.call(*call, check=False)
        repaired = runtime.host.call(command, "--config", host.config, "repair", container.id, check=False)
    (document,) = documents = json.loads(done.stdout)
    jsonschema.validate(documents, SCHEMA)
    found = [(finding["kind"], finding["what"].partition(" /dev")[0]) for finding in document["findings"]]
    assert found == ([] if gids else [("access", "its user 1000 may not open")])
    assert done.returncode == (0 if gids else 1)
    assert repaired.returncode == 0, repaired.stderr


def test_doctor_names_the_nodes_and_the_group(host):
    command = [Path(sys.executable).with_name("oci-gpu"), "--config", host.config, "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [finding for finding in json.loads(done.stdout) if finding["check"] == "nodes"]
    (warning,) = [finding for finding in found if finding["severity"] == "warning"]
    assert warning["what"].startswith("only root and group 4242 may open /dev/nvidiactl, ")
    assert "(mode 0660)" in warning["what"]
    assert "--group-add 4242" in warning["remedy"]
    assert all("/dev/dri/" in finding["what"] for finding in found if finding["severity"] == "note")


@pytest.mark.parametrize("gids", [(), (GROUP,)])
def test_a_cdi_specification_s_hook_says_it_too(runtime, make_bundle, host, hook, directory, gids):
    arguments = ("cdi", "generate", "--format", "json", "--hook-path", hook)
    specification = json.loads(oci_gpu("--config", host.config, *arguments))
    bundle = make_bundle(OPEN, config=host.config, user=USER)
    bundle.config.pop("hooks")
    bundle.config["process"]["user"]["additionalGids"] = list(gids)
    cdi_engine.apply(specification, ("0",), bundle.config)
    assert runtime.run(bundle).seen()[OPEN] == ("ENXIO" if gids else "EACCES")
    told = [text for text in logged(directory) if "may not open /dev/nvidia" in text]
    assert len(told) == (0 if gids else 1)

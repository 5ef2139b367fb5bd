"""The configuration of engines that no test runs, as docs/engines.md has it: it can be read, and its words are theirs.

CRI-O reads TOML (pkg/config/config.go of 1.37), Nomad HCL (drivers/docker/config.go of 2.0; device.go of its plugin).
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

import hcl2
import pytest

from oci_gpu_hook.admin.install.place import SYSTEM_DIRECTORY
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.oci.container import State, of_document
from oci_gpu_hook.request import parse
from tests.paths import ROOT

TEXT = (ROOT / "docs/engines.md").read_text()
CRIO_HANDLER = {
    "runtime_path", "runtime_type", "runtime_root", "runtime_config_path", "privileged_without_host_devices",
    "allowed_annotations", "monitor_path", "monitor_cgroup", "monitor_env", "monitor_exec_cgroup",
    "platform_runtime_paths", "runtime_pull_image", "container_min_memory", "no_sync_log", "inherit_default_runtime",
    "default_annotations", "stream_websockets", "exec_cpu_affinity", "seccomp_profile", "container_create_timeout",
}  # fmt: skip
DOCKER_PLUGIN = {"nvidia_runtime", "allow_runtimes", "allow_privileged", "allow_caps", "volumes", "gc", "auth"}
DOCKER_TASK = {"image", "command", "args", "runtime", "entrypoint", "mounts", "volumes", "devices", "privileged"}
DEVICE_PLUGIN = {"enabled", "ignored_gpu_ids", "fingerprint_period"}


def blocks(heading: str, language: str) -> list[str]:
    """Return the blocks in a language of a section of docs/engines.md."""
    section = re.search(rf"^## {heading}\n(.*?)^## ", TEXT, re.DOTALL | re.MULTILINE)
    assert section
    return re.findall(rf"```{language}\n(.*?)```", section[1], re.DOTALL)


def plain(value: Any) -> Any:
    """Return what python-hcl2 has read without the quotation marks that it keeps, and a block for a list of one."""
    if isinstance(value, dict):
        return {plain(name): plain(each) for name, each in value.items() if not name.startswith("__")}
    if isinstance(value, list):
        found = [plain(each) for each in value]
        return found[0] if len(found) == 1 and isinstance(found[0], dict) else found
    return value.strip('"') if isinstance(value, str) else value


def test_handler_of_crio():
    (text,) = blocks("CRI-O", "toml")
    read = tomllib.loads(text)
    assert list(read) == ["crio"]
    (name, handler), *others = read["crio"]["runtime"]["runtimes"].items()
    assert (name, others) == ("oci-gpu", [])
    assert set(handler) <= CRIO_HANDLER
    assert (handler["runtime_path"], handler["runtime_type"]) == (f"{SYSTEM_DIRECTORY}/oci-gpu-runtime", "oci")
    # CRI-O refuses a handler that lists an annotation which is not one of its own.
    assert "allowed_annotations" not in handler


def test_plugins_of_nomad():
    read = hcl2.loads(blocks("Nomad", "hcl")[0])
    docker, device = (plain(each) for each in read["plugin"])
    config = docker["docker"]["config"]
    assert set(config) <= DOCKER_PLUGIN
    assert config["nvidia_runtime"] in config["allow_runtimes"]
    assert config["nvidia_runtime"] == "oci-gpu"
    assert set(device["nomad-device-nvidia"]["config"]) <= DEVICE_PLUGIN


@pytest.mark.parametrize("by", ["device", "count"])
def test_job_of_nomad(by):
    job = plain(hcl2.loads(blocks("Nomad", "hcl")[1 if by == "device" else 2]))["job"]["cuda"]
    task = job["group"]["cuda"]["task"]["smi"]
    assert task["driver"] == "docker"
    assert set(task["config"]) <= DOCKER_TASK
    if by == "device":
        assert task["resources"]["device"]["nvidia/gpu"] == {"count": 1}
        assert "runtime" not in task["config"]
        return
    assert task["config"]["runtime"] == "oci-gpu"
    env = [f"{name}={value}" for name, value in task["env"].items()]
    document = {"process": {"env": env}, "root": {"path": "/r"}}
    state = State(id="c", pid=1, bundle="/b", root="", annotations={})
    request = parse.parse(of_document(document, state), Config())
    assert request is not None
    assert (request.count, request.exclusive, request.wait) == (1, True, 300)

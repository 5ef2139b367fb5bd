"""`oci-gpu plan` shows what the hook does: its words are compared with what a started container holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.fixtures import oci_gpu
from tests.runtime.test_libraries import cached


@pytest.mark.parametrize("gpus", ["all", "1", "none"])
@pytest.mark.parametrize("image", ["debian", "rhel"])
def test_the_plan_is_what_the_container_holds(runtime, make_bundle, simulated, image, gpus):
    bundle = make_bundle(args=("/bin/sleep", "60"), gpus=gpus, image=image)
    bundle.write()
    plan = json.loads(oci_gpu("--config", simulated.config, "plan", bundle.directory, "--json"))
    edits = plan["containerEdits"]
    files = [mount for mount in edits["mounts"] if os.path.isfile(mount["hostPath"])]
    with runtime.started(bundle) as container:
        asked = ["list=/dev"]
        asked += [f"stat={node['path']}" for node in edits["deviceNodes"]]
        asked += [f"stat={mount['containerPath']}" for mount in files]
        asked += [f"stat={link['path']}" for link in plan["links"]]
        seen = container.exec("/probe", *asked).seen()
        inside = cached(container.path("/etc/ld.so.cache"))
    for node in edits["deviceNodes"]:
        assert seen[f"stat={node['path']}"].startswith(f"c {node['major']}:{node['minor']} ")
    planned = {node["path"] for node in edits["deviceNodes"]}
    held = {f"/dev/{name}" for name in seen["list=/dev"] if name.startswith("nvidia") and name != "nvidia-caps"}
    assert held == {path for path in planned if path.count("/") == 2}
    for mount in files:
        size = os.stat(mount["hostPath"]).st_size
        assert seen[f"stat={mount['containerPath']}"].split()[:2] == ["f", str(size)], mount
    for link in plan["links"]:
        assert seen[f"stat={link['path']}"] == f"l {link['target']}"
    assert {*plan["ldCache"]} <= {path for paths in inside.values() for path in paths}
    assert [gpu["uuid"] for gpu in plan["gpus"]] == _granted(simulated, gpus)


@pytest.mark.parametrize("gpus", [2, 1])
def test_a_running_container_keeps_what_it_has(runtime, make_bundle, simulated, gpus):
    """It is named as engines name it, or by a process in it, or by its bundle; its own lease is not in its way."""
    env = (f"OCI_GPU_COUNT={gpus}", "OCI_GPU_EXCLUSIVE=true")
    bundle = make_bundle(args=("/bin/sleep", "60"), env=env)
    config = ("--config", str(simulated.config))
    root = ("--runtime-root", str(runtime.state_dir))

    def plan(*words: str) -> str:
        path = Path(sys.executable).with_name("oci-gpu")
        return str(runtime.host.call(path, *config, "plan", *words, *root).stdout)

    with runtime.started(bundle) as container:
        has = {gpu for lease in json.loads(oci_gpu(*config, "leases", "--json")) for gpu in lease["gpus"]}
        assert len(has) == gpus
        for name in (container.id, container.id[:-1], str(container.pid), str(bundle.directory)):
            assert {gpu["uuid"] for gpu in json.loads(plan(name, "--json"))["gpus"]} == has
        assert plan(container.id).count("held by nobody else") == gpus
        if gpus == 1:
            path = Path(sys.executable).with_name("oci-gpu")
            runtime.host.call(path, *config, "attach", container.id, "--count", "1", *root)
            said = plan(container.id).splitlines()[-1]
            other = next(gpu.uuid for gpu in simulated.gpus() if gpu.uuid not in has)
            assert said == f"attached to it while it runs: {other}; a restart does not keep them"


def test_what_is_neither_a_bundle_nor_a_container(simulated, directory):
    for name, why in (("nobody", "is not a running container"), (str(directory), "has no config.json")):
        command = (Path(sys.executable).with_name("oci-gpu"), "--config", simulated.config, "plan", name)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert why in done.stderr


def _granted(simulated, gpus: str) -> list[str]:
    return [gpu.uuid for gpu in simulated.gpus() if gpus == "all" or gpus == str(gpu.index)]


def test_a_plan_changes_nothing(machine, make_bundle, simulated):
    from tests.runtime.host import difference, tree

    bundle = make_bundle("list=/", gpus="all")
    bundle.write()
    before = tree(bundle.directory)
    oci_gpu("--config", simulated.config, "plan", bundle.directory, "--json")
    assert difference(before, tree(bundle.directory)) == []

"""`oci-gpu plan` shows what the hook does: its words are compared with what a started container holds."""

from __future__ import annotations

import json
import os

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


def _granted(simulated, gpus: str) -> list[str]:
    return [gpu.uuid for gpu in simulated.gpus() if gpus == "all" or gpus == str(gpu.index)]


def test_a_plan_changes_nothing(machine, make_bundle, simulated):
    from tests.runtime.host import difference, tree

    bundle = make_bundle("list=/", gpus="all")
    bundle.write()
    before = tree(bundle.directory)
    oci_gpu("--config", simulated.config, "plan", bundle.directory, "--json")
    assert difference(before, tree(bundle.directory)) == []

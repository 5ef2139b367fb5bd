"""The examples of docs/mesos.md are JSON, and ask for GPUs in words that are read."""

from __future__ import annotations

import json
import re

import pytest

from tests.paths import ROOT

TEXT = (ROOT / "docs/mesos.md").read_text()
EXAMPLES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]


@pytest.mark.parametrize("example", EXAMPLES, ids=["task", "marathon", "docker-task", "docker-marathon"])
def test_example(example):
    container = example["container"]
    if container["type"] == "MESOS":
        resources = {r["name"]: r["scalar"]["value"] for r in example.get("resources", [])}
        assert (resources or example)["gpus"] == 1
    else:
        variables = example["command"]["environment"]["variables"] if "command" in example else []
        environment = example.get("env", {}) | {v["name"]: v["value"] for v in variables}
        assert environment == {"OCI_GPU_COUNT": "1", "OCI_GPU_EXCLUSIVE": "true"}
        assert container["docker"]["parameters"] == [{"key": "runtime", "value": "oci-gpu"}]

"""Names of intel.com/gpu: the meaning that Intel's CDI specifications have, case by case (tests/data/intel)."""

from __future__ import annotations

import json
import os

import pytest

from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.cdi.devices import native
from oci_gpu_hook.request.parse import read
from tests.paths import DATA
from tests.unit.devices.topologies import Machine
from tests.unit.request.texts import container

CASES = json.loads((DATA / "intel/device_names.json").read_text())["cases"]
KIND = "intel.com/gpu"


@pytest.fixture
def machine(tmp_path):
    """The host that the cases are of."""
    made = Machine(tmp_path)
    gpus = (("0000:03:00.0", "xe", "0x56c0", 2, 129), ("0000:4d:00.0", "i915", "0x0bd5", 1, 128))
    for address, driver, product, card, render in gpus:
        path = made.pci(address, driver, vendor="0x8086", device=product, numa_node="0")
        made.drm(path, card=card, render=render)
    return made


def given_nodes(annotations, env, config):
    """Return the names of the nodes that a request gives on the host."""
    request = read(container(env, annotations=annotations), config).request
    assert request
    room = vendors.of(request.kind)
    inventory = room.snapshot(request, config).inventory
    devices = room.devices(inventory, config)
    names, _warnings = room.served(request, inventory, devices)
    chosen = room.resolve(names, devices)
    paths = [node.path for device in chosen for node in native(device).described[0].edits.device_nodes]
    return sorted(map(os.path.basename, paths))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("by", ["variable", "annotation"])
def test_what_a_name_means(machine, case, by):
    text = f"{KIND}={case['name']}"
    env = [f"OCI_GPU_DEVICES={text}"] if by == "variable" else []
    annotations = {} if by == "variable" else {"io.oci-gpu-hook.devices": text}
    expected = case.get("ours", case["theirs"])
    if isinstance(expected, str):
        with pytest.raises(InvalidInput, match=expected):
            given_nodes(annotations, env, machine.config)
    else:
        assert given_nodes(annotations, env, machine.config) == sorted(expected)

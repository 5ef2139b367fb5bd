"""AMD_VISIBLE_DEVICES: AMD's meaning, case by case (tests/data/amd), and beside the words of others."""

from __future__ import annotations

import json

import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.request.parse import read
from tests.paths import DATA
from tests.unit.devices.topologies import Machine
from tests.unit.request.texts import container

CASES = json.loads((DATA / "amd/visible_devices.json").read_text())["cases"]
AMD, NVIDIA = "amd.com/gpu", "nvidia.com/gpu"


@pytest.fixture
def machine(tmp_path):
    """The host that the cases are of."""
    made = Machine(tmp_path)
    made.amd(1, render=128, card=1, location=0x0500, unique_id=0xEF2C1799A1F3E2ED)
    made.amd(2, render=129, card=2, location=0x1500, unique_id=0x1234567890ABCDEF)
    return made


def given_indices(value, config):
    """Return the indices of the devices that a value gives on the host, sorted as AMD's runtime does."""
    request = read(container([f"AMD_VISIBLE_DEVICES={value}"]), config).request
    if request is None:
        return []
    room = vendors.of(request.kind)
    inventory = room.snapshot(request, config).inventory
    devices = room.devices(inventory, config)
    names, _warnings = room.served(request, inventory, devices)
    return sorted(device.index for device in room.resolve(names, devices))


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case["value"]))
def test_what_the_variable_means(machine, case):
    expected = case.get("ours", case["theirs"])
    if isinstance(expected, str):
        with pytest.raises(InvalidInput, match=expected):
            given_indices(case["value"], machine.config)
    else:
        assert given_indices(case["value"], machine.config) == expected


def asked(*env, config=None, annotations=None, privileged=False):
    """Return kind, devices, count and whether the kind is open, of each request."""
    reading = read(container(env, annotations=annotations or {}, privileged=privileged), config or Config())
    request = reading.request
    parts = () if request is None else (request, *request.beside)
    return [(each.kind, each.devices, each.count, each.any_kind) for each in parts]


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (["AMD_VISIBLE_DEVICES=0"], [(AMD, ("0",), None, False)]),
        (["AMD_VISIBLE_DEVICES=all", "OCI_GPU_COUNT=2"], [(AMD, (), 2, False)]),
        (["AMD_VISIBLE_DEVICES=none", "NVIDIA_VISIBLE_DEVICES=0"], [(NVIDIA, ("0",), None, False)]),
        (["AMD_VISIBLE_DEVICES=0", "NVIDIA_VISIBLE_DEVICES=void"], [(AMD, ("0",), None, False)]),
        (["AMD_VISIBLE_DEVICES=", "OCI_GPU_COUNT=1"], [(NVIDIA, (), 1, True)]),
        (["AMD_VISIBLE_DEVICES=0", "OCI_GPU_DEVICES=amd.com/gpu=1"], [(AMD, ("1",), None, False)]),
        (
            ["NVIDIA_VISIBLE_DEVICES=all", "AMD_VISIBLE_DEVICES=all"],
            [(NVIDIA, ("all",), None, True), (AMD, ("all",), None, True)],
        ),
        (["NVIDIA_VISIBLE_DEVICES=all", "AMD_VISIBLE_DEVICES=all", "OCI_GPU_COUNT=3"], [(NVIDIA, (), 3, True)]),
        (["OCI_GPU_COUNT=1"], [(NVIDIA, (), 1, True)]),
        (["OCI_GPU_COUNT=1", "OCI_GPU_KIND=nvidia.com/gpu"], [(NVIDIA, (), 1, False)]),
        (["OCI_GPU_COUNT=1", "NVIDIA_VISIBLE_DEVICES=all"], [(NVIDIA, (), 1, False)]),
    ],
    ids=str,
)
def test_beside_the_words_of_others(env, expected):
    assert asked(*env) == expected


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (["OCI_GPU_COUNT=1"], [(AMD, (), 1, False)]),
        (["OCI_GPU_COUNT=1", "OCI_GPU_KIND=nvidia.com/gpu"], [(NVIDIA, (), 1, False)]),
        (["OCI_GPU_COUNT=1", "NVIDIA_VISIBLE_DEVICES=all"], [(NVIDIA, (), 1, False)]),
        (["NVIDIA_VISIBLE_DEVICES=all", "AMD_VISIBLE_DEVICES=all", "OCI_GPU_COUNT=3"], [(AMD, (), 3, False)]),
    ],
    ids=str,
)
def test_a_count_is_of_the_hosts_default_kind_where_nobody_says_another(env, expected):
    assert asked(*env, config=Config(allocation_default_kind=AMD)) == expected
    annotations = {"io.oci-gpu-hook.count": "1"}
    assert asked(annotations=annotations, config=Config(allocation_default_kind=AMD)) == [(AMD, (), 1, False)]


def test_the_policy_of_nvidias_variable_holds():
    careful = Config(accept_envvar_when_unprivileged=False)
    assert asked("AMD_VISIBLE_DEVICES=0", config=careful) == []
    assert asked("AMD_VISIBLE_DEVICES=0", config=careful, privileged=True) == [(AMD, ("0",), None, False)]
    warnings = read(container(["AMD_VISIBLE_DEVICES=0"]), careful).warnings
    assert warnings == (
        "GPUs asked for by AMD_VISIBLE_DEVICES are not given: the container is unprivileged (see config.toml)",
    )
    assert asked("AMD_VISIBLE_DEVICES=0", config=Config(image_may_ask="no")) == []


@pytest.mark.parametrize("value", [",".join(map(str, range(5000))), "0-99999", "0-4095,5000-9000"])
def test_a_list_that_nobody_can_mean_is_refused(value):
    with pytest.raises(InvalidInput, match=r"AMD_VISIBLE_DEVICES.*4096"):
        asked(f"AMD_VISIBLE_DEVICES={value}")

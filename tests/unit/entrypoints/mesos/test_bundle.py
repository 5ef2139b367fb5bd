"""The bundles of Mesos containers: what is written can be read back, and a damaged one keeps no other from going."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.entrypoints.mesos import bundle


@pytest.fixture
def config(tmp_path):
    return Config(state_dir=str(tmp_path / "state"))


def test_a_bundle_that_could_not_be_read_back_is_not_written(config):
    with pytest.raises(InvalidInput, match="that can be read back"):
        bundle.write({"process": {"env": ["A=" + "x" * limits.CONFIG_JSON]}}, "c", config)
    assert not os.path.exists(f"{config.state_dir}/mesos") or os.listdir(f"{config.state_dir}/mesos") == []


def test_the_largest_bundle_goes_with_its_container(config):
    document = {"annotations": {"mesos.cgroup": "/mesos/gone"}, "process": {"env": ["A=" + "x" * (2 << 20)]}}
    bundle.write(document, "c", config)
    bundle.drop_ended(config)
    assert os.listdir(f"{config.state_dir}/mesos") == []


DAMAGED: dict[str, Any] = {
    "no annotations": {},
    "a list": [],
    "a number": {"annotations": {"mesos.cgroup": 7}},
    "a NUL": {"annotations": {"mesos.cgroup": "/a\0b"}},
    "a surrogate": {"annotations": {"mesos.cgroup": "/\ud800"}},
    "none": None,
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_bundle_keeps_no_other_from_going(config, damage):
    broken = bundle.write({}, "broken", config)
    with open(f"{broken}/config.json", "w") as file:
        json.dump(DAMAGED[damage], file)
    bundle.write({"annotations": {"mesos.cgroup": "/mesos/gone"}}, "gone", config)
    bundle.drop_ended(config)
    left = [name for name in os.listdir(f"{config.state_dir}/mesos") if name.startswith("gone")]
    assert left == []

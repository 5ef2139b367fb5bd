"""A request by volume mounts on a host that does not accept them: whoever is told of it learns the key that does."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.request import parse
from tests.unit.nvidia.bundles import MOUNTS
from tests.unit.request.test_pods import container

KEY = "accept-nvidia-visible-devices-as-volume-mounts"


def mount(name):
    return {"source": "/dev/null", "destination": f"{MOUNTS}/{name}"}


@pytest.mark.parametrize("value", [MOUNTS, f"{MOUNTS}/"])
@pytest.mark.parametrize("mounts", [[mount("GPU-1")], []], ids=["mounts", "no mounts"])
@pytest.mark.parametrize("accepted", [False, True])
def test_the_refusal_of_what_the_device_plugin_sets_names_the_key(value, mounts, accepted):
    asks = container({}, {"NVIDIA_VISIBLE_DEVICES": value}, mounts)
    if mounts and accepted:
        request = parse.parse(asks, Config(accept_volume_mounts=True))
        assert request
        assert request.devices == ("GPU-1",)
        return
    with pytest.raises(InvalidInput, match=f"the devices are named by volume mounts.*; set {KEY} = true in"):
        parse.parse(asks, Config(accept_volume_mounts=accepted))


@pytest.mark.parametrize("environment", [{}, {"NVIDIA_VISIBLE_DEVICES": "void"}], ids=str)
def test_a_warning_names_it_where_nothing_else_asks(environment):
    reading = parse.read(container({}, environment, [mount("0"), mount("1")]), Config())
    assert reading.request is None
    assert f"volume mounts '0,1' are not read: {KEY} is false in config.toml" in reading.warnings


@pytest.mark.parametrize("mounts", [[], [mount("void")], [mount("0"), mount("void")]], ids=str)
def test_mounts_that_ask_for_nothing_are_not_warned_of(mounts):
    assert parse.read(container({}, {}, mounts), Config()).warnings == ()

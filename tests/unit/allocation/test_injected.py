"""A lease for what somebody else has put into a container, beside one for what it asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.allocation import lease_table, query
from oci_gpu_hook.allocation.model import Busy
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.model import Gpu
from oci_gpu_hook.oci.container import Container
from oci_gpu_hook.request.model import IN_THE_BUNDLE, Request

HOST = of_nvidia.of(Gpu(index=i, uuid=f"GPU-{i}", minor=i, bus_id=f"00000000:0{i}:00.0") for i in range(3))


def container(name):
    return Container(
        id=name, pid=0, bundle="/b", rootfs="/b/r", root_readonly=False, env=(), mounts=(), annotations={},
        privileged=False, uid=0, gid=0, namespaces=(), uid_mappings=(), gid_mappings=(), cgroups_path="",
        device_rules=(),
    )  # fmt: skip


@pytest.fixture
def ask(tmp_path):
    def asking(name, *devices, source="environment", policy="shared", **wish):
        config = Config(state_dir=str(tmp_path / "state"), allocation_policy=policy)
        request = Request(devices=devices, driver_capabilities=(), source=source, **wish)
        return [device.index for device in story.allocate(request, HOST, container(name), config)]

    asked: Any = asking
    asked.leases = lambda: query.current(Config(state_dir=str(tmp_path / "state"))).leases
    return asked


def test_both_are_held_and_not_in_each_others_way(ask):
    for _ in range(2):  # hooks of two stages, or the runtime and the hook
        assert ask("a", count=1, exclusive=True) == [0]
        assert ask("a", "1", source=IN_THE_BUNDLE) == [1]
    assert ask("a", "0", source=IN_THE_BUNDLE) == [0], "its own exclusive lease is not an obstacle"
    held = {lease.injected: ([device.uuid for device in lease.devices], lease.counted) for lease in ask.leases()}
    assert held == {False: (["GPU-0"], True), True: (["GPU-0"], False)}
    assert ask("b", count=2, exclusive=True) == [1, 2]


def test_what_another_has_exclusively_is_refused_in_words_of_its_own(ask):
    ask("a", "0", exclusive=True)
    with pytest.raises(
        Busy, match=r"GPU 0 \(GPU-0\), which the engine has put into this container, is not available: "
    ):
        ask("b", "0", source=IN_THE_BUNDLE)


def test_the_policy_exclusive_makes_requests_exclusive_and_nothing_else(ask):
    """Engines put the display's GPU into any number of containers."""
    for name in ("a", "b"):
        assert ask(name, "0", source=IN_THE_BUNDLE, policy="exclusive") == [0]
    assert [lease.exclusive for lease in ask.leases()] == [False, False]
    with pytest.raises(Busy):
        ask("c", "0", policy="exclusive")
    assert ask("c", "1", policy="exclusive") == [1]
    with pytest.raises(Busy):
        ask("d", "1", source=IN_THE_BUNDLE, policy="exclusive")


def test_a_count_stays_one_when_the_hook_names_what_the_runtime_chose(ask):
    assert ask("a", count=2) == [0, 1]
    assert ask("a", "GPU-0", "GPU-1") == [0, 1]
    assert [lease.counted for lease in ask.leases()] == [True]


@pytest.mark.parametrize("wrong", [1, None, "yes", {}])
@pytest.mark.parametrize("name", ["counted", "injected"])
def test_the_record_keeps_both_and_takes_no_other_kind(ask, tmp_path, name, wrong):
    ask("a", count=1)
    ask("a", "1", source=IN_THE_BUNDLE)
    record = json.loads((tmp_path / "state/leases.json").read_text())
    table, complaints = lease_table.from_json(record)
    assert complaints == []
    assert table.leases == ask.leases()
    record["leases"][0][name] = wrong
    table, (complaint,) = lease_table.from_json(record)
    assert complaint.startswith(f"{name}: expected true or false")
    assert len(table.leases) == 1

"""The specifications of further vendors, through oci-gpu-runtime and by the hook alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.runtime.bundle import Bundle
from tests.runtime.npu_files import FILES
from tests.runtime.test_cdi_by_hook import by_hook  # noqa: F401
from tests.runtime.vendors import leases, opens


@pytest.mark.parametrize("name", FILES)
def test_through_the_runtime(front, plain_bundle, vendors, simulated, name):
    file = FILES[name](vendors)
    bundle = plain_bundle(*file.seen, env=(f"OCI_GPU_DEVICES={file.device}",))
    seen = front.run(bundle).seen()
    assert {probe: seen[probe] for probe in file.seen} == file.seen
    assert leases(simulated) == []


@pytest.mark.parametrize("name", FILES)
def test_by_the_hook_alone(runtime, by_hook, simulated, name):  # noqa: F811
    file = FILES[name](by_hook.vendors)
    bundle = by_hook(*file.seen, annotations={"cdi.k8s.io/plugin_claim": file.device})
    result = runtime.run(bundle)
    if file.refused:
        assert result.complaint().startswith(file.refused)
    else:
        assert {probe: result.seen()[probe] for probe in file.seen} == file.seen
    assert leases(simulated) == []


def test_a_node_that_all_devices_share_tells_none_of_them(front, plain_bundle, vendors, simulated):
    """Two containers have a network function each, and /dev/vfio/vfio both."""
    FILES["sriov"](vendors)

    def asked(name: str, index: int) -> Bundle:
        device = f"example.com/net-pci=0000:3b:02.{index}"
        noted = {"io.oci-gpu-hook.devices": device, "io.oci-gpu-hook.exclusive": "true"}
        return plain_bundle(args=("/bin/sleep", "60"), name=name, annotations=noted)

    with front.created(asked("first", 0)), front.created(asked("second", 1)):
        held = [lease["gpus"] for lease in leases(simulated)]
        assert sorted(held) == [[f"example.com/net-pci=0000:3b:02.{index}"] for index in (0, 1)]
        refused = front.run(asked("third", 1)).stderr
        assert refused.startswith(
            "oci-gpu-runtime: error: example.com/net-pci=0000:3b:02.1 cannot be granted: container "
        )


def counted(kind: str, count: int) -> dict:
    return {"env": (f"OCI_GPU_COUNT={count}", f"OCI_GPU_KIND={kind}", "OCI_GPU_EXCLUSIVE=1")}


def test_npus_of_a_group_are_counted_apart(front, plain_bundle, vendors, simulated):
    """Two NPUs have their group's node both, and a group alone is no device to count."""
    FILES["rebellions"](vendors)
    probes = opens("rbln0", "rbln1", "rbln2", "rbln3", "rsd0", "rsd1")
    kind = "rebellions.ai/npu"
    with front.created(plain_bundle(args=("/bin/sleep", "60"), name="first", **counted(kind, 1))):
        assert [lease["gpus"] for lease in leases(simulated)] == [[f"{kind}=0"]]
        seen = front.run(plain_bundle(*probes, name="second", **counted(kind, 3))).seen()
        assert [seen[probe] for probe in probes] == ["ENOENT", *["ENXIO"] * 5]
        refused = front.run(plain_bundle(args=("/bin/true",), name="third", **counted(kind, 4))).stderr
        assert "3 of 4 available" in refused
        for name in ("all", "runtime"):
            bundle = plain_bundle(args=("/bin/true",), name=name, env=(f"OCI_GPU_DEVICES={kind}={name}",))
            assert f"{kind}=0 cannot be granted" in front.run(bundle).stderr
    assert leases(simulated) == []


@pytest.mark.parametrize("kind", ["tenstorrent.com/n150", "rebellions.ai/npu"])
def test_plan_verify_and_repair(front, plain_bundle, vendors, kind):
    def command(*arguments: object):
        return front.host.call(Path(sys.executable).with_name("oci-gpu"), *map(str, arguments), check=False)

    FILES[kind.partition(".")[0]](vendors)
    node = "/dev/tenstorrent/0" if "tenstorrent" in kind else "/dev/rbln0"
    bundle = plain_bundle(args=("/bin/sleep", "60"), **counted(kind, 1))
    planned = json.loads(command("plan", "--env", "OCI_GPU_COUNT=1", "--env", f"OCI_GPU_KIND={kind}", "--json").stdout)
    assert node in [each["path"] for each in planned["containerEdits"]["deviceNodes"]]
    with front.started(bundle) as container:
        assert "has what it was given" in command("verify", container.id).stdout
        container.path(node).unlink()
        assert f"device '{node}': is not there" in command("verify", container.id).stdout
        assert command("repair", container.id).returncode == 0
        assert container.path(node).is_char_device()
        assert "has what it was given" in command("verify", container.id).stdout

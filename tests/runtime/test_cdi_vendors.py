"""The specifications of further vendors, through oci-gpu-runtime and by the hook alone."""

from __future__ import annotations

import pytest

from tests.runtime.bundle import Bundle
from tests.runtime.test_cdi_by_hook import by_hook  # noqa: F401
from tests.runtime.vendor_files import FILES
from tests.runtime.vendors import leases


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

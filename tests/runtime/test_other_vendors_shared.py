"""Parts of AMD's and Intel's GPUs: refused, or reserved where the configuration says so, in each form of request."""

from __future__ import annotations

import json

import pytest

from tests.runtime.fixtures import oci_gpu
from tests.runtime.simulated import SimulatedHost

SLEEP = ("/bin/sleep", "60")
ASKED = [("OCI_GPU_COUNT=1",), ("OCI_GPU_KIND={kind}", "OCI_GPU_COUNT=1"), ("OCI_GPU_DEVICES={kind}=0",), ()]
MEMORY = {"amd": 192, "intel": 16}  # GiB


@pytest.fixture(params=MEMORY, scope="module")
def platform(request):
    return request.param


@pytest.fixture(scope="module")
def host(machine, platform):
    directory = machine.work / f"shared-{platform}"
    oci_gpu("simulate", directory, "--platform", platform)
    return SimulatedHost(directory)


@pytest.fixture
def reserving(host, tmp_path):
    """Return the configuration of the host, which reserves parts and enforces none."""
    path = tmp_path / "config.toml"
    path.write_text(host.config.read_text() + '\n[sharing]\nenforce = "none"\nreserve = "2GiB"\n')
    return path


def asked(platform, form, *more):
    return (*(text.format(kind=f"{platform}.com/gpu") for text in form), *more)


@pytest.mark.parametrize("form", ASKED, ids=lambda form: " ".join(form) or "alone")
@pytest.mark.parametrize("part", ["OCI_GPU_CORES=25%", "OCI_GPU_MEMORY_LIMIT=8GiB"])
def test_a_part_that_nothing_holds_a_container_to_is_refused(runc_v2, make_bundle, host, platform, form, part):
    done = runc_v2.run(make_bundle(args=("/bin/true",), env=asked(platform, form, part), config=host.config))
    assert done.status
    assert "this project can hold containers to parts of NVIDIA's GPUs only" in done.complaint()


@pytest.mark.parametrize("form", ASKED, ids=lambda form: " ".join(form) or "alone")
def test_a_part_is_reserved(runc_v2, make_bundle, host, reserving, platform, form):
    most = MEMORY[platform]
    half = asked(platform, form, f"OCI_GPU_MEMORY_LIMIT={most // 2 - 1}GiB")
    with runc_v2.started(make_bundle(name="one", args=SLEEP, env=half, config=reserving)):
        (lease,) = json.loads(oci_gpu("--config", reserving, "leases", "--json"))
        (share,) = lease["shares"].values()
        assert (share["memory"], share["memoryLeft"]) == (most // 2 - 1 << 30, most // 2 - 1 << 30)
        with runc_v2.started(make_bundle(name="two", args=SLEEP, env=half, config=reserving)):
            refused = runc_v2.run(make_bundle(name="three", args=("/bin/true",), env=half, config=reserving))
            assert refused.status
            assert f"has {most // 2 - 1}GiB" in refused.complaint()


@pytest.mark.parametrize("form", ASKED, ids=lambda form: " ".join(form) or "alone")
def test_a_part_larger_than_what_parts_may_have_is_refused(runc_v2, make_bundle, reserving, platform, form):
    large = asked(platform, form, f"OCI_GPU_MEMORY_LIMIT={MEMORY[platform] - 1}GiB")
    done = runc_v2.run(make_bundle(args=("/bin/true",), env=large, config=reserving))
    assert done.status
    assert f"{MEMORY[platform] - 2}GiB of its {MEMORY[platform]}GiB" in done.complaint()

"""`[allocation] exclude`: GPUs that `all` and counts pass over, and that are had by name."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.admin.doctor import gpus as examination
from oci_gpu_hook.admin.doctor.model import Host
from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.allocation import select
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.config.toml import parse as read_toml
from oci_gpu_hook.base.errors import AllocationError, ConfigError
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia import for_request, names, vendor
from oci_gpu_hook.devices.nvidia.image_facts import ImageFacts
from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory, MigDevice
from oci_gpu_hook.oci.image import Image
from oci_gpu_hook.plan import plan
from oci_gpu_hook.request.model import Request

SCHEMA = Path(__file__).parents[4] / "schemas" / "config.schema.json"
UUID = "GPU-11111111-aaaa-bbbb-cccc-0123456789ab"


def mig(index):
    return MigDevice(
        index=index, uuid=f"MIG-{index}", gpu_instance=index, compute_instance=0, profile="1g.10gb", memory=1,
        gpu_instance_minor=index, compute_instance_minor=index,
    )  # fmt: skip


GPUS = (
    Gpu(index=0, uuid="GPU-0", minor=0, bus_id="00000000:01:00.0", name="NVIDIA T400 4GB", memory=4),
    Gpu(index=1, uuid=UUID, minor=1, bus_id="00000000:02:00.0", name="NVIDIA A100-SXM4-80GB", memory=80),
    Gpu(index=2, uuid="GPU-2", minor=2, bus_id="00000000:03:00.0", name="NVIDIA A100-SXM4-80GB", memory=80),
    Gpu(
        index=3, uuid="GPU-3", minor=3, bus_id="00000000:04:00.0", name="NVIDIA H100 PCIe", memory=80,
        mig_enabled=True, mig_devices=(mig(0), mig(1)),
    ),
)  # fmt: skip


def request(*devices, **fields):
    return Request(devices=devices, driver_capabilities=(), source="environment", **fields)


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ((), ["GPU-0", UUID, "GPU-2", "MIG-0", "MIG-1"]),
        (("0",), [UUID, "GPU-2", "MIG-0", "MIG-1"]),
        (("nvidia  t400 4gb",), [UUID, "GPU-2", "MIG-0", "MIG-1"]),
        (("T400 4GB", UUID.upper()), ["GPU-2", "MIG-0", "MIG-1"]),
        (("A100-SXM4-80GB",), ["GPU-0", "MIG-0", "MIG-1"]),
        (("3",), ["GPU-0", UUID, "GPU-2"]),
        (("MIG-1",), ["GPU-0", UUID, "GPU-2", "MIG-0"]),
        (("A100", "4", "GPU-", ""), ["GPU-0", UUID, "GPU-2", "MIG-0", "MIG-1"]),
    ],
)
def test_all_and_counts_pass_over_it_and_names_do_not(exclude, left):
    devices = of_nvidia.of(GPUS, exclude)
    assert [device.uuid for device in names.resolve(("all",), devices)] == left
    whole = [uuid for uuid in left if uuid.startswith("GPU")]
    assert [device.uuid for device in select.choose(request(count=len(whole)), devices, [])] == whole
    with pytest.raises(AllocationError):
        select.choose(request(count=len(whole) + 1), devices, [])
    for device in devices:
        assert names.resolve((device.uuid,), devices) == (device,)


def test_mig_devices_are_kept_out_of_counts_of_their_profile():
    assert len(select.choose(request("1g.10gb", count=1), of_nvidia.of(GPUS, ("MIG-1",)), [])) == 1
    with pytest.raises(AllocationError, match=r"and 1 that \[allocation\] exclude keeps out of counts"):
        select.choose(request("1g.10gb", count=2), of_nvidia.of(GPUS, ("MIG-1",)), [])


def test_a_refusal_says_what_is_kept_out():
    with pytest.raises(AllocationError) as caught:
        select.choose(request(count=3), of_nvidia.of(GPUS, ("0", "T400 4GB")), [])
    assert "this host has 2, and 1 in MIG mode" in caught.value.why
    assert "and 1 that [allocation] exclude keeps out of counts" in caught.value.why
    with pytest.raises(AllocationError, match="the largest is GPU 0 with"):
        select.choose(request(count=1, memory=1 << 40), of_nvidia.of(GPUS, ("A100-SXM4-80GB",)), [])


def test_all_of_which_nothing_is_left_is_told_so(tmp_path):
    host = make(str(tmp_path / "host"), gpus=2)
    config = configs.load(host.config)
    inventory = for_request.get(request("all"), config).inventory
    image = Image(libc="glibc", library_directory="/usr/lib64", of_vendor=ImageFacts())
    kept_out = config.replace(allocation_exclude=("0", "1"))
    for asked, excluding, expected in ((("all",), kept_out, True), ((), kept_out, False), (("all",), config, False)):
        devices = select.choose(request(*asked), vendor.devices(inventory, excluding), [])
        made = plan.make(request(*asked), inventory, devices, image, excluding)
        assert bool(made.unmet) == expected, made.warnings
        assert not expected or "[allocation] exclude keeps each one of this host out of it" in made.unmet[0]


def test_the_key_takes_indices_uuids_and_products():
    text = f'[allocation]\nexclude = [0, "1", "{UUID}", " NVIDIA T400 4GB "]\n'
    assert read_toml(text).allocation_exclude == ("0", "1", UUID, "NVIDIA T400 4GB")
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    assert schema.is_valid({"allocation": {"exclude": [0, "1", UUID, " NVIDIA T400 4GB "]}})


@pytest.mark.parametrize(
    ("text", "value"),
    [('"0"', "0"), ("[-1]", [-1]), ("[true]", [True]), ('[""]', [""]), ("[1.5]", [1.5]), ("[[]]", [[]])],
)
def test_anything_else_is_an_error(text, value):
    with pytest.raises(ConfigError, match=r"\[allocation\] exclude"):
        read_toml(f"[allocation]\nexclude = {text}\n")
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    assert not schema.is_valid({"allocation": {"exclude": value}})


def test_doctor_says_what_is_kept_out_and_what_is_no_gpu():
    inventory = Inventory(driver_version="580.1", gpus=GPUS, libraries=(), files=(), nodes=())
    config = Config(allocation_exclude=("T400 4GB", "RTX 6000", "MIG-1"), sys_root="/nowhere")
    found = [*examination.check(Host(config=config, config_path="", inventory=inventory))]
    said = {finding.what: finding.severity for finding in found if "exclude" in finding.what}
    assert said == {
        "[allocation] exclude keeps GPU 0 out of `all` and of counts": "ok",
        "[allocation] exclude: 'RTX 6000' is not one of this host's GPUs": "warning",
        "[allocation] exclude keeps GPU 3 out of `all` and of counts": "ok",
    }

"""The inventory of simulated hosts: all of it against what the host was made to be, NVML asked for real."""

from __future__ import annotations

import json
import os

import jsonschema
import pytest

from oci_gpu_hook.admin.cli import main as cli
from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.admin.simulate.layouts import LAYOUTS
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.config.model import DRIVER_CAPABILITIES
from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.devices.nvidia import devices, for_request, snapshot
from oci_gpu_hook.devices.nvidia.image_facts import ImageFacts
from oci_gpu_hook.oci.image import Image
from oci_gpu_hook.plan import plan
from oci_gpu_hook.request.model import Request
from oci_gpu_hook.request.nvidia.cdi_names import FEATURE_CLASSES
from tests.paths import DATA, ROOT


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    return make(str(tmp_path_factory.mktemp("host") / "sim"), gpus=4, minors=(3, 2, 1, 0), device_nodes=False)


@pytest.fixture(scope="module")
def mig_host(tmp_path_factory):
    return make(str(tmp_path_factory.mktemp("mig") / "sim"), gpus=2, minors=(1, 0), mig=True, device_nodes=False)


def load(simulated, **options):
    return snapshot.load(configs.load(simulated.config), **options)


def test_gpus(host):
    found = load(host)
    assert [gpu.index for gpu in found.gpus] == [0, 1, 2, 3]
    assert [(gpu.uuid, gpu.minor) for gpu in found.gpus] == [(gpu.uuid, gpu.minor) for gpu in host.gpus]
    for gpu in found.gpus:
        assert os.path.isdir(f"{host.proc_root}/driver/nvidia/gpus/{gpu.proc_name}")
        assert gpu.numa_node is not None
        assert gpu.drm
    assert found.driver_version == host.settings.driver_version
    assert found.warnings == found.unclaimed == ()


def test_details(host):
    found = load(host, detailed=True)
    assert found.detailed
    assert found.cuda_version == host.settings.cuda
    assert found.warnings == ()
    for gpu in found.gpus:
        assert gpu.architecture == "9.0"
        assert gpu.memory > 1 << 36
        assert sum(links for _, links in gpu.links) > 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("version", ["580.159.04", "595.71.05"])
def test_every_file_of_a_layout_is_found_or_left_on_purpose(tmp_path, layout, version):
    simulated = make(str(tmp_path / "sim"), layout=layout, driver_version=version, device_nodes=False)
    found = load(simulated)
    assert found.unclaimed == ()
    given = {library.host_path for library in found.libraries} | {file.host_path for file in found.files}
    for directory, _, names in os.walk(simulated.driver_root):
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith(version) and ".so." in name and not os.path.islink(path):
                assert path in given, path
    assert {library.bits for library in found.libraries} >= {64}
    paths = [file.container_path for file in found.files]
    assert len(paths) == len(set(paths))
    places = {
        "nvidia-smi": "/usr/bin/nvidia-smi",
        "firmware": f"/lib/firmware/nvidia/{version}/gsp_ga10x.bin",
        "vulkan": "/etc/vulkan/icd.d/nvidia_icd.json",
        "opencl": "/etc/OpenCL/vendors/nvidia.icd",
        "egl": "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
    }
    row = json.loads((DATA / "nvidia/layouts.json").read_text())[layout]
    assert {what: place in paths for what, place in places.items()} == {what: bool(row[what]) for what in places}
    assert "/var/run/nvidia-persistenced" in paths


def test_mig_devices(mig_host):
    found = load(mig_host)
    for gpu, made in zip(found.gpus, mig_host.gpus, strict=True):
        assert gpu.mig_enabled
        assert [mig.uuid for mig in gpu.mig_devices] == [mig.uuid for mig in made.mig_devices]
        for mig in gpu.mig_devices:
            base = f"{mig_host.proc_root}/driver/nvidia/capabilities/gpu{gpu.minor}/mig/gi{mig.gpu_instance}"
            assert _minor(f"{base}/access") == mig.gpu_instance_minor
            assert _minor(f"{base}/ci{mig.compute_instance}/access") == mig.compute_instance_minor
            assert mig.profile.endswith("gb")
            assert mig.memory > 1 << 32


def _minor(path):
    """Return the minor that a MIG capability's file names, as nvidia-modprobe reads it."""
    with open(path) as file:
        (line,) = [line for line in file if line.startswith("DeviceFileMinor:")]
    return int(line.split(":")[1])


@pytest.mark.parametrize("capability", DRIVER_CAPABILITIES)
def test_a_request_is_served_the_files_of_its_capabilities(host, capability):
    whole = load(host)
    request = Request(driver_capabilities=(capability,), source="environment")
    found = for_request.get(request, configs.load(host.config)).inventory
    for name in ("libraries", "files", "links"):
        brought = [each for each in getattr(whole, name) if not each.capabilities or capability in each.capabilities]
        assert list(getattr(found, name)) == brought
    assert found.gpus == whole.gpus


@pytest.mark.skipif(os.geteuid() != 0, reason="device nodes need root")
@pytest.mark.parametrize("mig", [{}, {"NVIDIA_MIG_CONFIG_DEVICES": "all"}])
def test_a_plan_knows_its_directories(tmp_path, mig):
    simulated = make(str(tmp_path / "sim"), gpus=2, mig=True)
    config = configs.load(simulated.config)
    whole = snapshot.load(config, detailed=True)
    request = Request(
        devices=("all",),
        driver_capabilities=config.supported_driver_capabilities,
        features=FEATURE_CLASSES,
        mig_config_devices=mig.get("NVIDIA_MIG_CONFIG_DEVICES"),
        source="environment",
    )
    found = for_request.selected(whole, request)
    firsts = [device for device in devices.of(found.gpus) if device.part == (-1 if mig else 0)]
    granted = [device for device in firsts if devices.gpu_of(device).mig_devices]
    image = Image(libc="glibc", library_directory="/usr/lib64", of_vendor=ImageFacts(procfs="/proc/driver"))
    mounts = plan.make(request, found, granted, image, config).edits.mounts
    wrong = [mount for mount in mounts if mount.directory != (mount.type == "tmpfs" or os.path.isdir(mount.host_path))]
    assert wrong == []
    kinds = {mount.directory for mount in mounts if "/run/" in mount.host_path or "/capabilities" in mount.host_path}
    assert True in kinds


def test_kernel_and_libraries_of_two_versions(tmp_path):
    simulated = make(
        str(tmp_path / "sim"), driver_version="550.54.15", kernel_driver_version="580.159.04", device_nodes=False
    )
    with pytest.raises(DriverError, match=r"runs version 580\.159\.04, the libraries are of version 550\.54\.15"):
        load(simulated)


def run(capsys, *arguments):
    status = cli.main(arguments)
    return status, capsys.readouterr()


@pytest.mark.parametrize("which", ["host", "mig_host"])
def test_info_as_json_matches_its_schema(request, capsys, which):
    simulated = request.getfixturevalue(which)
    status, output = run(capsys, "--config", simulated.config, "info", "--json", "--unclaimed")
    with open(os.path.join(ROOT, "schemas", "info.schema.json")) as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(output.out)
    jsonschema.Draft202012Validator(schema).validate(document)
    assert status == 0
    assert document["driver"]["version"] == "580.159.04"
    assert len(document["gpus"]) == len(simulated.gpus)
    assert document["unclaimed"] == []


def test_info_for_people(mig_host, capsys):
    status, output = run(capsys, "--config", mig_host.config, "info", "--refresh")
    assert status == 0
    assert output.out.startswith("NVIDIA driver 580.159.04, CUDA 13.0, 2 GPUs\n")
    for gpu in mig_host.gpus:
        assert gpu.uuid in output.out
        assert all(mig.uuid in output.out for mig in gpu.mig_devices)
    assert "note: the host has no /dev/nvidia-uvm, which compute/video would use\n" in output.out


def test_info_without_a_driver(tmp_path, capsys):
    trouble = tmp_path / "config.toml"
    trouble.write_text(f'[driver]\nproc-root = "{tmp_path}"\n[state]\ndir = "{tmp_path}/state"\n')
    status, output = run(capsys, "--config", str(trouble), "info", "--json")
    assert status == 1
    assert json.loads(output.out)["error"]["code"] == "OGH1401"
    assert output.err.startswith("oci-gpu: error: no NVIDIA driver is loaded: ")
    assert output.err.count("\n") == 1

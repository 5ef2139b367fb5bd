"""WSL 2: which driver store is taken, which of its files, and what is said where there is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.devices import presence
from oci_gpu_hook.devices.nvidia import discovery, for_request, nvml, snapshot, specification, wsl
from oci_gpu_hook.devices.nvidia.model import DeviceNode
from oci_gpu_hook.request.model import Request
from tests.unit.devices.nvidia import driver_trees as trees

STORE = "usr/lib/wsl/drivers/nv_dispi.inf_amd64_1b6ce3f2a0c5d947"
OLD_STORE = "usr/lib/wsl/drivers/nv_dispi.inf_amd64_0a4f7c11b3e9d826"


@pytest.fixture
def host(tmp_path):
    """A simulated host without nodes, which only root can make; /dev/dxg is a file."""
    made = make(str(tmp_path / "host"), platforms=("wsl2",), device_nodes=False)
    Path(made.dev_root, "dev/dxg").write_text("")
    return configs.load(made.config), Path(made.driver_root)


def test_the_store_in_use_is_the_one_that_dxcore_tells(host):
    config, root = host
    assert (root / OLD_STORE / "libcuda.so.1.1").exists()
    assert {library.directory for library in snapshot.load(config).libraries} == {f"/{STORE}", "/usr/lib/wsl/lib"}


def test_one_store_alone_needs_no_dxcore(host):
    config, root = host
    shutil.rmtree(root / OLD_STORE)
    (root / "usr/lib/wsl/lib/libdxcore.so").unlink()
    assert {library.directory for library in snapshot.load(config).libraries} == {f"/{STORE}"}


@pytest.mark.parametrize("broken", ["missing", "no library", "hangs up"])
def test_of_several_stores_none_is_guessed(host, broken):
    config, root = host
    library = root / "usr/lib/wsl/lib/libdxcore.so"
    library.unlink()
    if broken == "no library":
        library.write_text("hello")
    elif broken == "hangs up":
        trees.library(library, "libdxcore.so")
    with pytest.raises(DriverError, match=r"2 driver stores have libcuda.so.1.1 .* libdxcore does not tell"):
        snapshot.load(config)


@pytest.mark.parametrize(
    "answer", [{"stores": ["/usr/lib/wsl/drivers/other"]}, {"stores": [7, None]}, {"stores": {}}, {}]
)
def test_where_libdxcore_names_none_of_the_stores_none_is_guessed(host, monkeypatch, answer):
    config, _ = host
    monkeypatch.setattr(nvml, "ask_program", lambda *_: answer)
    with pytest.raises(DriverError, match=r"libdxcore does not tell which is in use") as caught:
        snapshot.load(config)
    assert caught.value.code == "OGH1410"


def test_without_a_driver_of_nvidias_the_remedy_is_in_windows(host):
    config, root = host
    for store in (STORE, OLD_STORE):
        shutil.rmtree(root / store)
    with pytest.raises(DriverError, match=r"no driver store below .*; install NVIDIA's driver for WSL"):
        snapshot.load(config)


def test_links_are_those_that_ldconfig_would_make(host):
    """Of two libraries with one SONAME the loader wins, and no link hides a file."""
    config, _ = host
    links = {library.name: library.links for library in snapshot.load(config).libraries}
    assert links["libcuda_loader.so"] == (("libcuda.so.1", "libcuda_loader.so"), ("libcuda.so", "libcuda.so.1"))
    assert links["libcuda.so.1.1"] == links["libnvidia-ml.so.1"] == links["libnvidia-ml_loader.so"] == ()


def test_nvml_tells_the_gpu_its_driver_and_cuda(host):
    config, _ = host
    found = snapshot.load(config)
    (gpu,) = found.gpus
    assert (gpu.index, gpu.nodes, gpu.uuid[:4]) == (0, ("/dev/dxg",), "GPU-")
    assert (found.driver_version, found.cuda_version, found.platform) == ("580.159.04", "13.0", "wsl2")


def test_where_nvml_does_not_answer_the_gpus_have_no_name(host):
    config, root = host
    shutil.copy(root / STORE / "libnvidia-ptxjitcompiler.so.1", root / STORE / "libnvidia-ml.so.1")
    os.utime(root / STORE)
    found = snapshot.load(config, refresh=True)
    assert [gpu.uuid for gpu in found.gpus] == ["wsl2"]
    assert any("cannot ask NVML" in text for text in found.warnings)


def test_another_driver_store_makes_the_inventory_again(host):
    config, root = host
    first = snapshot.get(config)
    trees.settle(root.parent)
    trees.library(root / STORE / "libnvidia-new.so.1", "libnvidia-new.so.1")
    again = snapshot.load(config)
    assert {library.name for library in again.libraries} - {x.name for x in first.inventory.libraries} == {
        "libnvidia-new.so.1"
    }


def test_the_linux_driver_goes_first(tmp_path, monkeypatch):
    """A virtual machine may have both: a GPU that is passed through, and Windows' paravirtual one."""
    monkeypatch.setattr(wsl, "discover", lambda _config: pytest.fail("taken for WSL"))
    trees.machine(monkeypatch)
    config = trees.config(tmp_path)
    trees.driver(tmp_path / "driver")
    trees.proc(config.proc_root)
    trees.write(f"{config.dev_root}/dev/dxg")
    assert discovery.discover(config).inventory.platform == ""


def test_counts_know_that_there_is_a_gpu(tmp_path):
    root = str(tmp_path)
    config = Config(driver_root=root, dev_root=root, proc_root=f"{root}/proc", sys_root=f"{root}/sys")
    assert presence.meant_by_count(config) == ()
    trees.write(f"{root}/dev/dxg")
    assert presence.meant_by_count(config) == ("nvidia.com/gpu",)


def names_of_specification(config):
    request = Request(devices=("all",), driver_capabilities=("compute", "utility"), source="environment")
    inventory = for_request.selected(snapshot.load(config), request)
    node = DeviceNode(path="/dev/dxg", host_path="/dev/dxg", major=10, minor=1, mode=0o666, uid=0, gid=0)
    form = specification.Form(hook_path="/hook")
    made = specification.of(request, inventory.replace(nodes=(node,)), config, "gpu", form)
    hooks = [argument for hook in made.edits.hooks for argument in hook.args]
    assert "--platform=wsl2" in hooks
    return [device.name for device in made.devices]


def test_a_cdi_specification_names_what_can_be_chosen(host, tmp_path):
    config, _ = host
    assert names_of_specification(config) == ["0", snapshot.load(config).gpus[0].uuid, "all"]
    two = make(str(tmp_path / "two"), platforms=("wsl2",), gpus=2, device_nodes=False)
    Path(two.dev_root, "dev/dxg").write_text("")
    assert names_of_specification(configs.load(two.config)) == ["all"]

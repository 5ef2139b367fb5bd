"""Nodes, links, groups and the application profile of a plan, and NVIDIA's cases for them and for libraries."""

from __future__ import annotations

import json
import os

import pytest

from oci_gpu_hook.base.errors import DriverError, InvalidInput
from oci_gpu_hook.devices.edits import DeviceNode, groups
from oci_gpu_hook.devices.nvidia import contribution, device_nodes, devices, for_request, libraries
from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot
from oci_gpu_hook.devices.nvidia.model import DeviceNode as HostNode
from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory, MigDevice
from oci_gpu_hook.request.model import Request
from tests.paths import DATA
from tests.unit.devices.nvidia import driver_trees as trees

with open(DATA / "driver_file_cases.json") as file:
    CASES = json.load(file)
VERSION = "999.88.77"


def cases(kind):
    return [pytest.param(case["input"], case["expected"], id=case["id"]) for case in CASES if case["kind"] == kind]


def node(path, minor=0, mode=0o666, gid=0, capabilities=()):
    return HostNode(path=path, host_path=path, major=195, minor=minor, mode=mode, uid=0, gid=gid,
                    capabilities=capabilities)  # fmt: skip


def gpu(minor=0, **fields):
    return Gpu(index=minor, uuid=f"GPU-{minor}", minor=minor, bus_id=f"00000000:0{minor + 1}:00.0", **fields)


def mig(profile):
    return MigDevice(index=0, uuid="MIG-0", gpu_instance=1, compute_instance=0, profile=profile, memory=0,
                     gpu_instance_minor=12, compute_instance_minor=13)  # fmt: skip


def host(*nodes, **fields):
    control = (node("/dev/nvidiactl", 255),)
    return Inventory(driver_version=VERSION, gpus=(), libraries=(), files=(), nodes=(*control, *nodes), **fields)


def asked(*capabilities, devices=("all",), **fields):
    return Request(devices=devices, driver_capabilities=capabilities, source="environment", **fields)


def paths(request, inventory, *granted, warnings=None):
    selected = for_request.selected(inventory, request)
    found = device_nodes.of(request, selected, granted)
    if warnings is not None:
        warnings += [text for text, _needed in device_nodes.lacking(request, selected, granted)]
    return [node.path for node in found]


# NVIDIA's cases


@pytest.mark.parametrize(("given", "expected"), cases("additional_gids"))
def test_groups_that_a_node_needs(given, expected):
    found = given["node"]
    if "mode" not in found or found.get("type") == "symlink":
        return  # what is stat'ed on the host has a mode, and is not a link
    one = DeviceNode(path="/dev/x", host_path="/dev/x", major=1, minor=1, file_mode=int(found["mode"], 8), uid=0,
                     gid=found["gid"])  # fmt: skip
    assert list(groups([one])) == expected["gids"]


@pytest.mark.parametrize(("given", "expected"), cases("app_profile"))
def test_application_profile(given, expected):
    minors = [minor for minor in range(32) if given["mask"] >> minor & 1]
    assert contribution._profile(devices.of(gpu(minor) for minor in minors)).decode() == expected["contents"]


@pytest.mark.parametrize(("given", "expected"), cases("gpu_minors"))
def test_the_profile_names_the_gpus_whose_nodes_are_given(given, expected):
    """NVIDIA counts the nodes in the container; here the granted GPUs are counted, and each must have its node."""
    nodes = [node(f"/dev/{n['name']}", n["minor"]) for n in given["nodes"] if n["isCharDevice"]]
    granted = devices.of(gpu(minor) for minor in expected["minors"])
    given_gpus = [path for path in paths(asked("graphics"), host(*nodes), *granted) if path[11:].isdigit()]
    assert given_gpus == [f"/dev/nvidia{minor}" for minor in expected["minors"]]


def found_libraries(tmp_path, *names, soname=""):
    where = trees.driver(tmp_path, VERSION)
    for name in names:
        trees.library(f"{where}/{name}", soname)
    return libraries.find(DriverRoot(str(tmp_path)), VERSION, ()).libraries


@pytest.mark.parametrize(("given", "expected"), cases("is_library_name"))
def test_what_the_name_of_a_library_is(tmp_path, monkeypatch, given, expected):
    """A row's stem, `.so`, and a version or nothing: no other file is looked into, whatever it holds."""
    trees.machine(monkeypatch)
    name = os.path.basename(given["name"]).replace("libcuda", "libnvidia-nvvm70")  # of a version of its own
    suffix = f"{name}.4" if expected["is_lib"] and name.endswith(".so") else name
    found = [library.name for library in found_libraries(tmp_path, suffix, soname="libnvidia-nvvm70.so.4")]
    assert (suffix in found) == expected["is_lib"]


@pytest.mark.parametrize(("given", "expected"), cases("so_link"))
def test_development_link(tmp_path, monkeypatch, given, expected):
    trees.machine(monkeypatch)
    if not expected["so_link"].startswith("lib"):
        return  # no name that a row of the table has
    (cuda,) = [library for library in found_libraries(tmp_path) if library.name == f"libcuda.so.{VERSION}"]
    assert cuda.name == given["soname"]
    assert expected["so_link"] in dict(cuda.links)


@pytest.mark.parametrize(("given", "expected"), cases("dot_so_symlinks"))
def test_links_beside_a_library(tmp_path, monkeypatch, given, expected):
    """On libnvidia-ngx, as libcuda has its development link in any case, which libnvidia-container makes."""
    trees.machine(monkeypatch)

    def renamed(text):
        return text.replace("libcuda", "libnvidia-ngx")

    name, soname = renamed(os.path.basename(given["host_path"])), renamed(given["soname"])
    where = f"{tmp_path}/usr/lib/x86_64-linux-gnu"
    on_host = given["links_on_host"]
    for link in (soname, "libnvidia-ngx.so") if on_host is None else map(renamed, on_host):
        trees.link(f"{where}/{link}", name)
    found = found_libraries(tmp_path, name, soname=soname)
    (library,) = [library for library in found if library.name == name]
    links = [{"target": target, "path": f"/usr/lib/{link}"} for link, target in library.links]
    assert links == json.loads(renamed(json.dumps(expected["links"])))


# MIG


@pytest.mark.parametrize(
    ("profile", "draws"),
    [("1g.24gb+gfx", True), ("2g.48gb+me,gfx", True), ("1g.10gb", False), ("1g.10gb+me", False), ("", False)],
)
def test_a_mig_device_draws_only_where_its_profile_says_so(profile, draws):
    nodes = [node(path) for path in ("/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap12", "/dev/nvidia-caps/nvidia-cap13",
                                     "/dev/dri/card1", "/dev/dri/renderD128")]  # fmt: skip
    _, granted = devices.of([gpu(drm=("card1", "renderD128"), mig_enabled=True, mig_devices=(mig(profile),))])
    found = paths(asked("graphics"), host(*nodes), granted)
    assert [path for path in found if "/dri/" in path] == (["/dev/dri/card1", "/dev/dri/renderD128"] if draws else [])


def test_a_mig_device_without_its_node_is_an_error():
    _, granted = devices.of([gpu(mig_enabled=True, mig_devices=(mig("1g.10gb"),))])
    with pytest.raises(DriverError, match="nvidia-cap12"):
        paths(asked("compute"), host(node("/dev/nvidia0")), granted)


@pytest.mark.parametrize("value", ["all", "ALL", ",all", "all,0"])
def test_who_manages_mig_gets_all_of_its_nodes(value):
    """Which value means all is libnvidia-container's (src/cli/common.c)."""
    caps = [f"/dev/nvidia-caps/nvidia-cap{number}" for number in (1, 2, 12, 13)]
    inventory = host(node("/dev/nvidia0"), *map(node, caps))
    _, granted = devices.of([gpu(mig_enabled=True, mig_devices=(mig("1g.10gb"),))])
    request = asked("compute", mig_config_devices=value)
    assert {*caps} <= {*paths(request, inventory, granted)}
    with pytest.raises(InvalidInput, match="single MIG devices"):
        paths(asked("compute", devices=("0:0",), mig_config_devices=value), inventory, granted)


@pytest.mark.parametrize("value", ["0", "0,all", "none", "void", "1:0"])
def test_which_values_mean_nothing(value):
    with pytest.raises(InvalidInput, match="only `all` is valid"):
        paths(asked("compute", mig_monitor_devices=value), host(node("/dev/nvidia0")), *devices.of([gpu()]))


def test_managing_mig_where_there_is_none_is_a_warning():
    warnings: list[str] = []
    found = paths(asked("compute", mig_config_devices="all"), host(node("/dev/nvidia0")), *devices.of([gpu()]),
                  warnings=warnings)  # fmt: skip
    assert found == ["/dev/nvidia0", "/dev/nvidiactl"]
    assert warnings == ["the host has no /dev/nvidia-caps/, which managing MIG devices would use"]


# DRM


def test_names_of_drm_nodes_by_place():
    """A GPU in a second PCI domain keeps its number; only given nodes are named, each once."""
    first = Gpu(index=0, uuid="GPU-0", minor=0, bus_id="00000000:1b:00.0", drm=("card1", "renderD128"))
    second = Gpu(index=1, uuid="GPU-1", minor=1, bus_id="00010001:02:00.0", drm=("card2", "renderD129"))
    given = [
        DeviceNode(path=f"/dev/dri/{name}", host_path="", major=226, minor=0, file_mode=0o660, uid=0, gid=44)
        for name in ("card1", "renderD128", "renderD129")
    ]
    made = device_nodes.links(devices.of([first, second, first]), given)
    assert [(link.path.removeprefix("/dev/dri/by-path/"), link.target) for link in made] == [
        ("pci-0000:1b:00.0-card", "../card1"),
        ("pci-0000:1b:00.0-render", "../renderD128"),
        ("pci-10001:02:00.0-render", "../renderD129"),
    ]

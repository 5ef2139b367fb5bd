"""What of a CDI specification's edits the hook does alone, what it refuses, and what it leaves to the runtime."""

from __future__ import annotations

from typing import Any

import pytest

from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, Hook, Mount
from oci_gpu_hook.lifecycle import described
from oci_gpu_hook.oci.container import State, of_document
from oci_gpu_hook.oci.image import Image
from oci_gpu_hook.plan.plan import Plan
from oci_gpu_hook.request.model import Request

NODE = DeviceNode(path="/dev/x", host_path="/dev/x", type="c", major=1, minor=2, file_mode=0o660, permissions="rwm")


def container(*, capabilities=("CAP_DAC_OVERRIDE",), **config):
    process = {"env": [], "user": {"uid": 0, "gid": 0}, "capabilities": {"bounding": list(capabilities)}}
    document: dict[str, Any] = {"ociVersion": "1.1.0", "process": process, "root": {"path": "rootfs"}, **config}
    return of_document(document, State(id="a", pid=1, bundle="/b", root="", annotations={}))


def plan(**edits):
    request = Request(kind="v.com/d", devices=("a",), driver_capabilities=(), source="annotations")
    return Plan(
        request=request, image=Image(libc="", library_directory=""), devices=(), edits=ContainerEdits(**edits),
        links=(), files=(), ld_cache=(), driver_version="",
    )  # fmt: skip


def test_nodes_and_mounts_are_the_hooks():
    mount = Mount(host_path="/a", container_path="/b", options=("rbind", "rw", "rslave", "nosuid"))
    made = plan(device_nodes=(NODE,), mounts=(mount,))
    assert described.left(made, container()) == made


def test_what_the_runtime_has_made_is_left_to_it():
    mount = Mount(host_path="/a", container_path="/b", options=("x-odd",))
    block = NODE.replace(path="/dev/b", type="b", minor=3, permissions="r")
    made = plan(
        device_nodes=(NODE, block), mounts=(mount,), env=("A=1",), hooks=(Hook(hook_name="poststop", path="/h"),)
    )
    there = container(
        mounts=[{"destination": "/b", "source": "/a"}],
        hooks={"poststop": [{"path": "/h"}]},
        linux={"devices": [{"path": "/dev/b", "type": "b", "major": 1, "minor": 3}]},
    )
    assert there.config is not None
    there.config["process"]["env"].append("A=1")
    left = described.left(made, there).edits
    assert left == ContainerEdits(device_nodes=(NODE,)), "the hook sees to the node, which it may find there"
    assert described.needs_runtime(made.edits, there) == ()


def test_all_that_needs_a_runtime_is_said():
    edits = ContainerEdits(env=("A=1", "NVIDIA_VISIBLE_DEVICES=void"), device_nodes=(NODE.replace(permissions="r"),))
    said = described.needs_runtime(edits, container())
    assert [text.partition(":")[0] for text in said] == ["CDI variable 'A=1'", "CDI device node '/dev/x'"]
    with pytest.raises(InvalidInput, match=r"CDI variable 'A=1'.*start the container through oci-gpu-runtime"):
        described.left(plan(env=edits.env), container())


def test_nodes_of_all_types_are_the_hooks():
    nodes = (NODE, NODE.replace(type="b"), NODE.replace(type="u"), DeviceNode(path="/dev/p", type="p", file_mode=0o600))
    assert described.left(plan(device_nodes=nodes), container()).edits.device_nodes == nodes


def test_groups_are_a_warning_where_they_make_a_difference():
    made = plan(device_nodes=(NODE,), additional_gids=(44,))
    assert described.left(made, container()).warnings == ()
    (warning,) = described.left(made, container(capabilities=())).warnings
    assert "is not in the groups 44" in warning
    assert "/dev/x" in warning


@pytest.mark.parametrize(
    ("options", "kind", "works"),
    [
        (("size=1k", "mode=755"), "tmpfs", True),
        (("size=1k",), "bind", False),
        (("shared",), "", False),
        (("noatime",), "", False),
        (("ro",), "proc", False),
        ((), "none", True),
    ],
)
def test_mounts_that_the_hook_knows(options, kind, works):
    mount = Mount(host_path="/a", container_path="/b", options=options, type=kind)
    assert (described.needs_runtime(ContainerEdits(mounts=(mount,)), container()) == ()) is works

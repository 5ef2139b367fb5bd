"""Who may open which node: compared with what the kernel answers, and what is said of it."""

from __future__ import annotations

import os
import tempfile

import pytest

from oci_gpu_hook.base.rootless import OVERFLOW
from oci_gpu_hook.devices.edits import DeviceNode, restricted
from oci_gpu_hook.plan import node_access
from oci_gpu_hook.plan.node_access import User

OWNER, GROUP, OTHER = 4001, 4002, 4003


def node(mode: int, uid: int = 0, gid: int = GROUP, path: str = "/dev/nvidia0") -> DeviceNode:
    return DeviceNode(path=path, file_mode=mode, uid=uid, gid=gid)


def user(uid: int, *groups: int, **fields) -> User:
    return User(name=f"user {uid}", uid=uid, groups=frozenset(groups), **fields)


def opens(path, uid: int, groups: tuple[int, ...], flags: int) -> bool:
    """Tell whether the kernel lets a process of that user open a file."""
    child = os.fork()
    if not child:
        try:
            os.setgroups(list(groups))
            os.setgid(OTHER)
            os.setuid(uid)
            os.close(os.open(path, flags))
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="changing users needs root")
@pytest.mark.parametrize("mode", [0o666, 0o660, 0o600, 0o664, 0o444, 0o440, 0o400, 0o606, 0o066, 0o006, 0o060, 0o640])
def test_it_is_what_the_kernel_says(tmp_path, mode):
    os.chmod(tmp_path, 0o755)
    for above in tmp_path.parents:
        if str(above).startswith(f"{tempfile.gettempdir()}/"):
            os.chmod(above, 0o755)
    path = tmp_path / "node"
    path.touch()
    os.chown(path, OWNER, GROUP)
    path.chmod(mode)
    reads = not any(digit & 2 for digit in (mode >> 6, mode >> 3, mode))
    expected, found = {}, {}
    for uid in (OWNER, OTHER):
        for groups in ((), (GROUP,)):
            expected[uid, groups] = opens(path, uid, groups, os.O_RDONLY if reads else os.O_RDWR)
            found[uid, groups] = not node_access.refused(user(uid, OTHER, *groups), [node(mode, OWNER)])
    assert found == expected


@pytest.mark.parametrize(
    ("mode", "guarded"), [(0o666, False), (0o444, False), (0o660, True), (0o600, True), (0o400, True)]
)
def test_what_everybody_may_open_is_not_looked_at(mode, guarded):
    assert bool(restricted([node(mode)])) == guarded


def test_the_nodes_of_one_owner_have_one_sentence():
    nodes = [node(0o660), node(0o660, path="/dev/nvidiactl"), node(0o660, gid=109, path="/dev/dri/renderD128")]
    first, second = node_access.warnings(user(1000), nodes)
    assert first.startswith(
        "user 1000 may not open /dev/nvidia0, /dev/nvidiactl (each of mode 0660, owner 0, group 4002): add the group "
        "4002 to the container's process (--group-add 4002, supplementalGroups of a pod, "
        "process.user.additionalGids of config.json, the account of a Mesos task on its host); oci-gpu-runtime "
        "adds it by itself; "
    )
    assert "may not open /dev/dri/renderD128 (mode 0660, owner 0, group 109): " in second


def test_without_a_group_s_right_no_group_is_advised():
    (warning,) = node_access.warnings(user(1000), [node(0o600, gid=0)])
    assert "NVreg_DeviceFileMode=0666" in warning
    assert "--group-add" not in warning


@pytest.mark.parametrize("path", ["/dev/kfd", "/dev/nvmap", "/dev/nvhost-gpu", "/dev/dxg", "/dev/dri/renderD128"])
@pytest.mark.parametrize("mode", [0o660, 0o600])
def test_what_is_no_node_of_nvidias_module_is_opened_by_udev(path, mode):
    nodes = [node(mode, path=path), node(mode, path="/dev/dri/card1")]
    (warning,) = node_access.warnings(user(1000), nodes)
    assert 'a udev rule with MODE="0666" opens them to all on the host' in warning
    assert "NVreg" not in warning


RANGES = ((200000, 65536, 0),)


@pytest.mark.parametrize(
    ("fields", "uid", "gid", "allowed"),
    [
        ({}, 0, 44, False),
        ({"overrides": True}, 0, 44, True),
        ({"overrides": True, "mapped_uids": RANGES, "mapped_gids": RANGES}, 0, 44, False),
        ({"overrides": True, "mapped_uids": RANGES, "mapped_gids": RANGES}, 200000, 200044, True),
        ({"overrides": True, "unmapped": True}, OVERFLOW, OVERFLOW, False),
        ({"overrides": True, "unmapped": True}, 0, 0, True),
        ({"unmapped": True, "opens": frozenset({"/dev/nvidia0"})}, OVERFLOW, OVERFLOW, True),
    ],
)
def test_capabilities_count_for_nodes_whose_owners_are_mapped(fields, uid, gid, allowed):
    assert (node_access.refused(user(1000, **fields), [node(0o660, uid, gid)]) == []) == allowed


def test_nobody_of_a_user_namespace_is_not_the_host_s_unknown_owner():
    nodes = [node(0o660, OVERFLOW, OVERFLOW)]
    (warning,) = node_access.warnings(user(OVERFLOW, OVERFLOW, unmapped=True), nodes)
    assert "group 65534 of the host, which this user namespace does not map" in warning
    assert "--group-add keep-groups" in warning


def test_a_user_namespace_without_the_group_is_told_what_the_host_can_do():
    (warning,) = node_access.warnings(user(201000, mapped_gids=RANGES, mapped_uids=RANGES), [node(0o660)])
    assert "the container's user namespace has no such group: " in warning
    assert "NVreg_DeviceFileMode=0666" in warning


def test_a_group_that_a_user_namespace_has_is_named_as_it_is_called_there():
    ranges = ((100000, 1000, 0), (200000, 65536, 1000))
    (warning,) = node_access.warnings(user(201000, mapped_gids=ranges, mapped_uids=ranges), [node(0o660, gid=200044)])
    assert "add the group 1044, which is 200044 on the host, to the container's process (--group-add 1044, " in warning
    assert "oci-gpu-runtime" not in warning, "which adds none in a user namespace"

"""The words of a plan: CDI 1.1.0 `containerEdits`, and the three things CDI has no word for. Pure values.

Source: Container Device Interface specification 1.1.0, SPEC.md ("OCI Edits"). Python names are the JSON names in
snake_case.
"""

from __future__ import annotations

from oci_gpu_hook.record import Record


class DeviceNode(Record):
    """A device node; permissions are the device cgroup's, a subset of `rwm`, "" for none."""

    path: str
    host_path: str
    type: str = "c"
    major: int
    minor: int
    file_mode: int
    uid: int
    gid: int
    permissions: str = "rw"


class Mount(Record):
    """A bind of a host file or directory, or (type "tmpfs") a small file system of this project's own.

    directory: whether it goes onto a directory; CDI has no word for it.
    """

    host_path: str
    container_path: str
    options: tuple[str, ...] = ("ro", "nosuid", "nodev", "bind", "private")
    type: str = ""
    directory: bool = False


class Symlink(Record):
    """A symbolic link at `path` in the container."""

    path: str
    target: str


class GeneratedFile(Record):
    """A file with contents of this project's making; it lives in a tmpfs mount of the same plan."""

    path: str
    contents: bytes


class ContainerEdits(Record):
    """CDI's containerEdits."""

    env: tuple[str, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mount, ...] = ()
    additional_gids: tuple[int, ...] = ()


def to_json(edits: ContainerEdits) -> dict[str, object]:
    """Return the JSON form, with empty members left out, as CDI writes it."""
    document: dict[str, object] = {}
    if edits.env:
        document["env"] = list(edits.env)
    if edits.device_nodes:
        document["deviceNodes"] = [_node(node) for node in edits.device_nodes]
    if edits.mounts:
        document["mounts"] = [_mount(mount) for mount in edits.mounts]
    if edits.additional_gids:
        document["additionalGids"] = list(edits.additional_gids)
    return document


def _node(node: DeviceNode) -> dict[str, object]:
    document: dict[str, object] = {"path": node.path}
    if node.host_path != node.path:
        document["hostPath"] = node.host_path
    document |= {
        "type": node.type,
        "major": node.major,
        "minor": node.minor,
        "fileMode": node.file_mode,
        "permissions": node.permissions or "none",
        "uid": node.uid,
        "gid": node.gid,
    }
    return document


def _mount(mount: Mount) -> dict[str, object]:
    document: dict[str, object] = {
        "hostPath": mount.host_path,
        "containerPath": mount.container_path,
        "options": list(mount.options),
    }
    if mount.type:
        document["type"] = mount.type
    return document

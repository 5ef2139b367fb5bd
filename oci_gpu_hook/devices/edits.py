"""The words of a plan: CDI 1.1.0 `containerEdits`, and the three things CDI has no word for. Pure values.

Source: Container Device Interface specification 1.1.0, SPEC.md ("OCI Edits"). Python names are the JSON names in
snake_case.
"""

from __future__ import annotations

from oci_gpu_hook.base.record import Record


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

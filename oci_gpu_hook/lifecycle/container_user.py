"""Determines the user that a container's process runs as: before its start from config.json, later from the kernel."""

from __future__ import annotations

import os

from oci_gpu_hook.base.files import read_start
from oci_gpu_hook.base.processes import status_field
from oci_gpu_hook.base.rootless import OVERFLOW, in_first_user_namespace
from oci_gpu_hook.plan.node_access import User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.devices.edits import DeviceNode
    from oci_gpu_hook.oci.container import Container, IdMapping

_KEEP_GROUPS: Final = "run.oci.keep_original_groups"  # crun's annotation, Podman's --group-add keep-groups
_DAC_OVERRIDE: Final = 1 << 1  # linux/capability.h, CAP_DAC_OVERRIDE
_MAP_SIZE: Final = 4096


def of(container: Container, nodes: Sequence[DeviceNode]) -> User:
    """Return the user that a container's process will run as. nodes: the host's, to try its groups on."""
    unmapped = not in_first_user_namespace()
    groups = {_on_host(gid, container.gid_mappings) for gid in (container.gid, *container.groups)}
    opens: frozenset[str] = frozenset()
    if container.annotations.get(_KEEP_GROUPS) == "1":
        groups.update(_groups_of(container.pid))
        if unmapped:  # the runtime has this process's groups, whatever their numbers here
            paths = [node.host_path or node.path for node in nodes]
            opens = frozenset(path for path in paths if os.access(path, os.R_OK | os.W_OK))
    uid = f"user {container.uid}"
    return User(
        name=f"the container's {uid}" if container.uid else "the container's root",
        uid=_on_host(container.uid, container.uid_mappings),
        groups=frozenset(groups),
        overrides=container.overrides_modes,
        mapped_uids=_ranges_of(container.uid_mappings),
        mapped_gids=_ranges_of(container.gid_mappings),
        unmapped=unmapped,
        opens=opens,
    )


def of_running(pid: int, opens: frozenset[str]) -> User:
    """Return the user that a process runs as. Raises OSError if it has ended or may not be inspected.

    opens: paths of nodes that this process could open. In a user namespace both processes belong to one user: if the
    other has groups of the host, which have no numbers here, they are assumed to be the groups of this process.
    """
    uid = int(status_field(pid, b"Uid").split()[1])
    gid = int(status_field(pid, b"Gid").split()[1])
    namespaces = [os.stat(f"/proc/{process}/ns/user") for process in (pid, "self")]
    is_own = namespaces[0].st_ino == namespaces[1].st_ino
    unmapped = not in_first_user_namespace()
    groups = frozenset((gid, *_groups_of(pid)))
    return User(
        name=f"its user {uid}",
        uid=uid,
        groups=groups,
        overrides=bool(int(status_field(pid, b"CapEff"), 16) & _DAC_OVERRIDE),
        mapped_uids=() if is_own else _ranges(f"/proc/{pid}/uid_map"),
        mapped_gids=() if is_own else _ranges(f"/proc/{pid}/gid_map"),
        unmapped=unmapped,
        opens=opens if unmapped and OVERFLOW in groups else frozenset(),
    )


def _groups_of(pid: int) -> list[int]:
    return [int(gid) for gid in status_field(pid or "self", b"Groups").split()]


def _ranges_of(mappings: Sequence[IdMapping]) -> tuple[tuple[int, int, int], ...]:
    return tuple((mapping.host_id, mapping.size, mapping.container_id) for mapping in mappings)


def _ranges(path: str) -> tuple[tuple[int, int, int], ...]:
    rows = [row.split() for row in read_start(path, _MAP_SIZE).split(b"\n")]
    return tuple((int(row[1]), int(row[2]), int(row[0])) for row in rows if len(row) == 3)


def _on_host(number: int, mappings: Sequence[IdMapping]) -> int:
    """Return the host's id for an id of the container; -1 if its user namespace does not map it."""
    if not mappings:
        return number
    for mapping in mappings:
        if mapping.container_id <= number < mapping.container_id + mapping.size:
            return mapping.host_id + number - mapping.container_id
    return -1

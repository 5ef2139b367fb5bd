"""Decides which device nodes a process may not open because of their owners and modes, and suggests a remedy. Pure.

A process needs both the permission of the device cgroup and that of the node's mode. Nodes have the same owner and mode
in containers as on the host, and a hook cannot change the groups of a container's process. Ids are the host's, as this
process sees them.
"""

from __future__ import annotations

from oci_gpu_hook.base.record import Record
from oci_gpu_hook.base.rootless import OVERFLOW
from oci_gpu_hook.devices.edits import needed, restricted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from oci_gpu_hook.devices.edits import DeviceNode


class User(Record):
    """The user that a process runs as.

    name: the user's name in messages. groups: all of its groups. overrides: whether it has CAP_DAC_OVERRIDE, which
    applies to nodes whose owner and group are in `mapped`: (first id, how many, the first in the namespace) of each
    range of its user namespace, () for all. unmapped: whether this process itself is in a user namespace, where ids of
    the host may be unknown. opens: paths of nodes of the host that its groups are known to open.
    """

    name: str
    uid: int
    groups: frozenset[int]
    overrides: bool = False
    mapped_uids: tuple[tuple[int, int, int], ...] = ()
    mapped_gids: tuple[tuple[int, int, int], ...] = ()
    unmapped: bool = False
    opens: frozenset[str] = frozenset()


class Guarded(Record):
    """Nodes with the same mode, owner and group."""

    paths: tuple[str, ...]
    mode: int
    uid: int
    gid: int


def refused(user: User, nodes: Iterable[DeviceNode]) -> list[Guarded]:
    """Return the nodes that the user may not open, grouped by mode and owner."""
    found: dict[tuple[int, int, int], list[str]] = {}
    for node in restricted(nodes):
        if not _may_open(user, node):
            found.setdefault((node.file_mode, node.uid, node.gid), []).append(node.path)
    return [Guarded(paths=tuple(paths), mode=mode, uid=uid, gid=gid) for (mode, uid, gid), paths in found.items()]


def what(guarded: Guarded, user: User) -> str:
    """Return the first part of an error: who may not open what."""
    return f"{user.name} may not open {', '.join(guarded.paths)}"


def why(guarded: Guarded, user: User) -> str:
    """Return the second part of the error: the owner and mode that forbid it."""
    unknown = " of the host, which this user namespace does not map"
    group = f"group {guarded.gid}{unknown if _is_unknown(guarded.gid, user) else ''}"
    kind = "mode" if len(guarded.paths) == 1 else "each of mode"
    return f"{kind} {guarded.mode:04o}, owner {guarded.uid}, {group}"


def remedy(guarded: Guarded, user: User) -> str:
    """Return the third part of the error: how the user can get access."""
    host = f"{opened_by(guarded.paths)} opens them to all on the host"
    if guarded.mode >> 3 & needed(guarded.mode) != needed(guarded.mode):
        return host
    if _is_unknown(guarded.gid, user):
        return (
            f"podman run --group-add keep-groups, with crun, keeps your own groups, of which it has to be one; {host}"
        )
    if not _is_mapped(guarded.gid, user.mapped_gids):
        return f"the container's user namespace has no such group: {host}"
    inside = _inside(guarded.gid, user.mapped_gids)
    known = f"{inside}, which is {guarded.gid} on the host," if inside != guarded.gid else f"{inside}"
    by_itself = "" if user.mapped_gids else "oci-gpu-runtime adds it by itself; "
    return (
        f"add the group {known} to the container's process (--group-add {inside}, supplementalGroups of a "
        f"pod, process.user.additionalGids of config.json, the account of a Mesos task on its host); {by_itself}{host}"
    )


def opened_by(paths: Iterable[str]) -> str:
    """Return what opens nodes to all on the host: an option of NVIDIA's module for its own, udev for all others."""
    return "NVreg_DeviceFileMode=0666 of the module nvidia" if are_nvidias(paths) else 'a udev rule with MODE="0666"'


def are_nvidias(paths: Iterable[str]) -> bool:
    """Tell whether there are nodes that NVIDIA's module makes, with the mode that its options say."""
    return any(path.startswith("/dev/nvidia") for path in paths)


def warnings(user: User, nodes: Sequence[DeviceNode]) -> Iterator[str]:
    """Yield a sentence for each group of nodes that the user may not open."""
    for guarded in refused(user, nodes):
        yield f"{what(guarded, user)} ({why(guarded, user)}): {remedy(guarded, user)}"


def _may_open(user: User, node: DeviceNode) -> bool:
    """Decide like the kernel (fs/namei.c, generic_permission): only the first class that applies counts."""
    mode = node.file_mode
    if node.uid == user.uid and not _is_unknown(node.uid, user):
        allowed = mode >> 6
    elif node.gid in user.groups and not _is_unknown(node.gid, user):
        allowed = mode >> 3
    else:
        allowed = mode
    if _suffices(allowed, mode) or (node.host_path or node.path) in user.opens:
        return True
    known = not (_is_unknown(node.uid, user) or _is_unknown(node.gid, user))
    in_namespace = _is_mapped(node.uid, user.mapped_uids) and _is_mapped(node.gid, user.mapped_gids)
    return user.overrides and known and in_namespace


def _suffices(allowed: int, mode: int) -> bool:
    wanted = needed(mode)
    return allowed & wanted == wanted


def _is_unknown(number: int, user: User) -> bool:
    return user.unmapped and number == OVERFLOW


def _is_mapped(number: int, ranges: Sequence[tuple[int, int, int]]) -> bool:
    return not ranges or any(first <= number < first + size for first, size, _inside in ranges)


def _inside(number: int, ranges: Sequence[tuple[int, int, int]]) -> int:
    """Return what a mapped id of the host is called in a user namespace."""
    return next((inside + number - first for first, size, inside in ranges if first <= number < first + size), number)

"""Finds the cgroup that controls a container's devices, and changes what it permits.

cgroup v1 has a list of rules (`v1`), cgroup v2 has programs (`v2`); on a host one of the two is in force. What must be
changed is determined for each container from the current state of its cgroups: nothing if they permit the nodes
already, or if none is in force.
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.apply.device_access.model import DeviceCgroup
from oci_gpu_hook.apply.systemd import units
from oci_gpu_hook.base import mount_table
from oci_gpu_hook.base.errors import ApplyError, quoted, reason
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.processes import innermost_number
from oci_gpu_hook.base.rootless import in_first_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType
    from typing import Final

    from oci_gpu_hook.apply.device_access.model import Change
    from oci_gpu_hook.devices.edits import Numbers as Node
    from oci_gpu_hook.oci.container import DeviceRule

_MOUNT_POINT: Final = "/sys/fs/cgroup"


class Grant:
    """What `allow` has changed. `note` says why nothing was changed, if that needs an explanation, or is ""."""

    def __init__(self, changes: list[Change], note: str = "") -> None:
        self.changes = changes
        self.note = note

    def undo(self) -> None:
        """Undo all changes, the last one first. Raises OSError."""
        for change in reversed(self.changes):
            change.undo()
        self.close()

    def close(self) -> None:
        """Make the changes final."""
        changes, self.changes = self.changes, []
        for change in changes:
            change.close()


def find(pid: int, cgroups_path: str = "") -> DeviceCgroup:
    """Return the cgroups, to be closed, of the container with the process `pid`. Raises ApplyError.

    `cgroups_path` is the bundle's linux.cgroupsPath. It distinguishes the container's cgroup from one below it, to
    which the process may have moved when a running container is repaired. Imports what `allow` and `allows` need.
    """
    v1, v2 = _paths(pid)
    for version, path, directory in _directories(v1, v2):
        fd = _open_if_holding(directory, pid)
        if fd is not None:
            _controller(version)
            return _with_own_ancestors(version, path, fd, cgroups_path)
    if v1 in (None, "/") and v2 in (None, "/"):
        return DeviceCgroup(version=0, path="", note="the container is in no cgroup that controls devices")
    raise ApplyError(
        "cannot reach the container's device cgroup",
        f"{quoted(v2 if v1 is None else v1)} is in no cgroup file system that is mounted here",
        f"run the hook where {_MOUNT_POINT} shows that cgroup (the host's cgroup and mount namespaces)",
        "OGH1503",
    )


def allow(cgroup: DeviceCgroup, nodes: Sequence[Node], rules: Sequence[DeviceRule]) -> Grant:
    """Permit the container to read and write exactly the devices `nodes`, or change nothing.

    `rules` are the bundle's linux.resources.devices, used to recognise a program that cannot be read back. Raises
    ApplyError.
    """
    return _change("allow", cgroup, nodes, rules)


def refuse(cgroup: DeviceCgroup, nodes: Sequence[Node], rules: Sequence[DeviceRule]) -> Grant:
    """Have the container read and write the devices `nodes` no more. All or nothing. Raises ApplyError.

    rules: as for `allow`. A process that has a node open keeps it. Nothing is changed without a device controller.
    """
    return _change("refuse", cgroup, nodes, rules)


def allows(cgroup: DeviceCgroup, major: int, minor: int, kind: str = "c") -> bool | None:
    """Tell whether the container's process may open a device now; None if that cannot be known. Raises OSError."""
    if not cgroup.levels:
        return True
    answer: bool | None = _controller(cgroup.version).allows(cgroup, major, minor, kind)
    return answer


def refused(cgroup: DeviceCgroup, nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return the nodes that the container's process may not open now, as far as is known. Raises OSError."""
    if not cgroup.levels:
        return ()
    found: tuple[Node, ...] = _controller(cgroup.version).refused(cgroup, nodes)
    return found


def _change(what: str, cgroup: DeviceCgroup, nodes: Sequence[Node], rules: Sequence[DeviceRule]) -> Grant:
    """Have the module for that version of cgroups `allow` or `refuse` the nodes."""
    if not cgroup.levels:
        return Grant([], cgroup.note)
    changes: list[Change] = []
    grant = Grant(changes)
    try:
        getattr(_controller(cgroup.version), what)(cgroup, nodes, rules, changes)
    except OSError as error:
        grant.undo()
        return _refused(cgroup, error)
    except ApplyError:
        grant.undo()
        raise
    return grant


def _controller(version: int) -> ModuleType:
    """Return the module for that version of cgroups; the other one is not imported."""
    if version == 1:
        from oci_gpu_hook.apply.device_access import v1

        return v1
    from oci_gpu_hook.apply.device_access import v2

    return v2


def _refused(cgroup: DeviceCgroup, error: OSError) -> Grant:
    """Handle a kernel that lets this process change nothing: normal in a user namespace, otherwise an error."""
    if error.errno in (errno.EPERM, errno.EACCES) and not in_first_user_namespace():
        return Grant([], "in a user namespace the host decides on device access; left unchanged")
    if cgroup.version == 2 and error.errno in (errno.EINVAL, errno.ENOSYS):
        return Grant([], "this kernel has no device programs (CONFIG_CGROUP_BPF)")
    raise ApplyError(
        f"cannot change the device access of cgroup {quoted(cgroup.path)}",
        reason(error),
        "run the engine with CAP_SYS_ADMIN" + (", or CAP_BPF and CAP_NET_ADMIN" if cgroup.version == 2 else ""),
        "OGH1502",
    ) from None


def _paths(pid: int) -> tuple[str | None, str | None]:
    """Return the path of the process's cgroup in the v1 hierarchy with `devices` and in the v2 hierarchy."""
    v1 = v2 = None
    try:
        table = read_file(f"/proc/{pid}/cgroup")
    except OSError as error:
        what = f"cannot read the cgroups of the container's process {pid}"
        raise ApplyError(what, reason(error), "see the engine's log for why the container ended", "OGH1004") from None
    for hierarchy, controllers, path in mount_table.cgroups(table):
        if hierarchy == b"0":
            v2 = os.fsdecode(path)
        elif b"devices" in controllers:
            v1 = os.fsdecode(path)
    deciding = v2 if v1 is None else v1
    if deciding is not None and deciding.startswith("/.."):
        raise ApplyError(
            "cannot reach the container's device cgroup",
            f"{quoted(deciding)} lies outside this process's cgroup namespace",
            "run the engine, and so the hook, in the host's cgroup namespace",
            "OGH1503",
        )
    return v1, v2


def _directories(v1: str | None, v2: str | None) -> Iterator[tuple[int, str, str]]:
    """Yield version, path and directory of candidates for the cgroup: the usual place, then by the mount table.

    The mount table is long on busy hosts, and rarely needed.
    """
    if v1 is not None:
        yield 1, v1, f"{_MOUNT_POINT}/devices{v1}"
    elif v2 is not None:
        yield 2, v2, f"{_MOUNT_POINT}{v2}"
    mounts = list(cgroup_mounts(read_file("/proc/self/mountinfo")))
    for version, path in ((1, v1), (2, v2)):
        for mounted_version, root, mount_point in mounts:
            if path is not None and version == mounted_version and (path + "/").startswith(root.rstrip("/") + "/"):
                yield version, path, mount_point + path[len(root.rstrip("/")) :]


def cgroup_mounts(mountinfo: bytes) -> Iterator[tuple[int, str, str]]:
    """Yield version, root and mount point of each mount of v2, or of v1 with `devices` (proc_pid_mountinfo(5))."""
    for _number, _parent, _device, root, point, rest in mount_table.mounts(mountinfo):
        kind, options = mount_table.file_system(rest)
        if kind == b"cgroup2" or (kind == b"cgroup" and b"devices" in options.split(b",")):
            names = [os.fsdecode(mount_table.unescaped(name)) for name in (root, point)]
            yield 2 if kind == b"cgroup2" else 1, names[0], names[1]


def _open_if_holding(directory: str, pid: int) -> int | None:
    """Open the directory if it is a cgroup that contains the process; otherwise it is of another file system."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        held = _processes(fd).split()
        # The pids are those of the reader's pid namespace: under Mesos the container's, whereas /proc is the host's.
        if b"%d" % pid in held or b"%d" % innermost_number(pid) in held:
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _processes(directory: int) -> bytes:
    """Return the pids in a cgroup; of a threaded one, which does not tell them, the ids of threads. Raises OSError."""
    try:
        return read_file("cgroup.procs", dir_fd=directory)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return read_file("cgroup.threads", dir_fd=directory)


def _with_own_ancestors(version: int, path: str, directory: int, cgroups_path: str) -> DeviceCgroup:
    """Add those cgroups above the process's that also belong to the container."""
    levels = [directory]
    own_path = path
    top = _own_top(path, cgroups_path)
    while own_path != top:
        levels.insert(0, os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=levels[0]))
        own_path = os.path.dirname(own_path)
    return DeviceCgroup(version=version, path=path, own_path=own_path, levels=tuple(levels))


def _own_top(path: str, cgroups_path: str) -> str:
    """Return the path of the topmost cgroup that contains only this container.

    That is its systemd scope (Podman, and systemd in a container, create cgroups below it), or the one that the bundle
    names. A service may also contain the engine's processes, so its access must not be widened for a container.
    """
    unit = units.unit_path(path)
    if unit.endswith(".scope"):
        return unit
    configured = "/" + cgroups_path.strip("/")
    if configured != "/" and ":" not in configured:  # SLICE:PREFIX:NAME means a systemd unit
        at = (path + "/").rfind(configured + "/")
        if at >= 0:
            return path[: at + len(configured)]
    return path

"""Gives the container device nodes: creates them or, if nodes are useless there, binds the host's."""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.apply.journal import changes
from oci_gpu_hook.apply.operations import bind
from oci_gpu_hook.apply.rootfs.directory import cannot_create
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import ApplyError, DriverError, quoted
from oci_gpu_hook.devices.edits import numbers, numbers_of, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.operations.inspection import Finding, Inspection
    from oci_gpu_hook.apply.operations.place import Descriptors, Materializing
    from oci_gpu_hook.apply.operations.preflight import Preflight
    from oci_gpu_hook.apply.process import Site
    from oci_gpu_hook.apply.rootfs.directory import Directory
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.edits import DeviceNode, Numbers
    from oci_gpu_hook.plan.plan import Plan

NAME: Final = "node"


def prepare(_plan: Plan, _site: Site, _opened: Descriptors) -> None:
    """Do nothing: only when a node cannot be created, the host's node is needed."""


def preflight(plan: Plan, _prepared: None, seen: Preflight) -> None:
    """Inspect what is at the paths of the nodes.

    The change is a node or, if a node would be useless or a link is in its place, an empty file to bind the host's to.
    A FIFO is the container's own, and no file of the host's is bound in its place.
    """
    for node in plan.edits.device_nodes:
        path = node.path
        number = 0 if node.type == "p" else os.makedev(node.major, node.minor)
        directory, passing, found = seen.entry(path)
        if directory is None or found is None:
            seen.changes.append(changes.node(path, number, passing, node.type))
            if node.type != "p":
                seen.changes.append(changes.file(path, passing))
        elif node.type != "p" and not (_is_of_type(found[0], node) and found[2] == number):
            seen.file(path)


def make(plan: Plan, _seen: None, making: Materializing) -> None:
    """Create the nodes, and have the host's attached where they cannot be created or opened."""
    for node in plan.edits.device_nodes:
        parent, _, name = node.path.rpartition("/")
        directory = making.directories.make(parent)
        if node.type == "p":
            _make_fifo(directory, name, node)
            continue
        if node.path in making.absent:
            # In the mounts of a user namespace the kernel does not open nodes.
            if not making.user_namespace and directory.takes_nodes() and _makes(directory, name, node):
                continue
        elif _is_there(directory, name, node):
            continue
        making.mount(making.keep(_clone(node)), node.path, directory=False)


def _makes(directory: Directory, name: str, node: DeviceNode) -> bool:
    """Create the node; tell whether it exists now. Without CAP_MKNOD it does not, and the host's is bound."""
    try:
        directory.make_node(name, node)
    except FileExistsError:
        return _is_there(directory, name, node)  # created meanwhile
    except OSError as error:
        if error.errno == errno.EPERM:
            return False
        raise cannot_create(node.path, error) from None
    return True


def _make_fifo(directory: Directory, name: str, node: DeviceNode) -> None:
    """Create the FIFO unless it is there. Raises ApplyError, also where something else is in its place."""
    try:
        directory.make_fifo(name, node.file_mode)
    except FileExistsError:
        if not _is_there(directory, name, node):
            what, why = f"cannot create {quoted(node.path)} in the container", "something else is at that path"
            raise ApplyError(what, why, "ship an image without it", "OGH1507") from None


def _is_of_type(mode: int, node: DeviceNode) -> bool:
    return {"b": stat.S_ISBLK, "p": stat.S_ISFIFO}.get(node.type, stat.S_ISCHR)(mode)


def _is_there(directory: Directory, name: str, node: DeviceNode) -> bool:
    try:
        found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return _is_of_type(found.st_mode, node) and (node.type == "p" or numbers_of(found) == numbers(node))


def _clone(node: DeviceNode) -> int:
    """Return a detached copy of a device node of the host, checked to be the planned one."""
    # Read-only does not prevent writing to the device. It keeps the container's root from a chmod of the host's node.
    attributes = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
    try:
        tree = syscalls.clone_tree(node.host_path, syscalls.mount_attributes(attributes, syscalls.MS_PRIVATE))
    except OSError as error:
        raise bind.source_failed(node.host_path, error) from None
    status = os.fstat(tree)
    if numbers_of(status) != numbers(node):
        os.close(tree)
        why = f"is not the {'block' if node.type == 'b' else 'character'} device {node.major}:{node.minor} any more"
        raise DriverError(f"device node {quoted(node.host_path)}", why, bind.REFRESH, "OGH1409")
    return tree


def check(entry: Entry, inspection: Inspection) -> Iterator[Finding]:
    """Yield findings for nodes that have changed: on the host, which only a restart mends, or in the container."""
    from oci_gpu_hook.apply.operations.inspection import Finding

    sources = dict(entry.node_sources)
    for path, given in zip(entry.node_paths, entry.nodes, strict=False):
        name = shown(given)
        source = sources.get(path)
        if source is None:
            of_host = _numbers_on_host(path, inspection.config)
        else:
            of_host = _numbers_at(source) if source else given
        status = inspection.status(path)
        here = numbers_of(status) if status else None
        if of_host != given:
            why = f"the host's is {shown(of_host)} now" if of_host else "the host no longer has it"
            what = f"device {quoted(path)}, given as {name}"
            remedy = "restart the container; without the host's node, run nvidia-modprobe or nvidia-smi there first"
            yield Finding(kind=NAME, what=what, why=why, remedy=remedy, repairable=False, path=path)
        elif here != given:
            why = f"is device {shown(here)} instead of {name}" if here else "is not there"
            yield Finding(kind=NAME, what=f"device {quoted(path)}", why=why, remedy=inspection.repair, path=path)
    yield from _late(entry, inspection)


def _late(entry: Entry, inspection: Inspection) -> Iterator[Finding]:
    """Yield findings for nodes that the host created after the container's start, or still lacks although needed."""
    from oci_gpu_hook.apply.operations.inspection import Finding

    for listed, needed in entry.late:
        if not listed.startswith("/dev/"):
            continue  # a file; it comes with its nodes
        there = [path for path in _expanded(listed, inspection.config) if _numbers_on_host(path, inspection.config)]
        for path in there:
            if path not in entry.node_paths:
                why = "the host had not created it yet when the container started"
                what = f"device {quoted(path)}"
                yield Finding(kind=NAME, what=what, why=why, remedy=inspection.repair, path=path, late=True)
        if needed and not there:
            why = "the host had not created it when the container started, and still has not"
            remedy = f"create it: run `nvidia-modprobe -c 0 -u` or load its module there; then {inspection.repair}"
            what = f"device {quoted(listed)}"
            yield Finding(kind=NAME, what=what, why=why, remedy=remedy, repairable=False, path=listed, late=True)


def _expanded(path: str, config: Config) -> list[str]:
    """Return the paths on the host that match one whose final `*` stands for a number."""
    if not path.endswith("*"):
        return [path]
    directory, _, start = path[:-1].rpartition("/")
    try:
        names = os.listdir(f"{config.dev_root.rstrip('/')}{directory}")
    except OSError:
        return []
    numbers = [name.removeprefix(start) for name in names if name.startswith(start)]
    return [f"{directory}/{start}{number}" for number in sorted(filter(str.isdecimal, numbers), key=int)]


def _numbers_on_host(path: str, config: Config) -> Numbers | None:
    """Return the numbers of the host's node, or of a node that containers get although the host has none."""
    from oci_gpu_hook.devices import vendors
    from oci_gpu_hook.request.model import DEFAULT_KIND

    try:
        return numbers_of(os.stat(f"{config.dev_root.rstrip('/')}{path}"))
    except OSError:
        return vendors.of(DEFAULT_KIND).made_node(path, config)


def _numbers_at(path: str) -> Numbers | None:
    try:
        return numbers_of(os.stat(path))
    except OSError:
        return None


def lost(plan: Plan, entry: Entry, paths: Collection[str]) -> Plan:
    """Return the plan with only the nodes at these paths that have the given numbers or come late."""
    given = dict(zip(entry.node_paths, entry.nodes, strict=True))
    kept = [
        node
        for node in plan.edits.device_nodes
        if node.path in paths and (given[node.path] == numbers(node) if node.path in given else entry.awaits(node.path))
    ]
    return plan.replace(edits=plan.edits.replace(device_nodes=tuple(kept)))


def without(plan: Plan, paths: Collection[str]) -> Plan:  # noqa: ARG001
    """Return the plan: no node is optional."""
    return plan


def show(_plan: Plan) -> dict[str, object]:
    """Return nothing, since nodes are part of CDI's form."""
    return {}

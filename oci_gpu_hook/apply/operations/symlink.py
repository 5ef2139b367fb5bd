"""Makes symbolic links in the rootfs. They replace other links, which the journal records, but never files."""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply.journal import changes
from oci_gpu_hook.apply.operations import bind
from oci_gpu_hook.apply.operations.place import ATTEMPTS, in_the_way
from oci_gpu_hook.apply.rootfs.directory import NoPlace, cannot_create
from oci_gpu_hook.base.errors import quoted

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
    from oci_gpu_hook.devices.edits import Mount, Symlink
    from oci_gpu_hook.plan.plan import Plan

NAME: Final = "link"


def prepare(_plan: Plan, _site: Site, _opened: Descriptors) -> None:
    """Do nothing: a link needs no file of the host."""


def preflight(plan: Plan, _prepared: None, seen: Preflight) -> None:
    """Inspect what is at the paths of the links."""
    for link in plan.links:
        try:
            _look(link, plan, seen)
        except NoPlace as error:
            if not link.optional:
                raise
            seen.left_out[link.path] = error


def _look(link: Symlink, plan: Plan, seen: Preflight) -> None:
    path, target = link.path, link.target
    directory, passing, found = seen.entry(path)
    if directory is None or found is None:
        seen.changes.append(changes.link(path, target, "", passing))
    elif stat.S_ISLNK(found[0]):
        name = path.rpartition("/")[2]
        was = os.readlink(name, dir_fd=directory.fd)
        if was != target:
            directory.refuse_making(name)
            seen.changes.append(changes.link(path, target, was, passing))
    elif not stat.S_ISREG(found[0]):
        raise seen.in_the_way(path, found[0])
    elif _meant(link, plan) is not None:
        seen.file(path)  # the file stays, with a mount over it


def make(plan: Plan, _seen: None, making: Materializing) -> None:
    """Create the links."""
    make_directory = making.directories.make
    for link in plan.links:
        parent, _, name = link.path.rpartition("/")
        _make_one(link, make_directory(parent), name, plan, making)


def _make_one(link: Symlink, directory: Directory, name: str, plan: Plan, making: Materializing) -> None:
    for _ in range(ATTEMPTS):
        try:
            directory.make_link(name, link.target)
        except FileExistsError:
            if not _makes_way(link, directory, name):
                break
        else:
            return
    # The link exists, or a file of the image or of another tool does: the file stays, and the link's target is mounted
    # over it.
    if stat.S_ISREG(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode):
        source = _meant(link, plan)
        if source is not None:
            tree = making.keep(bind.clone(source))
            making.mount(tree, link.path, directory=False)


def _makes_way(link: Symlink, directory: Directory, name: str) -> bool:
    """Remove another link, which the journal has recorded, from a link's path. Tell whether to try again."""
    try:
        found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode):
            return False
        if not stat.S_ISLNK(found.st_mode):
            raise in_the_way(link.path, found.st_mode)
        if os.readlink(name, dir_fd=directory.fd) == link.target:
            return False
        directory.refuse_volume(name)
        os.unlink(name, dir_fd=directory.fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise cannot_create(link.path, error) from None
    return True


def _meant(link: Symlink, plan: Plan) -> Mount | None:
    """Return the plan's mount that a link leads to, perhaps through other links of the plan; None if there is none."""
    targets = {each.path: os.path.join(os.path.dirname(each.path), each.target) for each in plan.links}
    target = link.path
    while target in targets:
        target = targets[target]
    return next((mount for mount in plan.edits.mounts if mount.container_path == target), None)


def check(entry: Entry, inspection: Inspection) -> Iterator[Finding]:
    """Yield findings for links that are gone, or lead elsewhere."""
    from oci_gpu_hook.apply.operations.inspection import Finding

    for kind, path, target, *_ in entry.changes:
        if kind == changes.LINK and target and not _leads(path, target, inspection):
            why = "is gone, or leads elsewhere"
            yield Finding(kind=NAME, what=f"link {quoted(path)}", why=why, remedy=inspection.repair, path=path)


def _leads(path: str, target: str, inspection: Inspection) -> bool:
    """Tell whether a link that the hook made exists and has its target."""
    directory, name = os.path.split(path)
    fd = inspection.open(directory)
    if fd is None:
        return False
    try:
        return os.readlink(name, dir_fd=fd) == target
    except OSError:
        return False
    finally:
        os.close(fd)


def lost(plan: Plan, _entry: Entry, paths: Collection[str]) -> Plan:
    """Return the plan with only the links at these paths."""
    return plan.replace(links=tuple(link for link in plan.links if link.path in paths))


def without(plan: Plan, paths: Collection[str]) -> Plan:
    """Return the plan without the links at these paths."""
    return plan.replace(links=tuple(link for link in plan.links if link.path not in paths))


def show(plan: Plan) -> dict[str, object]:
    """Return the links."""
    return {"links": [{"path": link.path, "target": link.target} for link in plan.links]}

"""The journal entries of a start and of a repair, which are written before any change, and their rollback."""

from __future__ import annotations

import os
import time

from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.entry import Entry, is_listed
from oci_gpu_hook.apply.operations import ld_cache
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.processes import boot_id, start_time
from oci_gpu_hook.devices import vendors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oci_gpu_hook.apply.process import Site
    from oci_gpu_hook.apply.transaction import Work
    from oci_gpu_hook.devices.edits import DeviceNode
    from oci_gpu_hook.plan.plan import Plan


class Starting:
    """Journals a start: the container gets an entry."""

    def __init__(self, site: Site, attached: Sequence[str] = ()) -> None:
        self._site = site
        self._attached = tuple(attached)
        self._entry: Entry | None = None

    def write(self, look: Callable[[], Work]) -> Work:
        """Clean up after ended containers on the rootfs, call `look` under the rootfs's lock, and write the entry."""
        works: list[Work] = []

        def entry_of() -> Entry:
            works.append(look())
            return _of_start(works[0], self._site, self._attached)

        root = os.fstat(self._site.rootfs.fd)
        self._entry = journal.record(self._site.config, (root.st_dev, root.st_ino), entry_of)
        return works[0]

    def ld_cache_path(self) -> str:
        """Return the path of the container's ld cache until it is mounted."""
        if self._entry is None:
            raise ValueError("nothing has been written yet")
        return journal.ld_cache_path(self._site.config, self._entry)

    def undo(self, _work: Work) -> None:
        """Undo what was made, and remove the entry."""
        from oci_gpu_hook.apply import cleanup

        if self._entry is not None:
            cleanup.undo(self._site.config, self._entry, self._site.rootfs)


class Mending:
    """Journals a repair: the container's entry is extended by what is added."""

    def __init__(self, entry: Entry, plan: Plan, site: Site, attached: Sequence[str] = ()) -> None:
        self._entry = entry
        self._site = site
        self._attached = tuple(attached)
        nodes = {node.path: (node.major, node.minor) for node in plan.edits.device_nodes}
        self._new = {path: numbers for path, numbers in nodes.items() if path not in entry.node_paths}

    @property
    def nodes(self) -> tuple[tuple[int, int], ...]:
        """The devices that the container may use: those that it was given, and those that came late."""
        return (*self._entry.nodes, *self._new.values())

    def _brings(self, listed: str, mounts: Sequence[str]) -> bool:
        return listed in mounts or any(is_listed(path, listed) for path in self._new)

    def write(self, look: Callable[[], Work]) -> Work:
        """Write the entry, extended by what is added to the container, without duplicates."""
        work = look()
        entry = self._entry
        mounts = [mount.container_path for mount in work.plan.edits.mounts]
        mounted = {found[0]: found for found in (*entry.mounted, *work.mounted)}
        extended = entry.replace(
            changes=tuple(dict.fromkeys((*entry.changes, *work.changes))),
            cached=tuple(dict.fromkeys((*entry.cached, *work.cached))),
            mounted=tuple(mounted.values()),
            unit=work.unit or entry.unit,
            nodes=self.nodes,
            node_paths=(*entry.node_paths, *self._new),
            mounts=tuple(dict.fromkeys((*entry.mounts, *mounts))),
            late=tuple([late for late in entry.late if not self._brings(late[0], mounts)]),
            gpus=(*entry.gpus, *self._attached),
            attached=(*entry.attached, *self._attached),
            capabilities=entry.capabilities or (work.plan.request.driver_capabilities if self._attached else ()),
        )
        journal.write(self._site.config, extended)
        return work

    def ld_cache_path(self) -> str:
        """Return the path of the container's ld cache until it is mounted."""
        return journal.ld_cache_path(self._site.config, self._entry)

    def undo(self, work: Work) -> None:
        """Undo what was added, and restore the entry."""
        from oci_gpu_hook.apply import cleanup

        cleanup.clean(self._site.rootfs, self._entry.replace(changes=work.changes, cached=work.cached))
        journal.write(self._site.config, self._entry)
        journal.drop(self.ld_cache_path())


def _sources(nodes: Sequence[DeviceNode]) -> tuple[tuple[str, str], ...]:
    """Return where each node is on the host, "" for one that the host does not have."""
    places = [(node.path, node.host_path or node.path) for node in nodes]
    return tuple([(path, source if os.path.exists(source) else "") for path, source in places])


def _of_start(work: Work, site: Site, attached: tuple[str, ...]) -> Entry:
    plan = work.plan
    container, config = site.container, site.config
    own_pid = int(os.readlink("/proc/self"))  # under Mesos getpid() is not what /proc says
    root = os.fstat(site.rootfs.fd)
    nodes = plan.edits.device_nodes
    return Entry(
        id=container.id,
        pid=container.pid,
        start_time=start_time(container.pid),
        bundle=container.bundle,
        rootfs=container.rootfs,
        rootfs_identity=(root.st_dev, root.st_ino),
        gpus=tuple([device.uuid for device in plan.devices]),
        changes=work.changes,
        cached=work.cached,
        nodes=tuple([(node.major, node.minor) for node in nodes]),
        unit=work.unit,
        exclusive=plan.request.exclusive or config.allocation_policy == "exclusive",
        driver=plan.driver_version,
        cgroups_path=container.cgroups_path,
        node_paths=tuple([node.path for node in nodes]),
        node_sources=_sources(nodes) if vendors.described(plan.devices) else (),
        mounts=tuple([mount.container_path for mount in plan.edits.mounts]),
        mounted=work.mounted,
        ld_cache=tuple([library.path for library in plan.ld_cache]) if ld_cache.is_wanted(plan) else (),
        boot_id=boot_id(),
        hook=(own_pid, start_time(own_pid)),
        since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        rootfs_born=syscalls.birth(site.rootfs.fd),
        late=plan.late,
        attached=attached,
        capabilities=plan.request.driver_capabilities if attached else (),
    )

"""The journal entry of a repair or an attachment, which is written before any change, and its rollback."""

from __future__ import annotations

from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.entry import is_listed
from oci_gpu_hook.devices.edits import numbers, of_devices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.process import Site
    from oci_gpu_hook.apply.transaction import Work
    from oci_gpu_hook.devices.edits import Numbers
    from oci_gpu_hook.plan.plan import Plan


class Mending:
    """Journals a repair or an attachment: the container's entry is extended by what is added."""

    def __init__(self, entry: Entry, plan: Plan, site: Site, attached: Sequence[str] = ()) -> None:
        self._entry = entry
        self._site = site
        self._attached = tuple(attached)
        nodes = {node.path: numbers(node) for node in of_devices(plan.edits.device_nodes)}
        self._new = {path: numbers for path, numbers in nodes.items() if path not in entry.node_paths}

    @property
    def nodes(self) -> tuple[Numbers, ...]:
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
        own_mounted = {found[0]: found for found in (*entry.own_mounted, *work.own_mounted)}
        extended = entry.replace(
            changes=tuple(dict.fromkeys((*entry.changes, *work.changes))),
            cached=tuple(dict.fromkeys((*entry.cached, *work.cached))),
            mounted=tuple(mounted.values()),
            own_mounted=tuple(own_mounted.values()),
            unit=work.unit or entry.unit,
            nodes=self.nodes,
            node_paths=(*entry.node_paths, *self._new),
            mounts=tuple(dict.fromkeys((*entry.mounts, *mounts))),
            late=tuple([late for late in entry.late if not self._brings(late[0], mounts)]),
            gpus=(*entry.gpus, *self._attached),
            attached=(*entry.attached, *self._attached),
            changing=self._attached,
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

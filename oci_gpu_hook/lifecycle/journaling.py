"""The journal entry of a start, which is written before any change, and its rollback. A repair's is in `mending`."""

from __future__ import annotations

import os
import time

from oci_gpu_hook.allocation.select import under_policy
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.entry import Entry
from oci_gpu_hook.apply.operations import ld_cache
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.processes import acting, boot_id, check_principal, start_time
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.edits import numbers, of_devices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oci_gpu_hook.apply.process import Site
    from oci_gpu_hook.apply.transaction import Work
    from oci_gpu_hook.devices.edits import DeviceNode


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
            check_principal()
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


def _sources(nodes: Sequence[DeviceNode]) -> tuple[tuple[str, str], ...]:
    """Return where each node is on the host, "" for one that the host does not have."""
    places = [(node.path, node.host_path or node.path) for node in nodes]
    return tuple([(path, source if os.path.exists(source) else "") for path, source in places])


def _of_start(work: Work, site: Site, attached: tuple[str, ...]) -> Entry:
    plan = work.plan
    container, config = site.container, site.config
    hook = acting()
    root = os.fstat(site.rootfs.fd)
    nodes = of_devices(plan.edits.device_nodes)
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
        nodes=tuple([numbers(node) for node in nodes]),
        unit=work.unit,
        exclusive=under_policy(plan.request, config).exclusive,
        driver=plan.driver_version,
        cgroups_path=container.cgroups_path,
        node_paths=tuple([node.path for node in nodes]),
        node_sources=_sources(nodes) if vendors.described(plan.devices) else (),
        mounts=tuple([mount.container_path for mount in plan.edits.mounts]),
        mounted=work.mounted,
        own_mounted=work.own_mounted,
        ld_cache=tuple([library.path for library in plan.ld_cache]) if ld_cache.is_wanted(plan) else (),
        boot_id=boot_id(),
        hook=(hook, start_time(hook)),
        since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        rootfs_born=syscalls.birth(site.rootfs.fd),
        late=plan.late,
        attached=attached,
        changing=attached,
        capabilities=plan.request.driver_capabilities if attached else (),
        share=(plan.request.memory_limit, plan.request.cores),
    )

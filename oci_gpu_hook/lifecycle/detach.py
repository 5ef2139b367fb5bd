"""Takes GPUs from a running container: device access first, then nodes, leases, and what an attachment has brought.

Access comes first because nothing can be opened after it. Whoever has a device open by then is found, and unless those
processes are to be ended, access is given back and the container keeps what it has.
"""

from __future__ import annotations

from oci_gpu_hook.apply.process import check_process
from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.lifecycle import busy, parting, settling, taking
from oci_gpu_hook.lifecycle.interruption import Interruption
from oci_gpu_hook.lifecycle.running import container_of
from oci_gpu_hook.request.model import DEFAULT_KIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.runtime_states import Running


class Detached(Record):
    """What was taken: the UUIDs of devices, and the processes that were ended for it, as (pid, name)."""

    uuids: tuple[str, ...]
    ended: tuple[tuple[int, str], ...]


def detach(
    running: Running, names: Sequence[str], config: Config, *, force: bool = False, grace: float = 10.0
) -> Detached:
    """Take devices from a running container; `names` are indices or UUIDs, () for all. On a refusal nothing is changed.

    force: end the processes that have one open; grace: seconds between the request to end and the kill. Raises
    HookError, AllocationError with their numbers where processes have one open.
    """
    check_process(running.pid)
    container = container_of(running)
    with Interruption(running.id) as interruption, settling.alone(running.pid, config):
        settling.settle(running.id, running.pid, config)
        entry = settling.entry_of(running.id, running.pid, config)
        if entry is None or not entry.gpus:
            what = f"container {quoted(running.id)}"
            raise InvalidInput(
                what, "was given no GPUs by oci-gpu-hook", "see `oci-gpu leases` for those that were", "OGH1910"
            )
        going = parting.parts_of(_named(names, entry, config), entry, container, config)
        patience = grace if force else None
        try:
            with settling.on_rootfs(entry, config):
                interruption.check()
                ended = taking.take(container, entry, going, config, grace=patience, check=interruption.check)
        except busy.Busy as found:
            raise busy.refusal(entry.id, found.users, going.uuids, config, forced=force) from None
        settling.complete(container, going, config)
    return Detached(uuids=going.uuids, ended=tuple((user.pid, user.name) for user in ended))


def _named(names: Sequence[str], entry: Entry, config: Config) -> tuple[str, ...]:
    """Return the UUIDs of those of the container's devices that are named. Raises InvalidInput."""
    if not names:
        return entry.gpus
    vendor = vendors.of(DEFAULT_KIND)
    unknown = [name for name in names if name not in entry.gpus]
    uuids = [name for name in names if name in entry.gpus]
    if unknown and not {vendors.kind_of(uuid) for uuid in entry.gpus}.intersection(vendors.KINDS):
        what, why = f"device {quoted(unknown[0])}", f"is not a GPU of container {quoted(entry.id)}"
        raise InvalidInput(what, why, f"name it as it is leased: {', '.join(entry.gpus)}", "OGH1910")
    if unknown:
        from oci_gpu_hook.lifecycle import asked

        request = asked.with_devices(None, (), ("utility",))
        found = vendor.devices(vendor.snapshot(request, config).inventory, config)
        of_host = [device.replace(fault="") for device in found]  # what has failed can be taken all the same
        uuids += [device.uuid for device in vendor.resolve(unknown, of_host)]
    for uuid in uuids:
        if uuid not in entry.gpus:
            what = f"container {quoted(entry.id)}"
            raise InvalidInput(what, f"does not have GPU {uuid}", f"it has {', '.join(entry.gpus)}", "OGH1910")
    return tuple(dict.fromkeys(uuids))

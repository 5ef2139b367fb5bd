"""Records devices that somebody else has put into a container: an engine by CDI, or a person by --device.

A container that has a device's node can use the device, whoever put it there. So it gets a shared lease, as if it had
asked for the device: others cannot get the device exclusively, and the container is refused if another one holds it
exclusively.
"""

from __future__ import annotations

from oci_gpu_hook.allocation import allocate
from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.devices import presence, vendors
from oci_gpu_hook.devices.edits import numbers
from oci_gpu_hook.request.model import IN_THE_BUNDLE, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.vendor import Inventory
    from oci_gpu_hook.lifecycle.admission import Admission
    from oci_gpu_hook.oci.container import Container


def is_possible(container: Container) -> bool:
    """Tell whether the bundle may have nodes that were chosen for this container.

    A container that may open every device of the host was given none in particular: engines list all nodes of the host
    in the bundles of privileged containers.
    """
    return bool(container.nodes or container.bound_nodes) and not container.has_every_device


def hold(container: Container, config: Config) -> tuple[str, ...]:
    """Record that the container holds the devices whose nodes are in its bundle; return their UUIDs.

    Raises AllocationError if another container holds one of them exclusively.
    """
    held: tuple[str, ...] = ()
    for kind in _kinds(container, config):
        held += _hold_kind(kind, container, config)
    return held


def hold_beside(admission: Admission) -> None:
    """Do the same for a container that has asked for devices and was granted others. Raises AllocationError."""
    container = admission.container
    if not is_possible(container):
        return
    parts = {part.request.kind: part for part in (admission, *admission.beside)}
    for kind, part in parts.items():
        _hold(kind, part.snapshot.inventory, container, admission.config, part.uuids)
    granted = {numbers(node) for node in admission.device_edits().device_nodes}
    if granted.issuperset(container.nodes) and not container.bound_nodes:
        return  # what oci-gpu-runtime has put there
    for kind in _kinds(container, admission.config):
        if kind not in parts:
            _hold_kind(kind, container, admission.config)


def _kinds(container: Container, config: Config) -> tuple[str, ...]:
    """Return the kinds of devices that this host may have: nodes without a driver are useless.

    Without one of NVIDIA's kind where the container has no node of such a GPU: to look at that inventory costs most.
    """
    found = presence.with_driver(config)
    if not presence.has_nvidias_node(config, container.nodes, container.bound_nodes):
        found = tuple(kind for kind in found if kind not in vendors.KINDS)
    try:
        return tuple(dict.fromkeys((*found, *vendors.in_files(config))))
    except HookError as error:  # files that cannot be read: nobody is granted what they describe
        log.warning("devices in the bundle not known", reason=str(error))
        return found


def _hold_kind(kind: str, container: Container, config: Config) -> tuple[str, ...]:
    nothing = Request(kind=kind, driver_capabilities=(), source=IN_THE_BUNDLE)
    try:
        inventory = vendors.of(kind).snapshot(nothing, config).inventory
    except HookError as error:  # a driver that does not answer stops nobody who did not ask for it
        log.warning("devices in the bundle not known", reason=str(error))
        return ()
    return _hold(kind, inventory, container, config, ())


def _hold(
    kind: str, inventory: Inventory, container: Container, config: Config, granted: Collection[str]
) -> tuple[str, ...]:
    vendor = vendors.of(kind)
    # A fault of a device refuses those who ask for it; here somebody else has decided.
    devices = tuple(device.replace(fault="") for device in vendor.devices(inventory, config))
    found = vendor.of_nodes(devices, inventory, container.nodes, container.bound_nodes)
    uuids = tuple(device.uuid for device in found if device.uuid not in granted)
    if uuids:
        wanted = Request(kind=kind, devices=uuids, driver_capabilities=(), source=IN_THE_BUNDLE)
        allocate.allocate(wanted, devices, container, config, freed=_freed)
    return uuids


def _freed(config: Config) -> bool:
    from oci_gpu_hook.lifecycle import unlisted  # only where somebody holds the devices

    return unlisted.freed(config)

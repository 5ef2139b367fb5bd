"""From the names of a request to devices, and what a refusal says of names that stand for none. Pure."""

from __future__ import annotations

from oci_gpu_hook.base.errors import DriverError, InvalidInput, quoted
from oci_gpu_hook.devices.cdi.devices import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.devices.cdi.model import Described, Inventory
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.vendor import Request

ALL: Final = "all"
_LISTED: Final = 8


class UnknownName(InvalidInput):
    """A name that no specification file has. `served` says more of it."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"CDI device {quoted(f'{kind}={name}')}", "is in no specification", "see `oci-gpu cdi list`")
        self.name = name


def resolve(kind: str, names: Iterable[str], devices: Sequence[Device]) -> tuple[Device, ...]:
    """Return the devices that are named, in the order of the names. Raises UnknownName, DriverError.

    Letter case matters, as CDI has it. `all` is each device where no specification says what it is.
    """
    by_uuid = {device.uuid: device for device in devices}
    found: dict[str, Device] = {}
    for name in names:
        device = find(kind, name, devices)
        if device is None and name == ALL and devices:
            several = [each for each in devices if not (each.whole or native(each).covers)]
        elif device is None:
            raise UnknownName(kind, name)
        else:
            several = [by_uuid[uuid] for uuid in native(device).covers] or [device]
        of_many = len(several) > 1
        for each in several:
            if of_many and each.excluded:
                continue
            if each.fault:
                raise _faulty(each)
            found.setdefault(each.uuid, each)
    return tuple(found.values())


def find(kind: str, name: str, devices: Sequence[Device]) -> Device | None:
    """Return the device of a name, which may be a qualified one; None where none has it."""
    name = name.removeprefix(f"{kind}=")
    return next((device for device in devices if name in native(device).names), None)


def entries(request: Request, kind: str, devices: Sequence[Device], granted: Sequence[Device]) -> list[Described]:
    """Return the entries of the specifications that a container gets for the devices that it was granted.

    A name that stands for several, such as `all`, is given by its own entry where all of them were granted.
    """
    uuids = {device.uuid for device in granted}
    if request.count is not None:
        return [native(device).described[0] for device in granted]
    found: dict[str, Described] = {}
    covered: set[str] = set()
    for name in request.devices:
        device = find(kind, name, devices)
        if device is None or not uuids.issuperset(native(device).covers or (device.uuid,)):
            continue
        names = native(device).names
        entry = native(device).described[names.index(name) if name in names else 0]
        found[entry.name] = entry
        covered.update(native(device).covers or (device.uuid,))
    for device in granted:
        if device.uuid not in covered:
            found.setdefault(native(device).described[0].name, native(device).described[0])
    return list(found.values())


def served(
    request: Request, inventory: Inventory, devices: Sequence[Device]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of a request that stand for devices, and warnings of those that are left to the engine.

    Raises InvalidInput for others, with what the specification files have instead, and what is wrong with them.
    """
    if request.count is not None:
        return request.devices, ()
    found, warnings = [], []
    for name in request.devices:
        try:
            resolve(inventory.kind, (name,), devices)
        except (UnknownName, DriverError) as error:
            told = _told(error, inventory) if isinstance(error, UnknownName) else error
            if not request.engine_serves:
                raise told from None
            warnings.append(f"{told.what}, of an annotation that engines of Kubernetes serve, {told.why}")
        else:
            found.append(name)
    return tuple(found), tuple(warnings)


def _told(error: UnknownName, inventory: Inventory) -> InvalidInput:
    """Return the refusal of a name, with what the specification files have instead, and what is wrong with them."""
    kind = inventory.kind
    if inventory.by_kernel:
        return _told_by_kernel(error, inventory)
    name = error.name.removeprefix(f"{kind}=")
    where = ", ".join(inventory.directories)
    for qualified, paths in inventory.conflicts:
        if qualified == f"{kind}={name}":
            why = f"is in {' and '.join(map(quoted, paths))}, so engines refuse it"
            return InvalidInput(error.what, why, "remove one of the files, or the device from one of them", "OGH1221")
    names = [described.name for described in inventory.devices]
    if names:
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        why = f"no specification in {where} has it; of {kind} they have {', '.join(names[:_LISTED])}{more}"
    else:
        kinds = ", ".join(inventory.kinds[:_LISTED])
        why = f"no specification in {where} has devices of {kind}" + (f"; they have {kinds}" if kinds else "")
        why = f"{inventory.unseen}, and {why}" if inventory.unseen else why
    one = "name one of these, or " if inventory.devices or inventory.kinds else ""
    remedy = f"{one}write the specification with the vendor's tool"
    if inventory.unseen and not names:
        remedy = f"load the driver, start the container on a host with such a GPU, or {remedy}"
    if inventory.broken:
        why += f"; {len(inventory.broken)} could not be used: {inventory.broken[0]}"
        remedy = "see `oci-gpu cdi list` for what is wrong"
    return InvalidInput(error.what, why, remedy, "OGH1219")


def _told_by_kernel(error: UnknownName, inventory: Inventory) -> InvalidInput:
    names = [described.name for described in inventory.devices]
    more = f" and {len(names) - _LISTED} more names" if len(names) > _LISTED else ""
    why = f"this host has no such device; of {inventory.kind} it has {', '.join(names[:_LISTED])}{more}"
    return InvalidInput(
        f"device {quoted(error.name)} of {inventory.kind}", why, "name one of these, see `oci-gpu info`", "OGH1219"
    )


def _faulty(device: Device) -> DriverError:
    remedy = "load the driver, or write the specification again with the vendor's tool"
    return DriverError(
        f"CDI device {quoted(device.label)}", f"the host lacks a node of it ({device.fault})", remedy, "OGH1405"
    )

"""Works out what a container gets, from its request, the host and its image. Pure.

The vendor's room works out what the devices of the vendor bring.
"""

from __future__ import annotations

from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import vendors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.base.formats.ldcache import Entry
    from oci_gpu_hook.devices.edits import ContainerEdits, GeneratedFile, Symlink
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.vendor import Inventory
    from oci_gpu_hook.oci.image import Image
    from oci_gpu_hook.request.model import Request


class Plan(Record):
    """What is done to a container whose image is `image`; `decisions` are sentences that say what was chosen and why.

    unmet: those warnings that say that something which was asked for will not work.
    ld_cache: the libraries that its ld cache must list. late: what the host has not created yet
    (devices.model.Contribution).
    """

    request: Request
    image: Image
    devices: tuple[Device, ...]
    edits: ContainerEdits
    links: tuple[Symlink, ...]
    files: tuple[GeneratedFile, ...]
    ld_cache: tuple[Entry, ...]
    decisions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    driver_version: str
    late: tuple[tuple[str, bool], ...] = ()


def make(request: Request, inventory: Inventory, devices: Sequence[Device], image: Image, config: Config) -> Plan:
    """Return the plan. Raises DriverError if the host lacks something, InvalidInput if the request cannot be met."""
    made = vendors.of(request.kind).contribution(request, inventory, devices, image, config)
    return Plan(
        request=request,
        image=image,
        devices=tuple(devices),
        edits=made.edits,
        links=made.links,
        files=made.files,
        ld_cache=made.ld_cache,
        decisions=(*image.decisions, *made.decisions),
        warnings=(
            *request.warnings,
            *inventory.warnings,
            *image.warnings,
            *config.warnings,
            *made.warnings,
            *made.unmet,
        ),
        unmet=made.unmet,
        driver_version=made.driver_version,
        late=made.late,
    )


def joined(first: Plan, others: Iterable[Plan]) -> Plan:
    """Return the plan for devices of several kinds: of the first, which has the facts of the image, and of others."""
    from oci_gpu_hook.devices import compose

    plans = (first, *others)
    warnings = dict.fromkeys(text for each in plans for text in each.warnings)
    return first.replace(
        devices=tuple(device for each in plans for device in each.devices),
        edits=compose.merged(*(each.edits for each in plans)),
        links=tuple(link for each in plans for link in each.links),
        files=tuple(file for each in plans for file in each.files),
        ld_cache=tuple(entry for each in plans for entry in each.ld_cache),
        decisions=tuple(text for each in plans for text in each.decisions),
        warnings=tuple(warnings),
        unmet=tuple(text for each in plans for text in each.unmet),
        late=tuple(late for each in plans for late in each.late),
    )


def of_devices(request: Request, inventory: Inventory, devices: Sequence[Device]) -> ContainerEdits:
    """Return the part of the plan that does not depend on the rootfs: nodes, and the groups that may use them."""
    return vendors.of(request.kind).device_edits(request, inventory, devices)

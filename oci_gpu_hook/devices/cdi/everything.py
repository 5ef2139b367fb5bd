"""All devices that the specification files of this host describe, for people's commands."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.cdi import compiled
from oci_gpu_hook.devices.cdi import devices as of_cdi
from oci_gpu_hook.devices.cdi.devices import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.model import Inventory
    from oci_gpu_hook.devices.model import Device


class Listed(Record):
    """A device, and the file that describes it. by_kernel: whether that is a file of the kernel's."""

    device: Device
    file: str
    by_kernel: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All its names."""
        return native(self.device).names

    @property
    def product(self) -> str:
        """What it is called, "" where nobody says so."""
        return native(self.device).described[0].product

    @property
    def nodes(self) -> tuple[str, ...]:
        """Paths of its own nodes in a container."""
        return tuple(node.path for node in native(self.device).described[0].edits.device_nodes)


def listed(config: Config, wanted: Callable[[str], bool]) -> tuple[Listed, ...]:
    """Return the devices of the kinds that are wanted, but for names of several at once. Raises DriverError."""
    found: list[Listed] = []
    for kind in filter(wanted, compiled.kinds(config)):
        found += of_inventory(compiled.of_kind(kind, config).inventory, config)
    return tuple(found)


def of_inventory(inventory: Inventory, config: Config) -> list[Listed]:
    """Return the devices of one kind."""
    single = [
        device
        for device in of_cdi.of(inventory, config.allocation_exclude, config.sharing_reserve)
        if not native(device).covers
    ]
    files = [path for path, _ in inventory.files]
    return [
        Listed(device=each, file=files[native(each).described[0].file], by_kernel=inventory.by_kernel)
        for each in single
    ]

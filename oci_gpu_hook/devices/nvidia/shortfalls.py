"""Words the warnings about what a container does not get because the host lacks it. Pure. Imported only for these."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.nvidia.model import RequestInventory
    from oci_gpu_hook.devices.vendor import Request
    from oci_gpu_hook.oci.image import Image


def of(request: Request, inventory: RequestInventory, image: Image) -> Iterator[str]:
    """Yield the warnings."""
    wanted = inventory.wanted
    yield from (text for capabilities, text in inventory.lacking if not wanted.isdisjoint(capabilities))
    if "compat32" in wanted:
        yield from _no_compat32(inventory, image)
    yield from _passed_over(request, inventory)


def none_left(request: Request, inventory: RequestInventory, devices: Sequence[Device]) -> list[str]:
    """Return what is said where `all` means no GPU, since the configuration keeps each one out of it."""
    if devices or not inventory.gpus or "all" not in [name.lower() for name in request.devices]:
        return []
    return [
        "all GPUs are asked for, and [allocation] exclude keeps each one of this host out of it: ask for one by name"
    ]


def _no_compat32(inventory: RequestInventory, image: Image) -> list[str]:
    """Return why compat32 is useless for this image, unless the host has no 32-bit library at all."""
    if True in ["compat32" in capabilities for capabilities, _ in inventory.lacking]:
        return []
    if not image.library_directory_32:
        return ["compat32 brings nothing: the image has no place for 32-bit libraries"]
    if True in [library.bits == 32 for library in inventory.libraries]:
        return []
    return ["compat32 brings nothing: the host has no 32-bit library of the other capabilities that are asked for"]


def _passed_over(request: Request, inventory: RequestInventory) -> list[str]:
    """Return a warning for each GPU that `all` or a count would include but the driver has lost."""
    lost = [gpu for gpu in inventory.gpus if gpu.fault]
    if not lost or (request.count is None and "all" not in [name.lower() for name in request.devices]):
        return []
    from oci_gpu_hook.devices.nvidia import refusals

    return [refusals.passed_over(gpu) for gpu in lost]

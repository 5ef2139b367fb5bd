"""Describes this host's driver and devices as a CDI specification. Pure.

It is a plan for an unknown image: libraries go to the same paths as on the host, and what depends on the image or on
the granted devices is done by a hook in the container (`cdi_hook` has its arguments). Devices are named as by NVIDIA's
toolkit: an index, a UUID, `all`, GPU:MIG (nvidia-container-toolkit, pkg/nvcdi).
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.cdi.spec_files import versions
from oci_gpu_hook.devices.cdi.spec_files.model import SpecDevice, Specification
from oci_gpu_hook.devices.edits import ContainerEdits, Hook, groups
from oci_gpu_hook.devices.nvidia import cdi_hook, contribution, device_nodes
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.cdi_classes import FEATURE_CLASSES
from oci_gpu_hook.devices.nvidia.devices import everything
from oci_gpu_hook.oci.image import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.edits import DeviceNode
    from oci_gpu_hook.devices.model import Contribution, Device
    from oci_gpu_hook.devices.nvidia.model import RequestInventory
    from oci_gpu_hook.devices.vendor import Request

VENDOR: Final = "nvidia.com"
BY_INDEX: Final = "index"
BY_UUID: Final = "uuid"
_LIBCUDA_DIR: Final = "NVIDIA_CTK_LIBCUDA_DIR"  # as NVIDIA's toolkit has it, for images whose loader reads no ld cache
_NO_OTHER_TOOL: Final = "NVIDIA_VISIBLE_DEVICES=void"  # NVIDIA's hook and this project's ignore such a container


class Form(Record):
    """Options: the names of devices, and the path and leading arguments of the hook that a container runs.

    with_groups: whether containers get the groups for nodes of mode 0660, such as /dev/dri/card0. That needs CDI 0.7.0;
    engines with an earlier version, such as Podman 4.3, ignore the whole file.
    """

    names: tuple[str, ...] = (BY_INDEX, BY_UUID)
    hook_path: str
    hook_args: tuple[str, ...] = ()
    with_groups: bool = False


def of(request: Request, inventory: RequestInventory, config: Config, device_class: str, form: Form) -> Specification:
    """Return the specification for a class of devices, without devices if the host has none of the class.

    request: for all devices, with the capabilities or the feature. Raises DriverError, InvalidInput.
    """
    of_host = of_nvidia.of(inventory.gpus, config.allocation_exclude)
    devices = [device for device in of_host if not device.fault]
    if device_class in FEATURE_CLASSES:
        edits, found = ContainerEdits(), _feature(inventory, device_class)
    elif device_class == "imex-channel":
        edits, found = ContainerEdits(), _channels(inventory)
    else:
        edits, found = _gpus(request, inventory, devices, config, form)
        if device_class == "mig":
            found = [device for device in found if ":" in device.name or device.name.startswith("MIG-")]
    if not form.with_groups:
        edits = edits.replace(additional_gids=())
        found = [device.replace(edits=device.edits.replace(additional_gids=())) for device in found]
    specification = Specification(
        cdi_version="", kind=f"{VENDOR}/{device_class}", annotations={}, devices=tuple(found), edits=edits
    )
    return specification.replace(cdi_version=versions.required(specification)[0])


def _gpus(
    request: Request, inventory: RequestInventory, devices: Sequence[Device], config: Config, form: Form
) -> tuple[ContainerEdits, list[SpecDevice]]:
    made = contribution.make(request, inventory, (), _image(inventory, config.driver_root), config)
    common = made.edits.device_nodes
    found = []
    for device in devices:
        own = _nodes_of(request, inventory, (device,), common)
        found += [_device(name, own) for name in _names(device, form) if _is_name(name, device, inventory)]
    together = [device for device in everything(devices) if not device.excluded]
    if together:
        found.append(_device("all", _nodes_of(request, inventory, together, common)))
    return _common(made, inventory, devices, form), found


def _common(made: Contribution, inventory: RequestInventory, devices: Sequence[Device], form: Form) -> ContainerEdits:
    """Return what a container gets with any of the devices."""
    by_path = device_nodes.links(devices, _drm_nodes(inventory))
    arguments = cdi_hook.arguments(inventory, (*made.links, *by_path), made.ld_cache)
    hook = Hook(
        hook_name="createContainer",
        path=form.hook_path,
        args=(os.path.basename(form.hook_path), *form.hook_args, *arguments),
    )
    mounts = tuple(mount for mount in made.edits.mounts if mount.type != "tmpfs")  # left to the hook
    paths = (mount.container_path for mount in mounts)
    cuda = [os.path.dirname(path) for path in paths if os.path.basename(path).startswith("libcuda.so.")]
    places = tuple(f"{_LIBCUDA_DIR}={directory}" for directory in cuda[:1])  # 64-bit libraries come first
    return ContainerEdits(
        env=(*places, _NO_OTHER_TOOL),
        device_nodes=made.edits.device_nodes,
        mounts=mounts,
        hooks=(hook,),
        additional_gids=made.edits.additional_gids,
    )


def _drm_nodes(inventory: RequestInventory) -> list[DeviceNode]:
    return [device_nodes.given(node) for node in inventory.nodes if node.path.startswith("/dev/dri/")]


def _image(inventory: RequestInventory, driver_root: str) -> Image:
    """Return an image whose library directories are those of the host's driver, as they are called in its root."""
    places: dict[int, str] = {}
    above = driver_root.rstrip("/")
    for library in inventory.libraries:
        below = f"/{library.directory}" if library.directory else ""
        directory = os.path.dirname(library.host_path).removesuffix(below).removeprefix(above)
        places.setdefault(library.bits, directory)
    return Image(libc="glibc", library_directory=places.get(64, ""), library_directory_32=places.get(32, ""))


def _nodes_of(
    request: Request, inventory: RequestInventory, devices: Sequence[Device], common: Iterable[DeviceNode]
) -> tuple[DeviceNode, ...]:
    """Return the nodes that only these devices bring."""
    known = {node.path for node in common}
    return tuple(node for node in device_nodes.of(request, inventory, devices) if node.path not in known)


def _device(name: str, nodes: tuple[DeviceNode, ...]) -> SpecDevice:
    edits = ContainerEdits(device_nodes=nodes, additional_gids=groups(nodes))
    return SpecDevice(name=name, annotations={}, edits=edits)


def _names(device: Device, form: Form) -> list[str]:
    found = []
    if BY_INDEX in form.names:
        found.append(device.name)
    if BY_UUID in form.names:
        found.append(device.uuid)
    return found


def _is_name(name: str, device: Device, inventory: RequestInventory) -> bool:
    """Tell whether a name may stand for the device: all GPUs of WSL 2 together have none but `all`."""
    if not inventory.platform or device.uuid != inventory.platform:
        return True
    return name != device.uuid and inventory.platform != "wsl2"


def _channels(inventory: RequestInventory) -> list[SpecDevice]:
    """Return the IMEX channels whose nodes the host has, by number."""
    start = device_nodes.IMEX_CHANNEL
    nodes = [device_nodes.given(node) for node in inventory.nodes if node.path.startswith(start)]
    found = [_device(node.path.removeprefix(start), (node,)) for node in sorted(nodes, key=lambda node: node.minor)]
    return [*found, _device("all", tuple(nodes))] if nodes else []


def _feature(inventory: RequestInventory, feature: str) -> list[SpecDevice]:
    nodes = tuple(device_nodes.given(node) for node in inventory.nodes if feature in node.capabilities)
    if not nodes:
        return []
    mounts = tuple(contribution.bind_of(file) for file in inventory.files if feature in file.capabilities)
    edits = ContainerEdits(device_nodes=nodes, mounts=mounts, additional_gids=groups(nodes))
    return [SpecDevice(name="all", annotations={}, edits=edits)]

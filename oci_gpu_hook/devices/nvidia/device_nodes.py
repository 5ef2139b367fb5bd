"""Chooses the device nodes that a container gets: for granted devices, capabilities, channels. Pure."""

from __future__ import annotations

from oci_gpu_hook.base.errors import DriverError, InvalidInput, quoted
from oci_gpu_hook.devices.edits import DeviceNode, Symlink
from oci_gpu_hook.devices.nvidia.devices import gpu_of, native
from oci_gpu_hook.devices.nvidia.model import DeviceNode as HostNode
from oci_gpu_hook.devices.nvidia.model import pci_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container as Collection
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.nvidia.model import MigDevice, RequestInventory
    from oci_gpu_hook.devices.vendor import Request

IMEX_CHANNEL: Final = "/dev/nvidia-caps-imex-channels/channel"  # followed by its number
IMEX_DRIVER: Final = "nvidia-caps-imex-channels"  # in /proc/devices
_NOTHING: Final[frozenset[str]] = frozenset()
_WITHOUT_NODES: Final = frozenset(("mps", "csv-mounts"))
MIG_NODES: Final = "/dev/nvidia-caps/"
_MAKE: Final = (
    "run `nvidia-modprobe -c 0 -u` on the host, and then `oci-gpu repair` on the container, or CUDA does not work in it"
)
_NEEDED: Final = "/dev/nvidia-uvm"  # no computation works without it


def of(request: Request, inventory: RequestInventory, devices: Sequence[Device]) -> list[DeviceNode]:
    """Return the nodes, the shortest paths first. Raises DriverError."""
    wanted = inventory.wanted
    by_path = {node.path: node for node in inventory.nodes}
    nodes = {path: node for path, node in by_path.items() if not wanted.isdisjoint(node.capabilities)}
    if not inventory.platform:
        nodes["/dev/nvidiactl"] = _node_of_host("/dev/nvidiactl", by_path)
    for device in devices:
        for path in _paths_of(device, wanted, by_path):
            nodes[path] = _node_of_host(path, by_path)
    for channel in request.imex_channels:
        path = f"{IMEX_CHANNEL}{channel}"
        nodes[path] = _imex_channel(channel, path, by_path, inventory.imex_major)
    if manages_mig(request, devices):
        nodes |= {path: node for path, node in by_path.items() if path.startswith(MIG_NODES)}
    return [given(nodes[path]) for path in sorted(nodes, key=lambda path: (len(path), path))]


def lacking(request: Request, inventory: RequestInventory, devices: Sequence[Device]) -> Iterator[tuple[str, bool]]:
    """Yield a sentence for each thing that the host lacks, and whether the request is useless without it."""
    wanted = inventory.wanted
    if manages_mig(request, devices) and not has_mig_nodes(inventory):
        yield f"the host has no {MIG_NODES}, which managing MIG devices would use", True
    for path, capabilities in inventory.missing_nodes:
        if not wanted.isdisjoint(capabilities):
            text = f"the host has no {path}, which {'/'.join(sorted(wanted & set(capabilities)))} would use"
            yield f"{text}: {_MAKE}" if path == _NEEDED else text, path == _NEEDED
    for feature in missing_features(request, inventory):
        yield f"{feature} is asked for, but the host has no device of it", True


def late(request: Request, inventory: RequestInventory, devices: Sequence[Device]) -> tuple[tuple[str, bool], ...]:
    """Return what the container would get if the host had already created its nodes, as in Contribution.late."""
    wanted = inventory.wanted
    missing = [path for path, capabilities in inventory.missing_nodes if not wanted.isdisjoint(capabilities)]
    found = [(path, path == _NEEDED) for path in missing]
    if manages_mig(request, devices) and not has_mig_nodes(inventory):
        found.append((f"{MIG_NODES}nvidia-cap*", True))
    features = missing_features(request, inventory)
    if features:
        from oci_gpu_hook.devices.nvidia.capabilities import NODES

        found += [(row.path, True) for row in NODES if not set(features).isdisjoint(row.capabilities)]
        files = [file for file in inventory.files if file.capabilities and set(features).issuperset(file.capabilities)]
        found += [(file.container_path, False) for file in files]
    return tuple(found)


def has_mig_nodes(inventory: RequestInventory) -> bool:
    """Tell whether the host has nodes that guard MIG devices; drivers of GPUs that can be partitioned have them."""
    return any(node.path.startswith(MIG_NODES) for node in inventory.nodes)


def missing_features(request: Request, inventory: RequestInventory) -> list[str]:
    """Return requested features for which the host has no device node, except those that have none on any host."""
    if not request.features:
        return []
    present = {capability for node in inventory.nodes for capability in node.capabilities} | _WITHOUT_NODES
    return [feature for feature in request.features if feature not in present]


def devices_of(
    devices: Sequence[Device],
    inventory: RequestInventory,
    numbers: Collection[tuple[int, int]],
    host_paths: Collection[str],
) -> tuple[Device, ...]:
    """Return the devices that a container can use through nodes with these numbers, or these nodes of the host.

    For a GPU in MIG mode these are the MIG devices whose capability nodes it has too, otherwise the GPU.
    """
    there = {
        node.path for node in inventory.nodes if (node.major, node.minor) in numbers or node.host_path in host_paths
    }
    parts = [device for device in devices if device.whole and there.issuperset(_paths_of(device, _NOTHING, {}))]
    divided = {device.whole for device in parts}
    return tuple(
        device
        for device in devices
        if device in parts
        or (not device.whole and device.uuid not in divided and there.issuperset(_paths_of(device, _NOTHING, {})))
    )


def links(devices: Sequence[Device], nodes: Sequence[DeviceNode]) -> list[Symlink]:
    """Return the links by which udev names DRM nodes after their GPU's place (systemd, 60-drm.rules)."""
    given = {node.path for node in nodes if node.path.startswith("/dev/dri/")}
    if not given:
        return []
    kinds = (("card", "card"), ("renderD", "render"))
    return [
        Symlink(path=f"/dev/dri/by-path/pci-{pci_address(gpu.bus_id)}-{kind}", target=f"../{name}", optional=True)
        for gpu in {device.index: gpu_of(device) for device in devices}.values()
        for name in gpu.drm
        for start, kind in kinds
        if name.startswith(start) and f"/dev/dri/{name}" in given
    ]


def manages_mig(request: Request, devices: Sequence[Device]) -> bool:
    """Tell whether the container may configure or monitor MIG devices. Raises InvalidInput as NVIDIA's tools do.

    Source: libnvidia-container, src/cli/common.c (select_mig_config_devices): a comma-separated list, any letter case.
    """
    if not (request.mig_config_devices or request.mig_monitor_devices):
        return False
    asked = {
        "NVIDIA_MIG_CONFIG_DEVICES": request.mig_config_devices,
        "NVIDIA_MIG_MONITOR_DEVICES": request.mig_monitor_devices,
    }
    for variable, value in asked.items():
        named = [name for name in (value or "").split(",") if name]
        if named and named[0].lower() != "all":
            raise InvalidInput(
                f"{variable}={quoted(value)}", "only `all` is valid", "set it to all, or not at all", "OGH1202"
            )
        if named and not _all(request) and any(device.whole for device in devices):
            why = "the container is given single MIG devices, which cannot manage others"
            raise InvalidInput(f"{variable}=all", why, "ask for whole GPUs, or all, beside it", "OGH1207")
    return any((value or "").strip(",") for value in asked.values())


def _all(request: Request) -> bool:
    return any(name.lower() == "all" for name in request.devices)


def _paths_of(device: Device, wanted: frozenset[str], by_path: dict[str, HostNode]) -> Iterable[str]:
    gpu, mig = native(device)
    if gpu.nodes:
        yield from gpu.nodes
        return
    yield f"/dev/nvidia{gpu.minor}"
    if mig:
        yield f"{MIG_NODES}nvidia-cap{mig.gpu_instance_minor}"
        yield f"{MIG_NODES}nvidia-cap{mig.compute_instance_minor}"
    if ("graphics" in wanted or "display" in wanted) and _draws(mig):
        # A missing render node is not an error: compute works without it, and graphics has a separate warning.
        yield from (path for name in gpu.drm if (path := f"/dev/dri/{name}") in by_path)


def _draws(mig: MigDevice | None) -> bool:
    """Tell whether a device supports graphics; MIG devices do with profiles such as 1g.24gb+gfx."""
    return mig is None or "gfx" in mig.profile.partition("+")[2]


def _node_of_host(path: str, by_path: dict[str, HostNode]) -> HostNode:
    if path in by_path:
        return by_path[path]
    remedy = "create it: run nvidia-modprobe or nvidia-smi on the host, or enable NVIDIA's udev rules"
    raise DriverError(f"device node {quoted(path)}", "the host does not have it", remedy, "OGH1405")


def _imex_channel(channel: int, path: str, by_path: dict[str, HostNode], major: int) -> HostNode:
    """Return the channel's node. Its minor is the channel's number, so the host need not have created it."""
    if path in by_path or not major:
        return _node_of_host(path, by_path)
    return HostNode(path=path, host_path=path, major=major, minor=channel, mode=0o666, uid=0, gid=0)


def given(node: HostNode) -> DeviceNode:
    """Return the node as a container gets it: permission to read and write, but not to create nodes."""
    fields = {
        "path": node.path,
        "host_path": node.host_path,
        "type": "c",
        "major": node.major,
        "minor": node.minor,
        "file_mode": node.mode,
        "uid": node.uid,
        "gid": node.gid,
        "permissions": "rw",
    }
    return DeviceNode.of(fields)

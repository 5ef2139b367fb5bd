"""Explains a plan: what is asked for and where, what is given and why, what is not given and why. Pure.

The reasons are derived from the values of each step. The plan itself has none, because they would cost each container's
start time.
"""

from __future__ import annotations

from oci_gpu_hook.admin.cli.picture import memory, relation
from oci_gpu_hook.allocation import by_count, conflict, shares
from oci_gpu_hook.allocation.messages import amounts, remaining
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.devices.model import PIPE_OF_MPS
from oci_gpu_hook.devices.nvidia.capabilities import DISPLAY, GRAPHICS
from oci_gpu_hook.devices.nvidia.device_nodes import MIG_NODES
from oci_gpu_hook.devices.nvidia.devices import gpu_of
from oci_gpu_hook.devices.nvidia.tegra_files import EVERY_FILE
from oci_gpu_hook.request.model import ANNOTATION_PREFIX
from oci_gpu_hook.request.nvidia.cdi_names import FEATURE_CLASSES
from oci_gpu_hook.request.nvidia.names import MOUNT_ROOT
from oci_gpu_hook.request.sources import CDI_ANNOTATION_PREFIX
from oci_gpu_hook.request.vendors import BY_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.plan.plan import Plan
    from oci_gpu_hook.request.model import Request

_VARIABLES: Final = ("NVIDIA_", "OCI_GPU_", "CUDA_VERSION=", *(f"{name}=" for name in BY_VARIABLE))
_LISTED: Final = 5


def sayings(container: Container, config: Config) -> Iterator[str]:
    """Yield each part of config.json in which the container says something about GPUs."""
    for name in sorted(container.annotations):
        if name.startswith((ANNOTATION_PREFIX, CDI_ANNOTATION_PREFIX)):
            yield f"annotations: {name}={quoted(container.annotations[name])}"
    for mount in container.mounts:
        if mount.destination.startswith(MOUNT_ROOT):
            yield f"mounts: {quoted(mount.destination)}"
    for entry in container.env:
        name, _, value = entry.partition("=")
        if entry.startswith(_VARIABLES) or name in config.swarm_resource:
            yield f"process.env: {name}={quoted(value)}"


def gpus(
    request: Request, of_host: Sequence[Device], granted: Sequence[Device], held: Sequence[Lease] | None
) -> Iterator[str]:
    """Yield a line for each granted device, followed by indented reasons. held: None if it is unknown."""
    for device in granted:
        name = gpu_of(device).name
        product = f"MIG {device.profile} of {name}" if device.whole else name
        yield "  ".join(filter(None, (device.label, product, memory(device.memory), device.uuid)))
        alone = ", then by this container alone" if request.exclusive else ""
        yield f"  {_chosen(request)}; {_shared(device, held)}{alone}"
        if request.is_share:
            yield f"  {_share(request, device, held)}"
    if request.count is not None:
        candidates = by_count.eligible(request, of_host)
        least = f" with {memory(request.memory)} or more" if request.memory else ""
        if held is None:
            yield f"{len(candidates)} on this host{least}, of which only root can see the free ones; {_first(request)}"
        else:
            free = len(by_count.available(candidates, request, held))
            yield f"{free} of {len(candidates)} available on this host{least}; {_first(request)}"
        if len(granted) > 1 and not any(device.whole for device in granted):
            pairs = _pairs(granted)
            yield f"of equal ones, those nearest to each other: {', '.join(pairs[:_LISTED])}"


def nodes(made: Plan, inventory: Inventory) -> Iterator[tuple[str, str, str]]:
    """Yield path, numbers and reason of each device node."""
    own: dict[str, str] = {}
    for device in made.devices:
        for path in gpu_of(device).nodes or (f"/dev/nvidia{gpu_of(device).minor}",):
            own[path] = f"{own[path]}, {device.label}" if path in own else device.label
    drm = {f"/dev/dri/{name}": device.label for device in made.devices for name in gpu_of(device).drm}
    by_path = {node.path: node.capabilities for node in inventory.nodes}
    wanted = _wanted(made.request)
    for node in made.edits.device_nodes:
        reason = own.get(node.path) or drm.get(node.path) or _reason(by_path.get(node.path, ()), wanted)
        if node.path.startswith(MIG_NODES):
            reason = "MIG"
        yield node.path, f"{node.major}:{node.minor}", reason


def mounts(made: Plan, inventory: Inventory) -> dict[str, list[str]]:
    """Return the container paths of mounts by the capability that brings them, each only once."""
    wanted = _wanted(made.request)
    capabilities: dict[str, tuple[str, ...]] = {
        library.host_path: library.capabilities for library in inventory.libraries
    }
    capabilities |= {file.host_path: file.capabilities for file in inventory.files}
    found: dict[str, list[str]] = {}
    for mount in made.edits.mounts:
        if mount.host_path in capabilities:
            reason = _reason(capabilities[mount.host_path], wanted)
        elif mount.container_path.startswith("/proc/"):
            reason = "granted GPUs"
        elif made.request.is_share and mount.container_path == PIPE_OF_MPS:
            reason = "its own MPS daemon, for its part"
        else:
            reason = "graphics"  # the application profile that shows EGL only the granted GPUs
        found.setdefault(reason, []).append(mount.container_path)
    return found


def skipped(made: Plan, inventory: Inventory, config: Config) -> Iterator[tuple[str, str]]:
    """Yield the parts of the driver that the container does not get, and why."""
    wanted = _wanted(made.request)
    counts: dict[tuple[str, ...], int] = {}
    of_things = [library.capabilities for library in inventory.libraries]
    of_things += [file.capabilities for file in inventory.files]
    for capabilities in of_things:
        if capabilities and wanted.isdisjoint(capabilities):
            counts[capabilities] = counts.get(capabilities, 0) + 1
    for capabilities, count in sorted(counts.items()):
        yield _files(count, f"of {'/'.join(capabilities)}"), _why_not(capabilities, config)
    narrow = [library for library in inventory.libraries if library.bits == 32 and wanted & {*library.capabilities}]
    if narrow and "compat32" not in wanted:
        yield _files(len(narrow), "for 32-bit programs"), _why_not(("compat32",), config)
    elif narrow and not made.image.library_directory_32:
        yield _files(len(narrow), "for 32-bit programs"), "the image has no place for them"
    granted = {device.whole or device.uuid for device in made.devices}
    others = [str(gpu.index) for gpu in inventory.gpus if gpu.uuid not in granted and not gpu.fault]
    if others:
        yield f"GPU {', '.join(others)}", "not granted: no node, no right to open it, not in /proc"
    render = [path for device in made.devices for name in gpu_of(device).drm if (path := f"/dev/dri/{name}")]
    if render and wanted.isdisjoint((*GRAPHICS, *DISPLAY)):
        yield f"{len(render)} nodes in /dev/dri", _why_not(("graphics", "display"), config)


def rest(request: Request, device: Device, held: Sequence[Lease]) -> tuple[int, int]:
    """Return the memory and the percentage of cores that are left of a device once a container has its share."""
    found = shares.left(device, held)
    return max(found.memory - request.memory_limit, 0), max(found.cores - request.cores, 0)


def _share(request: Request, device: Device, held: Sequence[Lease] | None) -> str:
    """Say what the container gets of a device, and what is then left for others."""
    share = f"a share: {amounts(request.memory_limit, request.cores)}"
    if held is None:
        return share
    standing = shares.standing(device, held)
    reserved = amounts(standing.memory_reserved, standing.cores_reserved)
    before = f"; others have {reserved}" if standing.is_shared else ""
    return f"{share}{before}; then {remaining(device, *rest(request, device, held))} left for others"


def _first(request: Request) -> str:
    if not request.is_share:
        return "the fewest holders come first"
    return "the emptiest come first" if request.spread else "the fullest with room come first"


def _shared(device: Device, held: Sequence[Lease] | None) -> str:
    if held is None:
        return "only root can see who else holds it"
    holders = [quoted(lease.name) for lease in conflict.holders(device, held)]
    return f"held by {', '.join(holders[:_LISTED])} too" if holders else "held by nobody else"


def _chosen(request: Request) -> str:
    if request.count is not None:
        return "asked for by count"
    if request.devices == ("all",):
        return "all were asked for"
    return "asked for by name"


def _pairs(granted: Sequence[Device]) -> list[str]:
    return [
        f"{one.index}-{other.index} {relation(gpu_of(one), gpu_of(other)) or 'unknown'}"
        for position, one in enumerate(granted)
        for other in granted[position + 1 :]
    ]


def _wanted(request: Request) -> frozenset[str]:
    return frozenset((*request.driver_capabilities, *request.features))


def _reason(capabilities: Iterable[str], wanted: frozenset[str]) -> str:
    return "/".join(name for name in capabilities if name in wanted) or "every container"


def _why_not(capabilities: Sequence[str], config: Config) -> str:
    """Return why a container lacks what any of the capabilities would bring."""
    supported = [name for name in capabilities if name in config.supported_driver_capabilities]
    features = [name for name in capabilities if name in FEATURE_CLASSES]
    if EVERY_FILE in capabilities:
        return "would come with NVIDIA_REQUIRE_JETPACK=csv-mounts=all"
    if features:
        return f"would come with NVIDIA_{features[0].upper()}=enabled"
    if not supported:
        return "not in supported-driver-capabilities of config.toml"
    return f"would come with {' or '.join(supported)} in NVIDIA_DRIVER_CAPABILITIES"


def _files(count: int, kind: str) -> str:
    return f"{count} file{'s' * (count != 1)} {kind}"

"""Works out what the hook of a CDI specification adds to what the engine has put into a container. Pure.

The engine has bound the driver's files and created the nodes. It cannot do what depends on the image or on the granted
devices: links, the ld cache, forward compatibility, the granted GPUs' part of /proc, EGL's profile.
"""

from __future__ import annotations

from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.edits import ContainerEdits, Mount
from oci_gpu_hook.devices.model import Contribution
from oci_gpu_hook.devices.nvidia import contribution, device_nodes, image_facts
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.model import FALLEN_OFF, Gpu, RequestInventory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.edits import GeneratedFile, Symlink
    from oci_gpu_hook.devices.nvidia.cdi_hook import Arguments
    from oci_gpu_hook.oci.image import Image

_GPU_NODE: Final = "/dev/nvidia"
_DRAWS: Final = "libEGL_nvidia.so."  # the capabilities of the specification included graphics
_BY_PATH: Final = "/dev/dri/by-path/"


class Seen(Record):
    """What the host's /proc shows when the container starts.

    files: as in Inventory. products: product names by the GPUs' names below /proc/driver/nvidia/gpus; empty if they do
    not matter. silent: the names of GPUs that do not answer on the bus.
    """

    files: tuple[tuple[str, str], ...]
    products: Mapping[str, str]
    silent: frozenset[str] = frozenset()


def make(arguments: Arguments, image: Image, nodes: Collection[str], seen: Seen, config: Config) -> Contribution:
    """Return the contribution. nodes: paths of the engine's device nodes. Raises DriverError for a lost GPU."""
    facts = image_facts.of(image)
    of_host = _gpus(arguments, seen)
    granted = [gpu for gpu in of_host if f"{_GPU_NODE}{gpu.minor}" in nodes]
    warnings = _of_lost(granted, of_host)
    devices = of_nvidia.of(granted)
    inventory = RequestInventory(
        wanted=frozenset({"compute"}),
        driver_version=arguments.driver_version,
        cuda_version=arguments.cuda_version,
        platform=arguments.platform,
        gpus=tuple(granted),
        libraries=(),
        files=(),
        nodes=(),
        proc_files=seen.files,
    )
    mounts: list[Mount] = []
    files: list[GeneratedFile] = []
    if facts.procfs and (seen.files or not arguments.platform):
        mounts, files = contribution.procfs_view(inventory, _parts_of(nodes), devices, facts.procfs, config)
    if any(entry.name.startswith(_DRAWS) for entry in arguments.libraries) and not arguments.platform:
        mount, file = contribution.egl_profile(devices)
        mounts.append(mount)
        files.append(file)
    compat, decisions = contribution.forward_compatibility(inventory, devices, facts, config)
    return Contribution(
        edits=ContainerEdits(mounts=tuple(mounts)),
        links=tuple(_links(arguments, nodes)),
        files=tuple(files),
        ld_cache=(*compat, *arguments.libraries),
        decisions=decisions,
        warnings=warnings,
        driver_version=arguments.driver_version,
    )


def _of_lost(granted: Sequence[Gpu], of_host: Sequence[Gpu]) -> tuple[str, ...]:
    """Return warnings of lost GPUs if the container was given all; raise DriverError if it was given a single one."""
    lost = [gpu for gpu in granted if gpu.fault]
    if not lost:
        return ()
    from oci_gpu_hook.devices.nvidia import refusals

    if len(granted) < len(of_host) or len(lost) == len(granted):
        raise refusals.given(lost[0])
    return tuple([refusals.given_with_others(gpu) for gpu in lost])


def _gpus(arguments: Arguments, seen: Seen) -> list[Gpu]:
    return [
        Gpu(
            index=index,
            uuid=name,
            minor=minor,
            bus_id=name,
            proc_name=name,
            name=seen.products.get(name, ""),
            fault=FALLEN_OFF if name in seen.silent else "",
        )
        for index, (minor, name) in enumerate(arguments.gpus)
    ]


def _parts_of(nodes: Collection[str]) -> dict[str, bool]:
    """Return the names that a container with MIG devices sees besides its GPUs, and whether each is a directory."""
    return {"capabilities": True} if any(path.startswith(device_nodes.MIG_NODES) for path in nodes) else {}


def _links(arguments: Arguments, nodes: Collection[str]) -> Iterator[Symlink]:
    for link in arguments.links:
        if not link.path.startswith(_BY_PATH) or f"/dev/dri/{link.target.rpartition('/')[2]}" in nodes:
            yield link

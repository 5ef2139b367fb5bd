"""What the hook of a CDI specification adds to what the engine has put into a container. Pure.

The engine has bound the driver's files and made the nodes. What it cannot know is the image, and which of the host's
devices were granted: links, the ld cache, forward compatibility, the granted GPUs' part of /proc, EGL's profile.
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
_DRAWS: Final = "libEGL_nvidia.so."  # graphics were among the capabilities of the specification
_BY_PATH: Final = "/dev/dri/by-path/"


class Seen(Record):
    """What the host's /proc shows at the container's start.

    files: as in Inventory. products: the names of GPUs by their names below /proc/driver/nvidia/gpus; none where they
    decide nothing. silent: the names of GPUs that do not answer on the bus.
    """

    files: tuple[tuple[str, str], ...]
    products: Mapping[str, str]
    silent: frozenset[str] = frozenset()


def make(arguments: Arguments, image: Image, nodes: Collection[str], seen: Seen, config: Config) -> Contribution:
    """Return it. nodes: paths of the device nodes that the engine gives. Raises DriverError for a GPU that is lost."""
    facts = image_facts.of(image)
    of_host = _gpus(arguments, seen)
    granted = [gpu for gpu in of_host if f"{_GPU_NODE}{gpu.minor}" in nodes]
    warnings = _of_lost(granted, of_host)
    devices = of_nvidia.of(granted)
    inventory = RequestInventory(
        wanted=frozenset({"compute"}),
        driver_version=arguments.driver_version,
        cuda_version=arguments.cuda_version,
        gpus=tuple(granted),
        libraries=(),
        files=(),
        nodes=(),
        proc_files=seen.files,
    )
    mounts: list[Mount] = []
    files: list[GeneratedFile] = []
    if facts.procfs:
        mounts, files = contribution.procfs_view(inventory, _parts_of(nodes), devices, facts.procfs, config)
    if any(entry.name.startswith(_DRAWS) for entry in arguments.libraries):
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
    """Return warnings of lost GPUs for a container that is given all. Raises DriverError where one is chosen."""
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
    """Return what a container with MIG devices sees beside its GPUs, by name: whether it is a directory."""
    return {"capabilities": True} if any(path.startswith(device_nodes.MIG_NODES) for path in nodes) else {}


def _links(arguments: Arguments, nodes: Collection[str]) -> Iterator[Symlink]:
    for link in arguments.links:
        if not link.path.startswith(_BY_PATH) or f"/dev/dri/{link.target.rpartition('/')[2]}" in nodes:
            yield link

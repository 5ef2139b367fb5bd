"""What a container gets, worked out of what it asks for, what the host has and what its image is. Pure.

Where files land is NVIDIA's convention, so that images made for it find them: libraries in the image's own library
directory, everything else at its usual path.
"""

from __future__ import annotations

from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.base.formats.ldcache import Entry, flags_for
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.edits import ContainerEdits, GeneratedFile, Mount, Symlink
from oci_gpu_hook.plan import device_nodes
from oci_gpu_hook.plan.image import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.allocation.model import Granted
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.model import Inventory
    from oci_gpu_hook.plan.image import Image
    from oci_gpu_hook.request.model import Request

_BIND: Final = ("bind", "private")
_READ_ONLY: Final = ("ro", "nosuid", "nodev", *_BIND)
_OWN_FILE_SYSTEM: Final = ("ro", "nosuid", "nodev", "noexec")
_ESSENTIAL: Final = (("compute", "libcuda.so."), ("utility", "libnvidia-ml.so."))
_PROFILES: Final = "/etc/nvidia/nvidia-application-profiles-rc.d"


class Plan(Record):
    """What is done to a container whose image is `image`; `decisions` say what was chosen and why, a sentence each.

    ld_cache: the libraries that its ld cache is to list.
    """

    request: Request
    image: Image
    gpus: tuple[Granted, ...]
    edits: ContainerEdits
    links: tuple[Symlink, ...]
    files: tuple[GeneratedFile, ...]
    ld_cache: tuple[Entry, ...]
    decisions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    driver_version: str


def make(request: Request, inventory: Inventory, gpus: Sequence[Granted], image: Image, config: Config) -> Plan:
    """Return the plan. Raises DriverError for a granted GPU whose node is missing, InvalidInput for requirements."""
    wanted = frozenset((*request.driver_capabilities, *request.features))
    warnings = [*request.warnings, *inventory.warnings, *image.warnings, *config.warnings]
    _check_requirements(request, inventory, gpus)
    _check_libraries(inventory, wanted)
    mounts, links, cached = _libraries(inventory, wanted, image)
    mounts += _files(inventory, wanted.difference(device_nodes.missing_features(request, inventory)))
    if image.volume:
        from oci_gpu_hook.plan import volume

        links += volume.links(mounts, links, image)
    links += _links(inventory, wanted, image)
    nodes = device_nodes.of(request, inventory, gpus, wanted, warnings)
    links += device_nodes.links(gpus, nodes)
    files: list[GeneratedFile] = []
    if image.procfs:
        proc_mounts, files = _procfs(inventory, request, gpus, image, config)
        mounts += proc_mounts
    if "graphics" in wanted or "display" in wanted:
        mounts.append(_own_file_system(_PROFILES))
        files.append(GeneratedFile(path=f"{_PROFILES}/10-container.conf", contents=_profile(gpus)))
    compat, decisions = _forward_compatibility(inventory, wanted, image, config)
    return Plan(
        request=request,
        image=image,
        gpus=tuple(gpus),
        edits=ContainerEdits(
            device_nodes=tuple(nodes), mounts=tuple(mounts), additional_gids=device_nodes.groups(nodes)
        ),
        links=tuple(links),
        files=tuple(files),
        ld_cache=(*compat, *cached),
        decisions=decisions,
        warnings=tuple(warnings),
        driver_version=inventory.driver_version,
    )


def of_devices(request: Request, inventory: Inventory, gpus: Sequence[Granted]) -> ContainerEdits:
    """Return the part of the plan that needs no rootfs: the nodes, and the groups that may use them."""
    wanted = frozenset((*request.driver_capabilities, *request.features))
    nodes = device_nodes.of(request, inventory, gpus, wanted, [])
    return ContainerEdits(device_nodes=tuple(nodes), additional_gids=device_nodes.groups(nodes))


def _check_requirements(request: Request, inventory: Inventory, gpus: Sequence[Granted]) -> None:
    if request.requirements:
        from oci_gpu_hook.request import requirements

        requirements.check(
            request.requirements, inventory.driver_version, inventory.cuda_version, [granted.gpu for granted in gpus]
        )


def _check_libraries(inventory: Inventory, wanted: frozenset[str]) -> None:
    """Raise DriverError where a capability lacks the library without which it is nothing."""
    for capability, stem in _ESSENTIAL:
        if capability in wanted:
            for library in inventory.libraries:
                if library.bits == 64 and library.name.startswith(stem):
                    break
            else:
                raise _lacks(capability, stem, inventory)


def _lacks(capability: str, stem: str, inventory: Inventory) -> DriverError:
    why = f"the host has no {stem}{inventory.driver_version}, which the capability {capability} is made of"
    return DriverError("driver files", why, "install the driver's user-space part of the kernel driver's version")


def _brought(capabilities: tuple[str, ...], wanted: frozenset[str]) -> bool:
    return not capabilities or not wanted.isdisjoint(capabilities)


def _library_directory(bits: int, image: Image) -> str:
    return image.library_directory if bits == 64 else image.library_directory_32


def _libraries(
    inventory: Inventory, wanted: frozenset[str], image: Image
) -> tuple[list[Mount], list[Symlink], list[Entry]]:
    mounts, links, cached = [], [], []
    flags = {64: flags_for(MACHINE, 64), 32: flags_for(MACHINE, 32)}
    for library in inventory.libraries:
        bits = library.bits
        base = _library_directory(bits, image)
        if not base or not _brought(library.capabilities, wanted) or (bits == 32 and "compat32" not in wanted):
            continue
        directory = f"{base}/{library.directory}/" if library.directory else f"{base}/"
        file = library.name
        mounts.append(_bind(library.host_path, directory + file, _READ_ONLY))
        if library.cached and library.soname == file:
            cached.append(_entry(file, directory + file, flags[bits]))
        for name, target in library.links:
            path = directory + name
            links.append(Symlink.of({"path": path, "target": target}))
            if library.cached:
                cached.append(_entry(name, path, flags[bits]))
    return mounts, links, cached


def _bind(host_path: str, path: str, options: tuple[str, ...], *, directory: bool = False) -> Mount:
    fields = {"host_path": host_path, "container_path": path, "options": options, "type": "", "directory": directory}
    return Mount.of(fields)


def _entry(name: str, path: str, flags: int) -> Entry:
    fields = {"name": name, "path": path, "flags": flags, "os_version": 0, "hwcap": 0, "subdirectory": ""}
    return Entry.of(fields)


def _files(inventory: Inventory, wanted: frozenset[str]) -> list[Mount]:
    return [
        _bind(file.host_path, file.container_path, (*file.options, *_BIND), directory=file.directory)
        for file in inventory.files
        if _brought(file.capabilities, wanted)
    ]


def _links(inventory: Inventory, wanted: frozenset[str], image: Image) -> list[Symlink]:
    links = []
    for link in inventory.links:
        base = _library_directory(link.bits, image)
        if base and _brought(link.capabilities, wanted) and (link.bits == 64 or "compat32" in wanted):
            path = link.path if link.path.startswith("/") else f"{base}/{link.path}"
            links.append(Symlink(path=path, target=link.target))
    return links


def _procfs(
    inventory: Inventory, request: Request, gpus: Sequence[Granted], image: Image, config: Config
) -> tuple[list[Mount], list[GeneratedFile]]:
    """Return what stands in the place of /proc/driver/nvidia: the granted GPUs, and no leave to make device nodes."""
    here, there = "/proc/driver/nvidia", f"{config.proc_root.rstrip('/')}/driver/nvidia"
    names = {f"gpus/{granted.gpu.proc_name}": True for granted in gpus}  # name: whether it is a directory
    if not device_nodes.manages_mig(request, gpus):
        names |= {f"capabilities/{path}": False for granted in gpus for path in _capability_files(granted)}
    elif device_nodes.has_mig_nodes(inventory):
        names["capabilities"] = True
    mounts = [_own_file_system(image.procfs)]
    mounts += [
        Mount(host_path=f"{there}/{name}", container_path=f"{here}/{name}", directory=directory)
        for name, directory in names.items()
    ]
    files = [GeneratedFile(path=f"{here}/{name}", contents=text.encode()) for name, text in inventory.proc_files]
    return mounts, files


def _own_file_system(path: str) -> Mount:
    return Mount(host_path="tmpfs", container_path=path, options=_OWN_FILE_SYSTEM, type="tmpfs", directory=True)


def _capability_files(granted: Granted) -> tuple[str, ...]:
    if not granted.mig:
        return ()
    instance = f"gpu{granted.gpu.minor}/mig/gi{granted.mig.gpu_instance}"
    return (f"{instance}/access", f"{instance}/ci{granted.mig.compute_instance}/access")


def _profile(gpus: Sequence[Granted]) -> bytes:
    """Return the application profile that shows EGL the granted GPUs only: a mask of device minors."""
    mask = 0
    for granted in gpus:
        mask |= 1 << granted.gpu.minor
    setting = f'["EGLVisibleDGPUDevices",{mask:#x}]'
    return (
        '{"profiles":[{"name":"_container_","settings":'
        + setting
        + '}],"rules":[{"pattern":[],"profile":"_container_"}]}'
    ).encode()


def _forward_compatibility(
    inventory: Inventory, wanted: frozenset[str], image: Image, config: Config
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Return the image's own CUDA libraries that go before the driver's in the ld cache, and the reason."""
    if not image.compat or "compute" not in wanted:
        return (), ()
    from oci_gpu_hook.devices.nvidia import forward_compatibility as compat

    made = compat.decide(image.compat, inventory.driver_version, inventory.cuda_version, config.cuda_compat_mode)
    entries = tuple(_entry(name, path, flags_for(MACHINE, 64)) for name, path in made.entries)
    return entries, (made.reason,) if made.reason else ()

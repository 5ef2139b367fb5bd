"""Works out what NVIDIA's devices bring to a container: libraries, files, links, nodes, a view of /proc. Pure.

Files go where NVIDIA's tools put them, so that images find them: libraries in the image's own library directory, all
else at its usual path.
"""

from __future__ import annotations

from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.base.formats.ldcache import Entry, flags_for
from oci_gpu_hook.devices.edits import ContainerEdits, GeneratedFile, Mount, Symlink, groups
from oci_gpu_hook.devices.model import Contribution
from oci_gpu_hook.devices.nvidia import device_nodes, image_facts
from oci_gpu_hook.devices.nvidia.devices import gpu_of, native
from oci_gpu_hook.oci.image import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.nvidia.image_facts import ImageFacts
    from oci_gpu_hook.devices.nvidia.model import DriverFile, RequestInventory
    from oci_gpu_hook.devices.vendor import Request
    from oci_gpu_hook.oci.image import Image

_BIND: Final = ("bind", "private")
_READ_ONLY: Final = ("ro", "nosuid", "nodev", *_BIND)
_OWN_FILE_SYSTEM: Final = ("ro", "nosuid", "nodev", "noexec")
_ESSENTIAL: Final = (("compute", "libcuda.so."), ("utility", "libnvidia-ml.so."))
_VIEW: Final = "/proc/driver/nvidia"
_PROFILES: Final = "/etc/nvidia/nvidia-application-profiles-rc.d"


def make(
    request: Request, inventory: RequestInventory, devices: Sequence[Device], image: Image, config: Config
) -> Contribution:
    """Return the contribution. Raises DriverError if a granted GPU has no node, InvalidInput for requirements."""
    wanted = inventory.wanted
    facts = image_facts.of(image)
    warnings: list[str] = []
    _check_requirements(request, inventory, devices)
    _check_libraries(inventory, wanted)
    mounts, links, cached = _libraries(inventory, wanted, image)
    mounts += _files(inventory, wanted.difference(device_nodes.missing_features(request, inventory)))
    if inventory.mps or "mps" in wanted:
        mounts += _mps(inventory, facts, warnings)
    if facts.volume:
        from oci_gpu_hook.devices.nvidia import volume

        links += volume.links(facts.volume, mounts, links, image)
    links += _links(inventory, wanted, image)
    nodes = device_nodes.of(request, inventory, devices)
    unmet: list[str] = []
    for text, needed in device_nodes.lacking(request, inventory, devices):
        (unmet if needed else warnings).append(text)
    links += device_nodes.links(devices, nodes)
    files: list[GeneratedFile] = []
    if facts.procfs and (inventory.proc_files or not inventory.platform):
        parts = _capability_parts(inventory, request, devices)
        proc_mounts, files = procfs_view(inventory, parts, devices, facts.procfs, config)
        mounts += proc_mounts
    if ("graphics" in wanted or "display" in wanted) and not inventory.platform:
        profile_mount, profile = egl_profile(devices)
        mounts.append(profile_mount)
        files.append(profile)
    lacking = [text for capabilities, text in inventory.lacking if not wanted.isdisjoint(capabilities)]
    if lacking or "compat32" in wanted or not devices or [gpu.uuid for gpu in inventory.gpus if gpu.fault]:
        from oci_gpu_hook.devices.nvidia import shortfalls

        warnings += shortfalls.of(request, inventory, image)
        unmet += shortfalls.none_left(request, inventory, devices)
    compat, decisions = forward_compatibility(inventory, devices, facts, config)
    if facts.nested_proc:
        decisions += ("/proc/driver/nvidia is left as it is and shows all GPUs of the host: nested-proc is true",)
    return Contribution(
        edits=ContainerEdits(device_nodes=tuple(nodes), mounts=tuple(mounts), additional_gids=groups(nodes)),
        links=tuple(links),
        files=tuple(files),
        ld_cache=(*compat, *cached),
        decisions=decisions,
        warnings=tuple(warnings),
        unmet=tuple(unmet),
        driver_version="" if inventory.platform else inventory.driver_version,  # which no file of the host has there
        late=device_nodes.late(request, inventory, devices),
    )


def device_edits(request: Request, inventory: RequestInventory, devices: Sequence[Device]) -> ContainerEdits:
    """Return the part that does not depend on the rootfs: nodes, and groups for them. Raises DriverError."""
    nodes = device_nodes.of(request, inventory, devices)
    return ContainerEdits(device_nodes=tuple(nodes), additional_gids=groups(nodes))


def _check_requirements(request: Request, inventory: RequestInventory, devices: Sequence[Device]) -> None:
    if request.requirements:
        from oci_gpu_hook.devices.nvidia import requirements

        gpus = [gpu_of(device) for device in devices]
        known_only = inventory.platform == "tegra"
        driver, cuda = inventory.driver_version, inventory.cuda_version
        requirements.check(request.requirements, driver, cuda, gpus, known_only=known_only)


def _check_libraries(inventory: RequestInventory, wanted: frozenset[str]) -> None:
    """Raise DriverError if a capability lacks its essential library."""
    for capability, stem in _ESSENTIAL[:1] if inventory.platform else _ESSENTIAL:
        if capability in wanted:
            for library in inventory.libraries:
                if library.bits == 64 and library.name.startswith(stem):
                    break
            else:
                raise _lacks(capability, stem, inventory)


def _lacks(capability: str, stem: str, inventory: RequestInventory) -> DriverError:
    why = f"the host has no {stem}{inventory.driver_version}, which the capability {capability} needs"
    return DriverError(
        "driver files", why, "install the driver's user-space part of the kernel driver's version", "OGH1404"
    )


def _brought(capabilities: tuple[str, ...], wanted: frozenset[str]) -> bool:
    return not capabilities or not wanted.isdisjoint(capabilities)


def _library_directory(bits: int, image: Image) -> str:
    return image.library_directory if bits == 64 else image.library_directory_32


def _libraries(
    inventory: RequestInventory, wanted: frozenset[str], image: Image
) -> tuple[list[Mount], list[Symlink], list[Entry]]:
    mounts, links, cached = [], [], []
    flags = {64: flags_for(MACHINE, 64), 32: flags_for(MACHINE, 32)}
    for library in inventory.libraries:
        bits = library.bits
        base = _library_directory(bits, image)
        if not base or not _brought(library.capabilities, wanted) or (bits == 32 and "compat32" not in wanted):
            continue
        directory = f"{base}/"
        if library.directory:  # which is an absolute one on some platforms
            directory = f"{library.directory}/" if library.directory[0] == "/" else f"{base}/{library.directory}/"
        file = library.name
        mounts.append(_bind(library.host_path, directory + file, _READ_ONLY))
        if library.cached and library.soname == file:
            cached.append(_entry(file, directory + file, flags[bits]))
        for name, target in library.links:
            path = directory + name
            links.append(Symlink.of({"path": path, "target": target, "optional": False}))
            if library.cached:
                cached.append(_entry(name, path, flags[bits]))
    return mounts, links, cached


def _bind(
    host_path: str, path: str, options: tuple[str, ...], *, directory: bool = False, optional: bool = False
) -> Mount:
    fields = {
        "host_path": host_path,
        "container_path": path,
        "options": options,
        "type": "",
        "directory": directory,
        "optional": optional,
    }
    return Mount.of(fields)


def _entry(name: str, path: str, flags: int) -> Entry:
    fields = {"name": name, "path": path, "flags": flags, "os_version": 0, "hwcap": 0, "subdirectory": ""}
    return Entry.of(fields)


def _files(inventory: RequestInventory, wanted: frozenset[str]) -> list[Mount]:
    return [bind_of(file) for file in inventory.files if _brought(file.capabilities, wanted)]


def bind_of(file: DriverFile) -> Mount:
    """Return the mount for a file of the driver."""
    options = (*file.options, *_BIND)
    return _bind(file.host_path, file.container_path, options, directory=file.directory, optional=True)


def _mps(inventory: RequestInventory, facts: ImageFacts, warnings: list[str]) -> list[Mount]:
    from oci_gpu_hook.devices.nvidia import mps

    chosen, trouble = mps.choose(inventory.mps, facts.mps_directory)
    if trouble and mps.FEATURE in inventory.wanted:  # warned of only if MPS was asked for
        warnings.append(trouble)
    return [bind_of(chosen)] if chosen else []


def _links(inventory: RequestInventory, wanted: frozenset[str], image: Image) -> list[Symlink]:
    links = []
    for link in inventory.links:
        base = _library_directory(link.bits, image)
        if base and _brought(link.capabilities, wanted) and (link.bits == 64 or "compat32" in wanted):
            path = link.path if link.path.startswith("/") else f"{base}/{link.path}"
            target = link.target
            if link.to_library:
                target = f"{base}/{target}"
                if path == target:
                    continue  # the library's own link
            links.append(Symlink(path=path, target=target, optional=True))
    return links


def _capability_parts(inventory: RequestInventory, request: Request, devices: Sequence[Device]) -> dict[str, bool]:
    """Return the names below /proc/driver/nvidia that belong to MIG devices, and whether each is a directory."""
    if not device_nodes.manages_mig(request, devices):
        return {f"capabilities/{path}": False for device in devices for path in _capability_files(device)}
    return {"capabilities": True} if device_nodes.has_mig_nodes(inventory) else {}


def procfs_view(
    inventory: RequestInventory, parts: dict[str, bool], devices: Sequence[Device], mountpoint: str, config: Config
) -> tuple[list[Mount], list[GeneratedFile]]:
    """Return the view that replaces /proc/driver/nvidia: only granted GPUs, and no permission to create nodes.

    parts: further names in it, and whether each is a directory.
    """
    here, there = _VIEW, f"{config.proc_root.rstrip('/')}/driver/nvidia"
    names = {f"gpus/{name}": True for device in devices if (name := gpu_of(device).proc_name)} | parts
    mounts = [_own_file_system(mountpoint)]
    mounts += [
        Mount(host_path=f"{there}/{name}", container_path=f"{here}/{name}", directory=directory)
        for name, directory in names.items()
    ]
    files = [GeneratedFile(path=f"{here}/{name}", contents=text.encode()) for name, text in inventory.proc_files]
    return mounts, files


def views(devices: Sequence[Device]) -> tuple[str, ...]:
    """Return the paths at which containers with these devices see them in /proc."""
    names = [f"gpus/{name}" for device in devices if (name := gpu_of(device).proc_name)]
    names += [f"capabilities/{path}" for device in devices for path in _capability_files(device)]
    return tuple(dict.fromkeys([f"{_VIEW}/{name}" for name in names]))


def _own_file_system(path: str, *, optional: bool = False) -> Mount:
    return Mount(
        host_path="tmpfs",
        container_path=path,
        options=_OWN_FILE_SYSTEM,
        type="tmpfs",
        directory=True,
        optional=optional,
    )


def _capability_files(device: Device) -> tuple[str, ...]:
    gpu, mig = native(device)
    if not mig:
        return ()
    instance = f"gpu{gpu.minor}/mig/gi{mig.gpu_instance}"
    return (f"{instance}/access", f"{instance}/ci{mig.compute_instance}/access")


def egl_profile(devices: Sequence[Device]) -> tuple[Mount, GeneratedFile]:
    """Return the file system and the application profile that show EGL only the granted GPUs."""
    file = GeneratedFile(path=f"{_PROFILES}/10-container.conf", contents=_profile(devices))
    return _own_file_system(_PROFILES, optional=True), file


def _profile(devices: Sequence[Device]) -> bytes:
    """Return the profile, which has a mask of device minors."""
    mask = 0
    for device in devices:
        mask |= 1 << gpu_of(device).minor
    setting = f'["EGLVisibleDGPUDevices",{mask:#x}]'
    return (
        '{"profiles":[{"name":"_container_","settings":'
        + setting
        + '}],"rules":[{"pattern":[],"profile":"_container_"}]}'
    ).encode()


def forward_compatibility(
    inventory: RequestInventory, devices: Sequence[Device], facts: ImageFacts, config: Config
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Return the image's CUDA libraries that precede the driver's in the ld cache, and the reason."""
    if not facts.compat or "compute" not in inventory.wanted or inventory.platform:
        return (), ()
    from oci_gpu_hook.devices.nvidia import forward_compatibility as compat

    driver, cuda, mode = inventory.driver_version, inventory.cuda_version, config.cuda_compat_mode
    user = compat.User(gpus=tuple([gpu_of(device) for device in devices]), wants=facts.compat_wanted)
    made = compat.decide(facts.compat, driver, cuda, mode, user)
    entries = tuple(_entry(name, path, flags_for(MACHINE, 64)) for name, path in made.entries)
    return entries, (made.reason,) if made.reason else ()

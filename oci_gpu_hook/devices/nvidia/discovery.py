"""Makes an inventory from the host, when there is no stored one or its facts have changed.

It opens no device and starts no child process, unless only NVML can tell something: the UUID of a GPU that the driver
has not initialised, and MIG devices.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import HookError, quoted
from oci_gpu_hook.base.files import read_text
from oci_gpu_hook.devices import pci
from oci_gpu_hook.devices.nvidia import (
    device_nodes,
    essentials,
    facts,
    files,
    host_nodes,
    icd_files,
    libraries,
    mig,
    platforms,
    procfs,
)
from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot
from oci_gpu_hook.devices.nvidia.model import FALLEN_OFF, Basis, Gpu, Inventory, MigDevice, Snapshot, pci_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from oci_gpu_hook.base.config.model import Config

# The file system of a driver container (NVIDIA GPU Operator), used if the host itself has no driver files.
_DRIVER_CONTAINER: Final = "/run/nvidia/driver"


def discover(config: Config) -> Snapshot:
    """Discover the host. Raises DriverError if it has no driver, or one whose parts do not fit together."""
    text = read_text(f"{config.proc_root}/driver/nvidia/version")
    made = _of_platform(text, config) or _of_driver(text, config)
    if any(not gpu.uuid or gpu.mig_devices or gpu.fault for gpu in made.inventory.gpus):
        made = with_details(made, config)
    return made.replace(inventory=_with_stand_in_uuids(made.inventory))


def _of_platform(text: str | None, config: Config) -> Snapshot | None:
    """Return what WSL 2 or a Tegra has, None for other hosts. text: as in `_of_driver`, which a Tegra may have."""
    if text is None and platforms.is_wsl(config):
        from oci_gpu_hook.devices.nvidia import wsl

        return wsl.discover(config)
    if platforms.is_tegra(config):
        from oci_gpu_hook.devices.nvidia import tegra

        return tegra.discover(config, text)
    return None


def _of_driver(text: str | None, config: Config) -> Snapshot:
    """Return what a host has with NVIDIA's driver. text: its version in /proc, None if it is not loaded."""
    if text is None:
        from oci_gpu_hook.devices.nvidia import other_hosts

        raise other_hosts.no_driver(config)
    version = procfs.driver_version(text)
    root, found = _libraries(config, version)
    firmware_path = read_text(f"{config.sys_root}/module/firmware_class/parameters/path") or ""
    others = files.find(root, version, found.directories, firmware_path.strip(), found.homes)
    log.debug("not shipped by the driver", version=version, files=[*found.missing, *others.missing])
    lacking = tuple(essentials.lacking(found.libraries, others.files, others.not_given))
    gpus = tuple(_gpus(config))
    dev_root = config.dev_root.rstrip("/")
    watched = (
        root.host_path(libraries.LD_CACHE),
        *(root.host_path(path) for path in (*found.directories, *found.awaited, *config.library_search_paths)),
        *others.watched,
        *(others.awaited if essentials.lacks_files(lacking) else ()),
        *host_nodes.watched(dev_root),
        f"{config.proc_root}/driver/nvidia-caps/mig-minors",
        # These are replaced when the driver takes a GPU again; reading one would cost ten times as much as the bus.
        *(f"{config.proc_root}/driver/nvidia/gpus/{gpu.proc_name}/information" for gpu in gpus),
    )
    inventory = Inventory(
        driver_version=version,
        gpus=gpus,
        libraries=found.libraries,
        files=others.files,
        links=(*found.links, *others.links, *icd_files.links(others.files, found.libraries)),
        nodes=(),
        imex_major=procfs.device_major(read_text(f"{config.proc_root}/devices") or "", device_nodes.IMEX_DRIVER),
        proc_files=procfs.files_for_containers(config.proc_root),
        lacking=lacking,
        unclaimed=(*found.unclaimed, *others.unclaimed),
    )
    watched = tuple(dict.fromkeys(watched))
    present = (*others.present, *host_nodes.present(dev_root))
    gathered = facts.gather(
        config, [gpu.minor for gpu in gpus], watched, present
    )  # before NVML, which may take its time
    basis = Basis(candidates=host_nodes.candidates(dev_root, gpus), watched=watched, present=present, facts=gathered)
    return Snapshot(inventory=inventory, basis=basis)


def with_details(found: Snapshot, config: Config) -> Snapshot:
    """Return the snapshot completed by NVML, or with a warning that says why NVML did not answer."""
    from oci_gpu_hook.devices.nvidia import nvml

    inventory = found.inventory
    try:
        hidden = hidden_gpus(inventory, config)
        if inventory.platform and not all(gpu.bus_id for gpu in inventory.gpus):
            answer = nvml.ask(nvml.library_of(inventory), nvml.module_directories())
            inventory = platforms.complete(inventory, answer)
        else:
            inventory = nvml.complete(inventory, hidden)
    except HookError as error:
        warnings = dict.fromkeys((*inventory.warnings, str(error)))
        return found.replace(inventory=inventory.replace(warnings=tuple(warnings)))
    if hidden:
        path = quoted(_node(min(hidden), config))
        text = f"NVML was asked without GPUs that are hidden from it: this process may not open {path}"
        inventory = inventory.replace(warnings=(*inventory.warnings, text))
    return found.replace(inventory=inventory, basis=_with_faults(found.basis, inventory, config))


def hidden_gpus(inventory: Inventory, config: Config) -> frozenset[int]:
    """Return the minors of the GPUs that this process may not open, as in a Slurm job: NVML does not count those.

    access(2) asks the device cgroup as well (fs/namei.c, inode_permission), and not the driver, which may be slow.
    """
    nodes = {gpu.minor: _node(gpu.minor, config) for gpu in inventory.gpus if gpu.minor >= 0}
    return frozenset(
        minor for minor, path in nodes.items() if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK)
    )


def _node(minor: int, config: Config) -> str:
    return f"{config.dev_root.rstrip('/')}/dev/nvidia{minor}"


def _with_faults(basis: Basis, inventory: Inventory, config: Config) -> Basis:
    """Add to the basis what changes when a GPU with a fault comes back: its UUID in /proc, or its node."""
    lost = [gpu for gpu in inventory.gpus if gpu.fault]
    if not lost:
        return basis
    texts = [f"{config.proc_root}/driver/nvidia/gpus/{gpu.proc_name}/information" for gpu in lost]
    nodes = [f"{config.dev_root.rstrip('/')}/dev/nvidia{gpu.minor}" for gpu in lost if gpu.minor >= 0]
    present = tuple(dict.fromkeys((*basis.present, *nodes)))
    minors = [gpu.minor for gpu in inventory.gpus]
    now = facts.gather(config, minors, basis.watched, present, texts)
    return basis.replace(present=present, texts=tuple(texts), facts=facts.extended(basis.facts, now))


def _libraries(config: Config, version: str) -> tuple[DriverRoot, libraries.Libraries]:
    """Return the root that contains the driver's files, and the libraries."""
    root = DriverRoot(config.driver_root)
    try:
        return root, libraries.find(root, version, config.library_search_paths)
    except HookError:
        if config.driver_root != "/":
            raise
        container = DriverRoot(_DRIVER_CONTAINER)
        try:
            return container, libraries.find(container, version, config.library_search_paths)
        except HookError:
            pass  # the error about the host itself is more useful
        raise


def _gpus(config: Config) -> Iterable[Gpu]:
    found = procfs.gpus(config.proc_root)
    silent = facts.silent(config.sys_root, [gpu.proc_name for gpu in found])
    # mig-minors has a line for each possible instance; 4,000 with eight GPUs would cost more than all the rest.
    has_mig = any(facts.mig_instances(config.proc_root, gpu.minor) for gpu in found)
    minors = mig.minors(config.proc_root) if has_mig else {}
    for index, gpu in enumerate(found):
        place = pci.place(config.sys_root, pci_address(gpu.bus_id))
        devices = mig.devices(config.proc_root, gpu.minor, minors)
        yield Gpu(
            index=index,
            uuid=gpu.uuid,
            minor=gpu.minor,
            bus_id=gpu.bus_id,
            proc_name=gpu.proc_name,
            name=gpu.name,
            numa_node=place.numa_node,
            pcie_switch=place.pcie_switch,
            drm=place.drm,
            mig_enabled=bool(devices),
            mig_devices=devices,
            fault=FALLEN_OFF if gpu.proc_name in silent else "",
        )


def _with_stand_in_uuids(inventory: Inventory) -> Inventory:
    """Give names to devices without UUIDs: to a GPU its bus id, to a MIG device the form before 470 (MIG-GPU-…/1/0)."""
    gpus = []
    for gpu in inventory.gpus:
        uuid = gpu.uuid or gpu.bus_id or inventory.platform
        devices = tuple(
            device if device.uuid else device.replace(uuid=_old_mig_name(uuid, device)) for device in gpu.mig_devices
        )
        gpus.append(gpu.replace(uuid=uuid, mig_devices=devices))
    return inventory.replace(gpus=tuple(gpus))


def _old_mig_name(uuid: str, device: MigDevice) -> str:
    return f"MIG-{uuid}/{device.gpu_instance}/{device.compute_instance}"

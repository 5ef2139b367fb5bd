"""Show what the host has: the driver, its GPUs, and what keeps containers from using them.

Devices of other vendors are those that CDI specification files describe.
"""

from __future__ import annotations

import json  # noqa: TID253  a command for people

from oci_gpu_hook.admin.cli import described, picture
from oci_gpu_hook.admin.cli.console import Working, console
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import DriverError, one_line
from oci_gpu_hook.base.files import read_text
from oci_gpu_hook.devices.nvidia import procfs, snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.everything import Listed
    from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory, MigDevice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--json", action="store_true", help="print JSON (schemas/info.schema.json)")
    parser.add_argument("--files", action="store_true", help="list the driver's files: capabilities, kind, path")
    parser.add_argument("--refresh", action="store_true", help="discover the host again")
    parser.add_argument("--unclaimed", action="store_true", help="list files of the driver that no capability brings")


def run(options: argparse.Namespace) -> int:
    """Print what the host has; exit status 0. Raises HookError when it has no usable driver."""
    config = configs.of_this_user(configs.load(options.config))
    others, trouble = described.of_host(config)
    try:
        with Working("looking at the driver and asking NVML"):
            inventory = snapshot.load(config, detailed=True, refresh=options.refresh)
    except DriverError:
        if others and _has_no_driver(config):
            return _show_others(others, trouble, as_json=options.json)
        if not options.json:
            _show_half(config)
        raise
    if options.json:
        document = to_json(inventory, unclaimed=options.unclaimed)
        print(json.dumps(_with_others(document, others, trouble), indent=2))
    elif options.unclaimed:
        for path in inventory.unclaimed:
            print(path)
    elif options.files:
        picture.show_files(inventory)
    else:
        picture.show(inventory, console())
        picture.show_described(tuple(described.lines(others)), trouble, console())
    return 0


def _has_no_driver(config: Config) -> bool:
    return read_text(f"{config.proc_root}/driver/nvidia/version") is None


def _show_others(others: tuple[Listed, ...], trouble: str, *, as_json: bool) -> int:
    """Print the devices of a host without a GPU of NVIDIA's."""
    if as_json:
        document: dict[str, object] = {"driver": None, "gpus": [], "warnings": []}
        print(json.dumps(_with_others(document, others, trouble), indent=2))
    else:
        picture.show_described(tuple(described.lines(others)), trouble, console(), first=True)
    return 0


def _with_others(document: dict[str, object], others: tuple[Listed, ...], trouble: str) -> dict[str, object]:
    if others:
        document["devices"] = [described.to_json(each) for each in others]
    if trouble:
        document["warnings"] = [*document["warnings"], trouble]  # type: ignore[misc]  # a list of texts
    return document


def to_json(inventory: Inventory, *, unclaimed: bool = False) -> dict[str, object]:
    """Return the form that `schemas/info.schema.json` describes; unknown values are null."""
    document: dict[str, object] = {
        "driver": {
            "version": inventory.driver_version or None,
            **({"platform": inventory.platform} if inventory.platform else {}),
            "cudaVersion": inventory.cuda_version or None,
            "libraries": len(inventory.libraries),
            "files": len(inventory.files),
            "missingNodes": [path for path, _ in inventory.missing_nodes],
        },
        "gpus": [_gpu_to_json(gpu) for gpu in inventory.gpus],
        "warnings": list(inventory.warnings),
    }
    if unclaimed:
        document["unclaimed"] = list(inventory.unclaimed)
    return document


def _gpu_to_json(gpu: Gpu) -> dict[str, object]:
    return {
        "index": gpu.index if gpu.index >= 0 else None,
        "uuid": gpu.uuid,
        "minor": gpu.minor,
        "busId": gpu.bus_id,
        "name": gpu.name,
        "brand": gpu.brand or None,
        "architecture": gpu.architecture or None,
        "memory": gpu.memory or None,
        "numaNode": gpu.numa_node,
        "pcieSwitch": gpu.pcie_switch or None,
        "nvlinks": [{"index": index, "links": links} for index, links in gpu.links],
        "persistenceMode": gpu.persistence_mode,
        "fault": gpu.fault or None,
        "migEnabled": gpu.mig_enabled,
        "migDevices": [_mig_to_json(mig) for mig in gpu.mig_devices],
    }


def _mig_to_json(mig: MigDevice) -> dict[str, object]:
    return {
        "index": mig.index,
        "uuid": mig.uuid,
        "profile": mig.profile or None,
        "memory": mig.memory or None,
        "gpuInstance": mig.gpu_instance,
        "computeInstance": mig.compute_instance,
    }


def _show_half(config: Config) -> None:
    """Print what the kernel's driver shows, for a host whose driver files do not suit containers."""
    text = read_text(f"{config.proc_root}/driver/nvidia/version")
    if text is None:
        return
    print(f"NVIDIA kernel driver {procfs.driver_version(text)}")
    for index, gpu in enumerate(procfs.gpus(config.proc_root)):
        print(f"  GPU {index}: {one_line(gpu.name)}  {gpu.bus_id}  {one_line(gpu.uuid)}")

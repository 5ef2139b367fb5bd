"""Make a host with GPUs in a directory, for machines that have none: NVIDIA's driver with all its files, an NVML that
answers, device nodes with the true numbers, /proc and /sys, and a config.toml that points to them all; with --platform
also GPUs of AMD and Intel, a WSL 2, a Jetson. Running it again replaces the host; its state directory stays. Needs a C
compiler and, for the nodes, root.
"""  # noqa: D205  the help text of the command, wrapped by argparse

from __future__ import annotations

from oci_gpu_hook.admin.cli.console import Working
from oci_gpu_hook.admin.simulate.host import PLATFORMS, make
from oci_gpu_hook.admin.simulate.layouts import DEFAULT_LAYOUT, LAYOUTS
from oci_gpu_hook.admin.simulate.model import DEFAULT_DRIVER_VERSION, NVIDIA
from oci_gpu_hook.admin.simulate.products import DEFAULT_PRODUCT, PRODUCTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from oci_gpu_hook.admin.simulate.model import SimulatedHost

_VENDORS = {"amd": "AMD", "intel": "Intel"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("directory", metavar="DIR", help="a new or empty directory, or a simulated host to replace")
    parser.add_argument("--gpus", metavar="N", type=int, default=1, help="how many GPUs (default: %(default)s)")
    parser.add_argument(
        "--product",
        metavar="PRODUCT",
        default=DEFAULT_PRODUCT,
        help=f"one of {', '.join(PRODUCTS)}, or a product's full name (default: %(default)s)",
    )
    parser.add_argument(
        "--platform",
        metavar="P,P,…",
        type=_names,
        default=[NVIDIA],
        help=f"whose GPUs, this many of each, or which platform: {', '.join(PLATFORMS)} (default: {NVIDIA})",
    )
    parser.add_argument(
        "--partitions", metavar="N", type=int, default=1, help="divide each AMD GPU into this many partitions"
    )
    parser.add_argument(
        "--driver-version", metavar="V", default=DEFAULT_DRIVER_VERSION, help="driver version (default: %(default)s)"
    )
    parser.add_argument(
        "--kernel-driver-version",
        metavar="V",
        help="version of the kernel modules where it is not the libraries', as after an upgrade without a reboot",
    )
    parser.add_argument("--cuda", metavar="V", help="CUDA version of the driver, e.g. 13.0 (default: the branch's own)")
    parser.add_argument("--mig", action="store_true", help="partition each GPU into MIG devices of three sizes")
    parser.add_argument(
        "--mig-profiles",
        metavar="P,P,…",
        type=_names,
        help="partition each GPU into these MIG devices, e.g. 3g.40gb,2g.20gb,1g.10gb",
    )
    parser.add_argument(
        "--layout",
        metavar="NAME",
        choices=LAYOUTS,
        default=DEFAULT_LAYOUT,
        help=f"where the driver's files are, as in {', '.join(LAYOUTS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="hosts of one seed have the same UUIDs (default: %(default)s)"
    )
    parser.add_argument(
        "--no-device-nodes", action="store_true", help="make no nodes: needs no root, but no container can be started"
    )
    parser.add_argument(
        "--sick",
        metavar="N,N,…",
        type=_numbers,
        default=(),
        help="GPUs that the driver could not start, counted from 0: /proc has no UUID of them, NVML does not list them",
    )
    parser.add_argument(
        "--lost",
        metavar="N,N,…",
        type=_numbers,
        default=(),
        help="GPUs that have fallen off the bus since, counted from 0: NVML says that they are lost",
    )
    parser.add_argument(
        "--xid",
        metavar="N:XID,…",
        type=_xids,
        default=(),
        help="errors of GPUs, counted from 0, for the kernel's log, DIR/kmsg, such as 0:79, which oci-gpu watch reads",
    )
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def run(options: argparse.Namespace) -> int:
    """Make the host and say what it is."""
    with Working("compiling the driver's libraries"):
        host = make(
            options.directory,
            gpus=options.gpus,
            product=options.product,
            driver_version=options.driver_version,
            kernel_driver_version=options.kernel_driver_version,
            cuda=options.cuda,
            mig=options.mig_profiles or options.mig,
            layout=options.layout,
            seed=options.seed,
            device_nodes=not options.no_device_nodes,
            sick=options.sick,
            lost=options.lost,
            platforms=options.platform,
            partitions=options.partitions,
            xids=options.xid,
        )
    if options.json:
        import json

        print(json.dumps(_document(host), indent=2))
    else:
        _show(host)
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in _names(text))


def _xids(text: str) -> list[tuple[int, int]]:
    pairs = [name.partition(":")[::2] for name in _names(text)]
    return [(int(place), int(number)) for place, number in pairs]


def _show(host: SimulatedHost) -> None:
    settings = host.settings
    kernel = settings.kernel_driver_version
    mismatch = f", kernel modules {kernel}" if kernel != settings.driver_version else ""
    driver = f": driver {settings.driver_version}, CUDA {settings.cuda}{mismatch}" if host.gpus else ""
    print(f"{host.directory}{driver}")
    for gpu in host.gpus:
        trouble = ", sick" * gpu.sick + ", lost" * gpu.lost
        print(f"  GPU {gpu.index}: {gpu.product.name} (UUID: {gpu.uuid}){trouble}")
        for index, device in enumerate(gpu.mig_devices):
            print(f"    MIG {device.profile.name:<11} Device {index}: (UUID: {device.uuid})")
    for other in host.others:
        part = f", part {other.part}" if other.parts > 1 else ""
        print(f"  {_VENDORS[other.vendor]} GPU at {other.address}{part}: {', '.join(other.names)}")
    print(f"Use it with --config {host.config}")


def _document(host: SimulatedHost) -> dict[str, Any]:
    """Return the host as JSON, keys in camelCase as in the other commands' output."""
    return {
        "directory": host.directory,
        "config": host.config,
        "driver": {
            "version": host.settings.driver_version,
            "kernelVersion": host.settings.kernel_driver_version,
            "cudaVersion": host.settings.cuda,
            "root": host.driver_root,
            "libraryDirectory": host.library_directory,
        },
        "gpus": [
            {
                "index": gpu.index,
                "uuid": gpu.uuid,
                "minor": gpu.minor,
                "busId": f"0000{gpu.bus_id}",
                "name": gpu.product.name,
                "migDevices": [
                    {"uuid": device.uuid, "profile": device.profile.name, "gpuInstance": device.gpu_instance}
                    for device in gpu.mig_devices
                ],
            }
            for gpu in host.gpus
        ],
        "others": [
            {"vendor": device.vendor, "address": device.address, "part": device.part, "nodes": list(device.names)}
            for device in host.others
        ],
    }

"""Makes a simulated host in a directory: a driver, its nodes, /proc and /sys, and the config.toml that points to them.

Tests and benchmarks call `make` and `upgrade`; `oci-gpu simulate` is their command.
"""

from __future__ import annotations

import os
import platform

from oci_gpu_hook.admin.simulate import kernel_log
from oci_gpu_hook.admin.simulate.gpus import default_profiles, in_the_chip, make_gpus
from oci_gpu_hook.admin.simulate.layouts import DEFAULT_LAYOUT, LAYOUTS
from oci_gpu_hook.admin.simulate.model import DEFAULT_DRIVER_VERSION, NVIDIA, Settings, SimulatedHost
from oci_gpu_hook.admin.simulate.nodes import free_numbers
from oci_gpu_hook.admin.simulate.other_platforms import TEGRA, WSL
from oci_gpu_hook.admin.simulate.other_vendors import AMD, INTEL, make_devices
from oci_gpu_hook.admin.simulate.products import (
    DEFAULT_PRODUCT,
    ORIN,
    THOR,
    cuda_version,
    driver_branch,
    product_named,
)
from oci_gpu_hook.admin.simulate.replace import layout_of, read_settings, replace
from oci_gpu_hook.base.errors import InvalidInput, SimulationError, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.admin.simulate.gpus import SimulatedGpu
    from oci_gpu_hook.admin.simulate.layouts import Layout
    from oci_gpu_hook.admin.simulate.products import Product

PLATFORMS: Final = (NVIDIA, AMD, INTEL, WSL, TEGRA)
_TOGETHER: Final = ({NVIDIA, AMD, INTEL}, {WSL}, {TEGRA, NVIDIA})  # platforms that one host may have
MACHINES: Final = ("x86_64", "aarch64")


def make(  # noqa: PLR0913  the settings of a host, each with a default
    directory: str,
    *,
    gpus: int = 1,
    product: str = DEFAULT_PRODUCT,
    driver_version: str = DEFAULT_DRIVER_VERSION,
    kernel_driver_version: str | None = None,
    cuda: str | None = None,
    mig: bool | Sequence[str] = False,
    layout: str = DEFAULT_LAYOUT,
    seed: int = 0,
    minors: Sequence[int] | None = None,
    device_nodes: bool = True,
    sick: Sequence[int] = (),
    lost: Sequence[int] = (),
    platforms: Sequence[str] = (NVIDIA,),
    partitions: int = 1,
    xids: Sequence[tuple[int, int]] = (),
) -> SimulatedHost:
    """Make a simulated host, or replace the one that is there.

    kernel_driver_version: of the kernel modules, where they are not of the libraries' version. cuda: the version that
    libcuda implements; by default the branch's own. mig: True for a partition of three sizes, or the profiles of each
    GPU. minors: N of /dev/nvidiaN of each GPU, by default its index. device_nodes: False where nodes cannot be made.
    sick, lost: places on the bus of GPUs that the driver could not start, and of those that have fallen off the bus.
    platforms: of `PLATFORMS`; the host has `gpus` GPUs of each, and a Tegra its own. partitions: of each of AMD's GPUs.
    xids: errors that the kernel's log gets, each as the place of a GPU and the number of the Xid.
    Raises InvalidInput for settings that make no host; SimulationError where this machine or the directory is unfit.
    """
    model = product_named(product)
    profiles = default_profiles(model) if mig is True else tuple(mig or ())
    if layout not in LAYOUTS:
        raise InvalidInput("layout", f"{quoted(layout)} is not known", f"choose one of {', '.join(LAYOUTS)}", "OGH2001")
    for name in platforms:
        if name not in PLATFORMS:
            raise InvalidInput(
                "platform", f"{quoted(name)} is not known", f"choose of {', '.join(PLATFORMS)}", "OGH2001"
            )
    if not any(possible.issuperset(platforms) for possible in _TOGETHER):
        remedy = f"choose {WSL} alone, {TEGRA} alone or with {NVIDIA}, or of {NVIDIA}, {AMD}, {INTEL}"
        raise InvalidInput("platforms", f"no host is {' and '.join(platforms)}", remedy, "OGH2001")
    kernel = kernel_driver_version or driver_version
    driver_branch(kernel)
    settings = Settings(
        gpus=gpus,
        product=product,
        driver_version=driver_version,
        kernel_driver_version=kernel,
        cuda=cuda_version(driver_branch(driver_version), cuda),
        mig_profiles=profiles,
        layout=layout,
        seed=seed,
        minors=None if minors is None else tuple(minors),
        device_nodes=device_nodes,
        sick=tuple(sick),
        lost=tuple(lost),
        platforms=tuple(platforms),
        partitions=partitions,
    )
    placed = _placed(settings, model)
    for place, number in xids:
        if not 0 <= place < gpus:
            raise InvalidInput(f"Xid {number} of GPU {place}", f"the host has {gpus}", "count GPUs from 0", "OGH2001")
    machine = platform.machine()
    if machine not in MACHINES:
        raise SimulationError("machine", f"{quoted(machine)} is not supported", f"use one of {', '.join(MACHINES)}")
    host = _host(_usable_path(directory), settings, placed, layout_of(settings, machine))
    try:
        replace(host, machine)
        kernel_log.report(host, xids)
    except OSError as error:
        where = f" at {quoted(error.filename)}" if error.filename else ""
        remedy = "check that the directory is writable and has some megabytes free"
        raise SimulationError(
            f"simulated host {quoted(directory)}", reason(error) + where, remedy, "OGH2004"
        ) from error
    return host


def upgrade(directory: str, driver_version: str, *, libraries: bool = True, kernel: bool = True) -> SimulatedHost:
    """Change the driver's version of a simulated host, all else being as it was.

    libraries alone: a package upgrade before the reboot. kernel alone: a module loaded without its libraries.
    Raises InvalidInput when there is no simulated host in the directory, and what `make` raises.
    """
    settings = read_settings(_usable_path(directory))
    if settings is None:
        raise InvalidInput(quoted(directory), "is not a simulated host", "make one with oci-gpu simulate", "OGH2001")
    return make(
        directory,
        gpus=settings.gpus,
        product=settings.product,
        driver_version=driver_version if libraries else settings.driver_version,
        kernel_driver_version=driver_version if kernel else settings.kernel_driver_version,
        mig=settings.mig_profiles,
        layout=settings.layout,
        seed=settings.seed,
        minors=settings.minors,
        device_nodes=settings.device_nodes,
        sick=settings.sick,
        lost=settings.lost,
        platforms=settings.platforms,
        partitions=settings.partitions,
    )


def _placed(settings: Settings, model: Product) -> tuple[SimulatedGpu, ...]:
    """Return NVIDIA's GPUs: a Tegra's own comes first, as GPU 0, then cards."""
    found: tuple[SimulatedGpu, ...] = ()
    has_cards = NVIDIA in settings.platforms
    if has_cards or WSL in settings.platforms:
        found = make_gpus(
            settings.gpus,
            model,
            seed=settings.seed,
            minors=settings.minors,
            mig_profiles=settings.mig_profiles,
            sick=settings.sick,
            lost=settings.lost,
        )
    if WSL in settings.platforms:
        return tuple(gpu.replace(node="dxg") for gpu in found)
    if TEGRA in settings.platforms:
        chip = in_the_chip(THOR if has_cards else ORIN, seed=settings.seed, on_bus=has_cards)
        return (chip, *(gpu.replace(index=gpu.index + 1, minor=gpu.minor + 1, peer=None) for gpu in found))
    return found


def _usable_path(directory: str) -> str:
    path = os.path.abspath(directory)
    if not path.isprintable():
        raise InvalidInput(
            "directory", f"{quoted(path)} has characters that cannot be shown", "choose a plain name", "OGH2001"
        )
    return path


def _host(directory: str, settings: Settings, gpus: tuple[SimulatedGpu, ...], layout: Layout) -> SimulatedHost:
    numbers = free_numbers()
    return SimulatedHost(
        directory=directory,
        config=f"{directory}/config.toml",
        driver_root=os.path.join(directory, "driver", layout.root).rstrip("/"),
        dev_root=directory,
        proc_root=f"{directory}/proc",
        sys_root=f"{directory}/sys",
        state_dir=f"{directory}/state",
        library_directory=f"/{layout.libraries}",
        library_directory32=f"/{layout.libraries32}",
        settings=settings,
        gpus=gpus,
        numbers=numbers,
        others=make_devices(
            settings.platforms,
            count=settings.gpus,
            parts=settings.partitions,
            seed=settings.seed,
            numbers=numbers,
            taken=len(gpus),
        ),
    )

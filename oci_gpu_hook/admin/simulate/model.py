"""What a simulated host was asked to be, and what it is."""

from __future__ import annotations

from oci_gpu_hook.admin.simulate.layouts import DEFAULT_LAYOUT
from oci_gpu_hook.admin.simulate.products import DEFAULT_PRODUCT
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.admin.simulate.gpus import SimulatedGpu
    from oci_gpu_hook.admin.simulate.nodes import Numbers
    from oci_gpu_hook.admin.simulate.other_vendors import SimulatedDevice

NVIDIA: Final = "nvidia"
DEFAULT_DRIVER_VERSION: Final = "580.159.04"


class Settings(Record):
    """What a simulated host was asked to be, as simulation.json keeps it. mig_profiles: of each GPU; () for MIG off.

    sick, lost: places on the bus, counted from 0, of GPUs that the driver could not start, and that fell off the bus.
    platforms: whose GPUs there are, so many of each. partitions: of each GPU of AMD's.
    """

    gpus: int = 1
    product: str = DEFAULT_PRODUCT
    driver_version: str = DEFAULT_DRIVER_VERSION
    kernel_driver_version: str
    cuda: str
    mig_profiles: tuple[str, ...] = ()
    layout: str = DEFAULT_LAYOUT
    seed: int = 0
    minors: tuple[int, ...] | None = None
    device_nodes: bool = True
    sick: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    platforms: tuple[str, ...] = (NVIDIA,)
    partitions: int = 1


class SimulatedHost(Record):
    """A simulated host as it stands in `directory`; every path absolute.

    driver_root, dev_root, proc_root, sys_root, state_dir: what config.toml says. library_directory,
    library_directory32: below driver_root, with a leading slash. gpus: NVIDIA's; others: those of other vendors.
    """

    directory: str
    config: str
    driver_root: str
    dev_root: str
    proc_root: str
    sys_root: str
    state_dir: str
    library_directory: str
    library_directory32: str
    settings: Settings
    gpus: tuple[SimulatedGpu, ...]
    numbers: Numbers
    others: tuple[SimulatedDevice, ...] = ()

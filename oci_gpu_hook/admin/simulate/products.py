"""The products a simulated host may have, and the CUDA version of each driver branch.

Sources: PCI ids from the PCI ID repository (pci.ids, vendor 10de); memory totals and brands as `nvidia-smi -q` shows
them; MIG profiles from NVIDIA's MIG user guide; NVLink counts from the products' data sheets.
"""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

BRANDS: Final = {"Tesla": 2, "GeForce": 5, "NVIDIA RTX": 13, "NVIDIA": 14, "GeForce RTX": 15}  # nvmlBrandType_t
CONSUMER_BRANDS: Final = ("GeForce", "GeForce RTX")  # whose CUDA knows no forward compatibility
ARCHITECTURES: Final = {  # compute capability → nvmlDeviceArchitecture_t
    "7.0": 5, "7.5": 6, "8.0": 7, "8.6": 7, "8.7": 7, "8.9": 8, "9.0": 9, "10.0": 10, "11.0": 10, "12.0": 10,
}  # fmt: skip


class MigProfile(Record):
    """A MIG profile: compute slices of seven, memory slices of eight."""

    name: str
    compute_slices: int
    memory_slices: int


class Product(Record):
    """A GPU model. memory: MiB as NVML reports; multiprocessors: of the GPU and of one MIG slice."""

    name: str
    brand: str = "NVIDIA"
    compute_capability: str
    memory: int
    device_id: int
    subsystem_id: int
    pci_class: int = 0x030200  # 3D controller
    multiprocessors: int
    nvlinks: int = 0
    slice_multiprocessors: int = 0
    mig_profiles: tuple[MigProfile, ...] = ()

    @property
    def has_gsp(self) -> bool:
        """Whether there is a GPU system processor, which the open kernel modules need: from Turing on."""
        return float(self.compute_capability) >= 7.5

    @property
    def forward_compatible(self) -> bool:
        """Whether CUDA's compatibility libraries serve it: on other GPUs they fail with error 804."""
        return self.brand not in CONSUMER_BRANDS


def _profiles(*sizes: int) -> tuple[MigProfile, ...]:
    """Return the profiles of a GPU whose 1g, 2g, 3g and 7g profiles have these sizes in GB."""
    one, two, three, seven = sizes
    shapes = ((1, 1, one), (1, 2, two), (2, 2, two), (3, 4, three), (4, 4, three), (7, 8, seven))
    return tuple(MigProfile(name=f"{c}g.{gb}gb", compute_slices=c, memory_slices=m) for c, m, gb in shapes)


PRODUCTS: Final = {
    "A100-40GB": Product(
        name="NVIDIA A100-SXM4-40GB",
        compute_capability="8.0",
        memory=40960,
        device_id=0x20B0,
        subsystem_id=0x144E10DE,
        multiprocessors=108,
        nvlinks=12,
        slice_multiprocessors=14,
        mig_profiles=_profiles(5, 10, 20, 40),
    ),
    "A100": Product(
        name="NVIDIA A100-SXM4-80GB",
        compute_capability="8.0",
        memory=81920,
        device_id=0x20B2,
        subsystem_id=0x146310DE,
        multiprocessors=108,
        nvlinks=12,
        slice_multiprocessors=14,
        mig_profiles=_profiles(10, 20, 40, 80),
    ),
    "B200": Product(
        name="NVIDIA B200",
        compute_capability="10.0",
        memory=183359,
        device_id=0x2901,
        subsystem_id=0x199910DE,
        multiprocessors=148,
        nvlinks=18,
        slice_multiprocessors=18,
        mig_profiles=_profiles(23, 45, 90, 180),
    ),
    "H100": Product(
        name="NVIDIA H100 80GB HBM3",
        compute_capability="9.0",
        memory=81559,
        device_id=0x2330,
        subsystem_id=0x16C110DE,
        multiprocessors=132,
        nvlinks=18,
        slice_multiprocessors=16,
        mig_profiles=_profiles(10, 20, 40, 80),
    ),
    "H200": Product(
        name="NVIDIA H200",
        compute_capability="9.0",
        memory=143771,
        device_id=0x2335,
        subsystem_id=0x18BE10DE,
        multiprocessors=132,
        nvlinks=18,
        slice_multiprocessors=16,
        mig_profiles=_profiles(18, 35, 71, 141),
    ),
    "L4": Product(
        name="NVIDIA L4",
        compute_capability="8.9",
        memory=23034,
        device_id=0x27B8,
        subsystem_id=0x16CA10DE,
        multiprocessors=58,
    ),
    "L40S": Product(
        name="NVIDIA L40S",
        compute_capability="8.9",
        memory=46068,
        device_id=0x26B9,
        subsystem_id=0x185110DE,
        multiprocessors=142,
    ),
    "RTX-4090": Product(
        name="NVIDIA GeForce RTX 4090",
        brand="GeForce RTX",
        compute_capability="8.9",
        memory=24564,
        device_id=0x2684,
        subsystem_id=0x167C10DE,
        pci_class=0x030000,  # VGA controller
        multiprocessors=128,
    ),
    "RTX-A6000": Product(
        name="NVIDIA RTX A6000",
        brand="NVIDIA RTX",
        compute_capability="8.6",
        memory=49140,
        device_id=0x2230,
        subsystem_id=0x145910DE,
        pci_class=0x030000,
        multiprocessors=84,
    ),
    "T4": Product(
        name="Tesla T4",
        compute_capability="7.5",
        memory=15360,
        device_id=0x1EB8,
        subsystem_id=0x12A210DE,
        multiprocessors=40,
    ),
    "V100": Product(
        name="Tesla V100-SXM2-16GB",
        brand="Tesla",
        compute_capability="7.0",
        memory=16384,
        device_id=0x1DB1,
        subsystem_id=0x121210DE,
        multiprocessors=80,
        nvlinks=6,
    ),
}
DEFAULT_PRODUCT: Final = "H100"
ORIN: Final = Product(
    name="Orin (nvgpu)", compute_capability="8.7", memory=0, device_id=0, subsystem_id=0, multiprocessors=16
)
THOR: Final = Product(
    name="NVIDIA Thor", compute_capability="11.0", memory=0, device_id=0, subsystem_id=0, multiprocessors=20
)

# Driver branch → the CUDA version that its libcuda implements: CUDA release notes, "CUDA Driver".
CUDA_OF_BRANCH: Final = {
    450: "11.0",
    460: "11.2",
    470: "11.4",
    510: "11.6",
    515: "11.7",
    520: "11.8",
    525: "12.0",
    530: "12.1",
    535: "12.2",
    545: "12.3",
    550: "12.4",
    555: "12.5",
    560: "12.6",
    565: "12.7",
    570: "12.8",
    575: "12.9",
    580: "13.0",
    590: "13.1",
    595: "13.2",
}


def product_named(name: str) -> Product:
    """Return the product by its key or full name, whatever the case. Raises InvalidInput."""
    wanted = name.casefold()
    for key, product in PRODUCTS.items():
        if wanted in (key.casefold(), product.name.casefold()):
            return product
    raise InvalidInput("product", f"{quoted(name)} is not known", f"choose one of {', '.join(PRODUCTS)}", "OGH2001")


def driver_branch(version: str) -> int:
    """Return the branch of a driver version, 580 of 580.159.04. Raises InvalidInput when it is no driver version."""
    parts = version.split(".")
    if len(parts) in (2, 3) and all(part.isascii() and part.isdigit() and len(part) <= 4 for part in parts):
        branch = int(parts[0])
        if branch >= min(CUDA_OF_BRANCH):
            return branch
    oldest = min(CUDA_OF_BRANCH)
    raise InvalidInput(
        "driver version",
        f"{quoted(version)} is not a version of a driver from branch {oldest} on",
        "give it as NVIDIA writes it, e.g. 580.159.04",
        "OGH2001",
    )


def cuda_version(branch: int, wanted: str | None) -> str:
    """Return the CUDA version of a driver of this branch, or the one wanted. Raises InvalidInput."""
    if wanted is None:
        return CUDA_OF_BRANCH[max(known for known in CUDA_OF_BRANCH if known <= branch)]
    major, dot, minor = wanted.partition(".")
    if dot and all(part.isascii() and part.isdigit() and len(part) <= 2 for part in (major, minor)):
        return wanted
    raise InvalidInput("CUDA version", f"{quoted(wanted)} is not MAJOR.MINOR", "give it as 13.0", "OGH2001")

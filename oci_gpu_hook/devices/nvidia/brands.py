"""Determines the product family of a GPU from its name, which is known without NVML. Pure.

The numbers are those of NVML (nvml.h, nvmlBrandType_t). The notes of CUDA's compatibility libraries list them under
`device`: [1,2,7,8,9,10,11,12,13,14] in branches 575 and 590. These are the families that NVIDIA's documents name, and
all vGPUs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

UNKNOWN: Final = 0
QUADRO: Final = 1
TESLA: Final = 2
NVS: Final = 3
GEFORCE: Final = 5
TITAN: Final = 6
QUADRO_RTX: Final = 12
NVIDIA_RTX: Final = 13
NVIDIA: Final = 14
GEFORCE_RTX: Final = 15
TITAN_RTX: Final = 16

# Forward compatibility is "applicable only for systems with NVIDIA Data Center GPUs, select NGC Server Ready SKUs of
# RTX cards, Jetson boards" (CUDA Compatibility, "Forward Compatibility"). On others CUDA fails with error 804,
# cudaErrorCompatNotSupportedOnDevice. NVIDIA does not publish which SKUs of RTX are meant, and the libraries' notes
# list whole families, so the decision for these is left to the libraries.
WITHOUT_FORWARD_COMPATIBILITY: Final = frozenset({NVS, GEFORCE, TITAN, GEFORCE_RTX, TITAN_RTX})

# In this order, since `GeForce GTX TITAN X` is a GeForce.
_WORDS: Final = (
    ("geforce", GEFORCE, GEFORCE_RTX),
    ("titan", TITAN, TITAN_RTX),
    ("quadro", QUADRO, QUADRO_RTX),
    ("nvs", NVS, NVS),
    ("tesla", TESLA, TESLA),
    ("rtx", NVIDIA_RTX, NVIDIA_RTX),
    ("nvidia", NVIDIA, NVIDIA),
)


def of(name: str) -> int:
    """Return the family of a product such as `NVIDIA GeForce RTX 4090`, UNKNOWN if its name does not tell."""
    words = name.lower().split()
    for word, plain, rtx in _WORDS:
        if word in words:
            return rtx if "rtx" in words else plain
    return UNKNOWN

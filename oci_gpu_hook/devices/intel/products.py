"""What Intel's GPUs are called, by the product number that the PCI bus has of them; the drivers tell no name.

Source: intel/intel-resource-drivers-for-kubernetes, pkg/gpu/device/models.go.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_MAX_1550, _MAX_1450, _MAX_1100 = (f"Data Center GPU Max {number}" for number in (1550, 1450, 1100))
_NAMES: Final = {
    "0x0b69": _MAX_1550,
    "0x0bd0": _MAX_1550,
    "0x0bd5": _MAX_1550,
    "0x0bd6": _MAX_1450,
    "0x0bd9": _MAX_1100,
    "0x0bda": _MAX_1100,
    "0x0bdb": _MAX_1100,
    "0x56c0": "Data Center GPU Flex 170",
    "0x56c1": "Data Center GPU Flex 140",
    "0x56a0": "Arc A770",
    "0x56a1": "Arc A750",
    "0x56a2": "Arc A580",
    "0x56a5": "Arc A380",
    "0x56a6": "Arc A310",
    "0x56b0": "Arc Pro A30M",
    "0x56b1": "Arc Pro A40/A50",
    "0x56b2": "Arc Pro A60M",
    "0x56b3": "Arc Pro A60",
    "0xe20b": "Arc B580",
    "0xe20c": "Arc B570",
    "0xe211": "Arc Pro B60",
    "0xe212": "Arc Pro B50",
    "0xe222": "Arc Pro B65",
    "0xe223": "Arc Pro B70",
}


def name(product: str) -> str:
    """Return what the GPU of a product number, `0x56c0`, is called: the number, if the table has no name."""
    return _NAMES.get(product, f"Intel {product}" if product else "")

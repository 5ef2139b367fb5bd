"""The classes of the devices that this host is written down as in CDI specifications, as NVIDIA's toolkit has them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

FEATURE_CLASSES: Final = ("gds", "mofed", "nvswitch", "gdrcopy")  # of one device each, `all`
CLASSES: Final = ("gpu", "mig", "imex-channel", *FEATURE_CLASSES)

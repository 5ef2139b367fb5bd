"""The classes of this host's devices in CDI specifications, the same as NVIDIA's toolkit writes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

FEATURE_CLASSES: Final = ("gds", "mofed", "nvswitch", "gdrcopy")  # with one device each, `all`
CLASSES: Final = ("gpu", "mig", "imex-channel", *FEATURE_CLASSES)

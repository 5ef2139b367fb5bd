"""CDI-qualified names, `vendor/class=name`, and what those of NVIDIA's vendors mean here.

Source: Container Device Interface 1.1.0, SPEC.md ("Kind", "Device names"). Classes: those that nvidia-ctk and NVIDIA's
Kubernetes device plugin write: gpu, mig, imex-channel, gds, mofed, gdrcopy, nvswitch, under nvidia.com and the vendors
below it (runtime.nvidia.com, k8s.device-plugin.nvidia.com, management.nvidia.com).
"""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

FEATURE_CLASSES: Final = ("gds", "mofed", "nvswitch", "gdrcopy")
_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_ALPHANUMERIC: Final = _LETTERS | frozenset("0123456789")


class QualifiedName(Record):
    """The three parts of a CDI name."""

    vendor: str
    device_class: str
    name: str

    @property
    def is_nvidia(self) -> bool:
        """Whether the vendor is NVIDIA, under any of its names."""
        return is_nvidia(self.vendor)

    @property
    def device(self) -> str:
        """The name as NVIDIA_VISIBLE_DEVICES has it, "" when it is no GPU or MIG device.

        nvidia-ctk's strategy "type-index" calls GPU 0 `gpu0` and its first MIG device `mig0:0`.
        """
        if self.device_class not in ("gpu", "mig"):
            return ""
        for prefix in ("gpu", "mig"):
            if self.name.removeprefix(prefix)[:1].isdecimal():
                return self.name.removeprefix(prefix)
        return self.name

    @property
    def imex_channel(self) -> str:
        """The IMEX channel that it names, or ""."""
        return self.name if self.device_class == "imex-channel" else ""

    @property
    def feature(self) -> str:
        """The feature that it names ("gds", …), or ""."""
        return self.device_class if self.device_class in FEATURE_CLASSES else ""


def parse(text: str) -> QualifiedName | None:
    """Return the parts of a CDI-qualified name, None when the text is none."""
    kind, equals, name = text.partition("=")
    vendor, slash, device_class = kind.partition("/")
    if not (equals and slash and _is_kind_part(vendor, "_-.") and _is_kind_part(device_class, "_-.")):
        return None
    if not (_ends_well(name) and name[0] in _ALPHANUMERIC and _ALPHANUMERIC.union("_-.:").issuperset(name)):
        return None
    return QualifiedName(vendor=vendor, device_class=device_class, name=name)


def is_nvidia(vendor: str) -> bool:
    """Tell whether a CDI vendor is one of NVIDIA's."""
    return vendor == "nvidia.com" or vendor.endswith(".nvidia.com")


def _is_kind_part(text: str, punctuation: str) -> bool:
    return _ends_well(text) and text[0] in _LETTERS and _ALPHANUMERIC.union(punctuation).issuperset(text)


def _ends_well(text: str) -> bool:
    return text[-1:] in _ALPHANUMERIC

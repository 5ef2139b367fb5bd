"""CDI-qualified names, `vendor/class=name`: Container Device Interface 1.1.0, SPEC.md ("Kind", "Device names")."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record
from oci_gpu_hook.request.model import DEFAULT_KIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

# Vendors whose devices are served here, and the kind by which they are requested.
_SERVED: Final[Mapping[str, str]] = {"nvidia.com": DEFAULT_KIND}
_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_ALPHANUMERIC: Final = _LETTERS | frozenset("0123456789")


class QualifiedName(Record):
    """The three parts of a CDI name."""

    vendor: str
    device_class: str
    name: str


def parse(text: str) -> QualifiedName | None:
    """Return the parts of a CDI-qualified name, None if the text is not one."""
    kind, equals, name = text.partition("=")
    vendor, slash, device_class = kind.partition("/")
    if not (equals and slash and _is_kind_part(vendor, "_-.") and _is_kind_part(device_class, "_-.")):
        return None
    if not (_ends_well(name) and name[0] in _ALPHANUMERIC and _ALPHANUMERIC.union("_-.:").issuperset(name)):
        return None
    return QualifiedName(vendor=vendor, device_class=device_class, name=name)


def kind_of(vendor: str) -> str:
    """Return the kind of a CDI vendor's devices, also for vendors below it; "" if it is not served here."""
    for domain, kind in _SERVED.items():
        if vendor == domain or vendor.endswith("." + domain):
            return kind
    return ""


def _is_kind_part(text: str, punctuation: str) -> bool:
    return _ends_well(text) and text[0] in _LETTERS and _ALPHANUMERIC.union(punctuation).issuperset(text)


def _ends_well(text: str) -> bool:
    return text[-1:] in _ALPHANUMERIC

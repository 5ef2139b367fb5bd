"""Checks names of devices by their form. Allocation checks whether this host has such a device.

Forms: libnvidia-container (src/cli/common.c, select_devices): a GPU's index, its UUID, its PCI bus id; a MIG device's
UUID, also in the old form `MIG-GPU-<uuid>/<gi>/<ci>`, or `<gpu>:<mig>` by indices. The UUID of an Orin's GPU has
nothing before it (nvidia-container-toolkit, pkg/nvcdi/lib-csv.go, isOrinGPUID). One form is not in NVIDIA's interface:
a MIG profile, which means any MIG device of that profile.
"""

from __future__ import annotations

from oci_gpu_hook.request.values import digits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MOUNT_ROOT: Final = "/var/run/nvidia-container-devices/"  # a mount below it asks for the device of its name
_HEX: Final = frozenset("0123456789abcdef")
_UUID_GROUPS: Final = (8, 4, 4, 4, 12)
_OPAQUE: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


def normal(text: str) -> str:
    """Return the name in the form in which allocation compares it, "" if the text has none of the forms.

    `01` becomes `1`; `0:6:0` and `0000:00:06.0` become `00000000:00:06.0`. UUIDs keep their letter case.
    """
    index = digits(text)
    if index is not None:
        return str(index)
    if _is_gpu_uuid(text) or _is_mig_uuid(text) or _is_uuid(text):
        return text
    return _mig_indices(text) or _bus_id(text) or _profile(text)


def is_profile(name: str) -> bool:
    """Tell whether a normal name is a MIG profile, such as `1g.10gb`."""
    return _profile(name) == name != ""


def is_opaque(text: str) -> bool:
    """Tell whether a text of no known form still looks like a device's name, as `gpu0` and `GPU-1111` do.

    A driver may add forms, so only the host can tell that it has no such device.
    """
    lower = text.lower()
    kind, rest = lower[:3], lower[3:]
    if kind not in ("gpu", "mig") or not (rest[:1] == "-" or rest[:1].isdecimal()):
        return False
    return rest != "-" and _OPAQUE.issuperset(rest)


def _is_uuid(text: str) -> bool:
    groups = text.lower().split("-")
    return tuple(map(len, groups)) == _UUID_GROUPS and _HEX.issuperset("".join(groups))


def _is_gpu_uuid(text: str) -> bool:
    return text[:4].lower() == "gpu-" and _is_uuid(text[4:])


def _is_mig_uuid(text: str) -> bool:
    if text[:4].lower() != "mig-":
        return False
    parent, *instances = text[4:].split("/")
    if instances:
        return _is_gpu_uuid(parent) and len(instances) == 2 and all(digits(number) is not None for number in instances)
    return _is_uuid(parent)


def _mig_indices(text: str) -> str:
    gpu, colon, mig = text.partition(":")
    first, second = digits(gpu), digits(mig)
    return f"{first}:{second}" if colon and first is not None and second is not None else ""


def _bus_id(text: str) -> str:
    """Return `DOMAIN:BUS:DEVICE[.FUNCTION]` as NVML writes it, always with function 0, which is the GPU."""
    address, dot, function = text.lower().partition(".")
    parts = address.split(":")
    if len(parts) != 3 or (dot and (len(function) != 1 or function not in "01234567")):
        return ""
    padded = []
    for part, width in zip(parts, (8, 2, 2), strict=True):
        if not 0 < len(part) <= width or not _HEX.issuperset(part):
            return ""
        padded.append(part.zfill(width))
    return ":".join(padded) + ".0"


def _profile(text: str) -> str:
    """Return a MIG profile in lower case: `[Cc.]Gg.Mgb`, then attributes such as `+me`, `+me.all`, `-me`, `+gfx`.

    Source: NVIDIA's MIG User Guide, "Device Names" and the profile tables.
    """
    lower = text.lower()
    size = lower
    for sign in "+-":
        size, found, attributes = size.partition(sign)
        if found and not (attributes.replace(".", "").isalnum() and attributes.isascii()):
            return ""
    parts = size.split(".")
    units = ("g", "gb") if len(parts) == 2 else ("c", "g", "gb")
    if len(parts) != len(units):
        return ""
    for part, unit in zip(parts, units, strict=True):
        if digits(part[: -len(unit)]) is None or not part.endswith(unit):
            return ""
    return lower

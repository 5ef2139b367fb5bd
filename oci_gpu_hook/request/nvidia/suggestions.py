"""Suggests corrections of device names. Imported only for an error message."""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.request.nvidia.names import MOUNT_ROOT, normal
from oci_gpu_hook.request.suggestions import word
from oci_gpu_hook.request.values import digits, items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_WORDS: Final = ("all", "none", "void")
_LONGEST_NAME: Final = 256  # characters; longer texts are not misspellings
_LONGEST_RANGE: Final = 64  # more GPUs than any host has


def refused(text: str, what: str) -> InvalidInput:
    """Return the error for a name that no device can have. `what` names the variable and its value."""
    if text.rstrip("/") == MOUNT_ROOT.rstrip("/"):  # NVIDIA's device plugin sets it besides mounts
        why = "the devices are named by volume mounts, which are not read here"
        remedy = "set accept-nvidia-visible-devices-as-volume-mounts = true in [request] of config.toml, and "
        remedy += f"mount /dev/null at {MOUNT_ROOT}DEVICE"
        return InvalidInput(what, why, remedy, "OGH1211")
    forms = "all, none, void, an index, GPU-<uuid>, MIG-<uuid>, GPU:MIG indices, a PCI bus id"
    nearest = device(text) if len(text) <= _LONGEST_NAME else ""
    remedy = f"did you mean {quoted(nearest)}? allowed: {forms}" if nearest else f"allowed: {forms}"
    return InvalidInput(what, f"{quoted(text)} cannot be the name of a device", remedy, "OGH1211")


def device(text: str) -> str:
    """Return a correction of a name that no device can have, "" if there is none."""
    bare = "".join(character for character in text if character.isalnum() or character in "-:./,; ").strip()
    if bare.lower() in _WORDS:
        return bare.lower()
    if text.strip() == "*":
        return "all"
    if bare[:1] == "-" and digits(bare[1:]) is not None:
        return "none"  # the meaning of CUDA_VISIBLE_DEVICES=-1
    first, dash, last = bare.partition("-")
    low, high = digits(first.strip()), digits(last.strip())
    if dash and low is not None and high is not None and low <= high < low + _LONGEST_RANGE:
        return ",".join(map(str, range(low, high + 1)))
    listed = [normal(item) for item in items(bare.replace(";", ",").replace(" ", ","))]
    if listed and all(listed):
        return ",".join(listed)
    return normal(bare.lstrip("./")) or _of_index(bare.lower()) or word(bare, _WORDS)


def _of_index(lower: str) -> str:
    """Return the index that `gpu0` or `nvidia0` probably means."""
    for prefix in ("/dev/nvidia", "nvidia", "gpu-", "gpu"):
        if lower.startswith(prefix) and (index := digits(lower.removeprefix(prefix))) is not None:
            return str(index)
    return ""

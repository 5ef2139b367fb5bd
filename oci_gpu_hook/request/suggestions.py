"""What a misspelt word was probably meant to be. Imported only to word a failure: difflib costs as much as the hook."""

from __future__ import annotations

from difflib import get_close_matches

from oci_gpu_hook.request.names import normal
from oci_gpu_hook.request.values import digits, items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

_WORDS: Final = ("all", "none", "void")
_LONGEST_RANGE: Final = 64  # more GPUs than any host has


def word(text: str, allowed: Iterable[str]) -> str:
    """Return the allowed word nearest to a text, "" when none is near."""
    matches = get_close_matches(text.strip().lower(), list(allowed), n=1, cutoff=0.6)
    return matches[0] if matches else ""


def device(text: str) -> str:
    """Return what to write in place of a name that no device can have, "" when there is no telling."""
    bare = "".join(character for character in text if character.isalnum() or character in "-:./,; ").strip()
    if bare.lower() in _WORDS:
        return bare.lower()
    if text.strip() == "*":
        return "all"
    if bare[:1] == "-" and digits(bare[1:]) is not None:
        return "none"  # what CUDA_VISIBLE_DEVICES=-1 means
    first, dash, last = bare.partition("-")
    low, high = digits(first.strip()), digits(last.strip())
    if dash and low is not None and high is not None and low <= high < low + _LONGEST_RANGE:
        return ",".join(map(str, range(low, high + 1)))
    listed = [normal(item) for item in items(bare.replace(";", ",").replace(" ", ","))]
    if listed and all(listed):
        return ",".join(listed)
    return normal(bare.lstrip("./")) or _of_index(bare.lower()) or word(bare, _WORDS)


def _of_index(lower: str) -> str:
    """Return the index that `gpu0` or `nvidia0` means to say."""
    for prefix in ("/dev/nvidia", "nvidia", "gpu-", "gpu"):
        if lower.startswith(prefix) and (index := digits(lower.removeprefix(prefix))) is not None:
            return str(index)
    return ""

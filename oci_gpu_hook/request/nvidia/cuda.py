"""Reads CUDA_VERSION of old images, which requires a version of the driver."""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import InvalidInput, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_PART_BITS: Final = (32, 32, 64)
_SUFFIX: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-")


def major_minor(version: str) -> str:
    """Return `MAJOR.MINOR` of a version with one to three parts and, optionally, `-PRERELEASE` and `+BUILD`.

    Raises InvalidInput.
    """
    release, plus, build = version.partition("+")
    release, dash, prerelease = release.partition("-")
    parts = release.removeprefix("v").split(".")
    suffixes_fit = (not plus or _is_suffix(build)) and (not dash or _is_prerelease(prerelease))
    if len(version) > limits.CUDA_VERSION or len(parts) > 3 or not suffixes_fit:
        raise _no_version(version)
    numbers = []
    for part, bits in zip(parts, _PART_BITS, strict=False):
        if not (part.isascii() and part.isdecimal()) or int(part) >= 1 << bits:
            raise _no_version(version)
        numbers.append(int(part))
    return f"{numbers[0]}.{numbers[1] if len(numbers) > 1 else 0}"


def _is_suffix(text: str) -> bool:
    return all(part and _SUFFIX.issuperset(part) for part in text.split("."))


def _is_prerelease(text: str) -> bool:
    """Semantic Versioning 2.0.0, section 9: a numeric part has no leading zero."""
    zero_led = (part.isdecimal() and part[0] == "0" and part != "0" for part in text.split(".") if part)
    return _is_suffix(text) and not any(zero_led)


def _no_version(version: str) -> InvalidInput:
    remedy = "write one to three numbers, such as 12.4; NVIDIA_DISABLE_REQUIRE=1 skips the check"
    return InvalidInput(f"CUDA_VERSION={quoted(version)}", "is not a version of CUDA", remedy, "OGH1214")

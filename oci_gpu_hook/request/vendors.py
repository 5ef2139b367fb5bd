"""The words of each vendor, by the kind of its devices. They are imported when they are needed."""

from __future__ import annotations

from oci_gpu_hook.request.model import DEFAULT_KIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final

    from oci_gpu_hook.request.vendor import Words


def of(kind: str) -> Words:
    """Return the words for devices of a kind that is served."""
    return _WORDS[kind]()


def _nvidia() -> Words:
    from oci_gpu_hook.request.nvidia import words

    return words


def _amd() -> Words:
    from oci_gpu_hook.request.amd import words

    return words


_WORDS: Final[Mapping[str, Callable[[], Words]]] = {DEFAULT_KIND: _nvidia}
KINDS: Final = tuple(_WORDS)  # in the order in which their mounts and variables are read
# Vendors whose words are a variable alone, by it; all else is as for every kind (other_kinds.py).
BY_VARIABLE: Final[Mapping[str, tuple[str, Callable[[], Words]]]] = {"AMD_VISIBLE_DEVICES": ("amd.com/gpu", _amd)}

"""Finds variables and annotations that nearly are ones by which containers ask for GPUs.

A start does not look for them, since most have no word in them for which it would read the container's request at all.
"""

from __future__ import annotations

from oci_gpu_hook.base.errors import one_line, quoted
from oci_gpu_hook.request import by_count
from oci_gpu_hook.request.model import ANNOTATION_PREFIX, VARIABLE_PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.oci.container import Container

_NVIDIAS: Final = (
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_DISABLE_REQUIRE",
    "NVIDIA_IMEX_CHANNELS",
    "NVIDIA_MIG_CONFIG_DEVICES",
    "NVIDIA_MIG_MONITOR_DEVICES",
)
_OF_OTHERS: Final = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "AMD_VISIBLE_DEVICES", "HABANA_VISIBLE_DEVICES")
_SIMILARITY: Final = 0.85
_LONGEST: Final = 64  # characters of a name
_MOST: Final = 1024  # names that are compared


def of(container: Container) -> Iterator[str]:
    """Yield a warning for each name that is not read and nearly is one that would be."""
    known = [*_NVIDIAS, *by_count.known_variables()]
    for name in dict.fromkeys(entry.partition("=")[0] for entry in container.env[:_MOST]):
        if name in known or name in _OF_OTHERS or name.startswith(VARIABLE_PREFIX):  # `parse` warns of the latter
            continue
        if nearest := _nearest(name.upper(), known):
            yield f"the variable {quoted(name)} is not read; did you mean {nearest}?"
    for key in [*container.annotations][:_MOST]:
        head, _, word = key.rpartition("/" if "/" in key else ".")  # Kubernetes' have a '/' there
        if not key.startswith(ANNOTATION_PREFIX) and _nearest(head.lower() + ".", [ANNOTATION_PREFIX]):
            yield f"the annotation {quoted(key)} is not read; did you mean {one_line(ANNOTATION_PREFIX + word)}?"


def _nearest(text: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    matches = get_close_matches(text, known, 1, _SIMILARITY) if len(text) <= _LONGEST else []
    return matches[0] if matches else ""

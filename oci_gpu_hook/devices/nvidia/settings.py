"""Reads a container's settings for how it gets the driver, in addition to its request. Pure.

A setting is the annotation io.oci-gpu-hook.NAME or the variable OCI_GPU_NAME. The annotation takes precedence over the
variable, and both over the configuration; an annotation for the container takes precedence over one for its pod.
"""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.oci import pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.oci.container import Container

_ANNOTATION: Final = "io.oci-gpu-hook."
_VARIABLE: Final = "OCI_GPU_"
_TRUE: Final = ("1", "true")
_FALSE: Final = ("0", "false")


def said(container: Container, name: str) -> tuple[str, str]:
    """Return the annotation or variable and its value, which is "" if neither is set."""
    annotation, text = by_annotation(container, name)
    if text:
        return annotation, text
    named = _VARIABLE + name.upper().replace("-", "_")
    return named, variable(container, named).strip()


def variable(container: Container, name: str) -> str:
    """Return the value of an environment variable, "" if it is not set. The last entry with a name counts."""
    start = name + "="
    values = [entry for entry in container.env if entry.startswith(start)]
    return values[-1][len(start) :] if values else ""


def by_annotation(container: Container, name: str) -> tuple[str, str]:
    """Do the same for a setting that only the person who starts the container can make, not the image."""
    annotation = pod.own_key(container.annotations, _ANNOTATION + name)
    return annotation, container.annotations.get(annotation, "").strip()


def truth(what: str, text: str) -> bool | None:
    """Return yes or no, None if it is not set. Raises InvalidInput for any other text, which must not count as no."""
    if not text:
        return None
    if text not in (*_TRUE, *_FALSE):
        raise InvalidInput(f"{what}={quoted(text)}", "is neither true nor false", "write 'true' or 'false'", "OGH1202")
    return text in _TRUE

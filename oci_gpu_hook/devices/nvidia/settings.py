"""What a container says of how it gets the driver, beside what it asks for. Pure.

It says so by the annotation io.oci-gpu-hook.NAME or the variable OCI_GPU_NAME. The annotation goes before the variable,
and both before the configuration; of a pod's annotations the one for the container alone goes first.
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
    """Return the annotation or variable and its value, which is "" where neither is set."""
    annotation, text = by_annotation(container, name)
    if text:
        return annotation, text
    named = _VARIABLE + name.upper().replace("-", "_")
    return named, variable(container, named).strip()


def variable(container: Container, name: str) -> str:
    """Return the value of an environment variable, "" where it is not set. The last of a name wins."""
    start = name + "="
    values = [entry for entry in container.env if entry.startswith(start)]
    return values[-1][len(start) :] if values else ""


def by_annotation(container: Container, name: str) -> tuple[str, str]:
    """Return the same of what only whoever starts the container may say, and not its image."""
    annotation = pod.own_key(container.annotations, _ANNOTATION + name)
    return annotation, container.annotations.get(annotation, "").strip()


def truth(what: str, text: str) -> bool | None:
    """Return yes or no, None where nothing is said. Raises InvalidInput: what is neither must not pass for no."""
    if not text:
        return None
    if text not in (*_TRUE, *_FALSE):
        raise InvalidInput(f"{what}={quoted(text)}", "is neither true nor false", "write 'true' or 'false'")
    return text in _TRUE

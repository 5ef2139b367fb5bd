"""Reads NVIDIA_DRIVER_CAPABILITIES: which parts of the driver a container gets."""

from __future__ import annotations

from oci_gpu_hook.base.config.model import DRIVER_CAPABILITIES
from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.oci import pod
from oci_gpu_hook.request.model import ANNOTATION_PREFIX
from oci_gpu_hook.request.values import check_number, items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.oci.container import Container

VARIABLE: Final = "NVIDIA_DRIVER_CAPABILITIES"
DEFAULT: Final = ("compute", "utility")


def driver_capabilities(
    container: Container,
    variables: Mapping[str, str],
    supported: Sequence[str],
    warnings: list[str],
    *,
    legacy: bool,
) -> tuple[str, ...]:
    """Return the capabilities, sorted. The annotation takes precedence over the variable.

    legacy: the image is older than NVIDIA_REQUIRE_CUDA; if it sets no capability, it gets every supported one. Raises
    InvalidInput for a name that is unknown, or that the configuration does not allow.
    """
    key = pod.own_key(container.annotations, ANNOTATION_PREFIX + "capabilities")
    annotation = container.annotations.get(key)
    value = variables.get(VARIABLE) if annotation is None else annotation
    what = f"{VARIABLE if annotation is None else key}={quoted(value)}"
    if value is None and legacy:
        what, granted = f"{VARIABLE} unset", tuple(supported)
    elif not value:
        what, granted = f"{VARIABLE} unset", tuple(name for name in DEFAULT if name in supported)
    else:
        granted = named(items(value), what, supported)
    if not granted:
        warnings.append(f"{what}: no driver capability is selected, so the container gets no driver library")
    return tuple(sorted(set(granted)))


def named(names: Sequence[str], what: str, supported: Sequence[str]) -> tuple[str, ...]:
    """Return the capabilities that names stand for. what: where they were written. Raises InvalidInput."""
    check_number(len(names), what)
    if "all" in names:
        return tuple(supported)
    for name in names:
        if name not in supported:
            raise _unsupported(name, what, supported)
    return tuple(names)


def _unsupported(name: str, what: str, supported: Sequence[str]) -> InvalidInput:
    allowed = ", ".join((*supported, "all"))
    if name in DRIVER_CAPABILITIES:
        remedy = f"allowed here: {allowed}; the configuration's supported-driver-capabilities has the list"
        return InvalidInput(
            what, f"the driver capability {quoted(name)} is not supported on this host", remedy, "OGH1205"
        )
    from oci_gpu_hook.request.suggestions import word

    nearest = word(name, (*DRIVER_CAPABILITIES, "all"))
    remedy = f"did you mean {quoted(nearest)}? allowed: {allowed}" if nearest else f"allowed: {allowed}"
    return InvalidInput(what, f"{quoted(name)} is not a driver capability", remedy, "OGH1204")

"""The versions of CDI, and the lowest version that a specification needs.

Source: Container Device Interface 1.1.0, specs-go/version.go, and the list of changes in SPEC.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from oci_gpu_hook.devices.cdi.spec_files.model import Specification
    from oci_gpu_hook.devices.edits import ContainerEdits

KNOWN: Final = ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0")
_FIRST: Final = "0.3.0"
READ: Final = KNOWN[KNOWN.index(_FIRST) :]  # by engines


def normalized(version: str) -> str:
    """Return the version without a leading "v"."""
    return version.removeprefix("v")


def is_at_least(version: str, other: str) -> bool:
    """Tell whether a known version is not earlier than another."""
    return KNOWN.index(version) >= KNOWN.index(other)


def required(specification: Specification) -> tuple[str, str]:
    """Return the lowest version that a specification needs, and the field or form that needs it."""
    found = (_FIRST, "")
    for version, because in _needs(specification):
        if KNOWN.index(version) > KNOWN.index(found[0]):
            found = (version, because)
    return found


def _needs(specification: Specification) -> Iterator[tuple[str, str]]:
    if specification.annotations or any(device.annotations for device in specification.devices):
        yield "0.6.0", "annotations"
    if "." in specification.kind.partition("/")[2]:
        yield "0.6.0", "a dot in the class"
    if any(device.name[:1].isdigit() for device in specification.devices):
        yield "0.5.0", "a device name that begins with a digit"
    for edits in (specification.edits, *(device.edits for device in specification.devices)):
        yield from _edits_need(edits)


def _edits_need(edits: ContainerEdits) -> Iterator[tuple[str, str]]:
    if any(mount.type for mount in edits.mounts):
        yield "0.4.0", "the type of a mount"
    if any(node.host_path for node in edits.device_nodes):
        yield "0.5.0", "hostPath of a device node"
    if edits.additional_gids:
        yield "0.7.0", "additionalGids"
    if edits.intel_rdt is not None:
        yield "0.7.0", "intelRdt"
        if edits.intel_rdt.schemata or edits.intel_rdt.enable_monitoring:
            yield "1.1.0", "schemata or enableMonitoring of intelRdt"
    if edits.net_devices:
        yield "1.1.0", "netDevices"

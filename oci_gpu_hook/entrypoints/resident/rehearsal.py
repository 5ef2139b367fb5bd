"""Imports what starts import, before workers are forked: what one of them imports is imported for it alone."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# The modules that admin/install/hotpath_build.py lists as those of a start, and what these import in functions.
# tests/unit/entrypoints/resident/test_rehearsal.py compares the lists.
_MODULES: Final = (
    "oci_gpu_hook.allocation.allocate",
    "oci_gpu_hook.allocation.by_count",
    "oci_gpu_hook.allocation.messages",
    "oci_gpu_hook.allocation.release",
    "oci_gpu_hook.allocation.topology",
    "oci_gpu_hook.allocation.turns",
    "oci_gpu_hook.allocation.wait",
    "oci_gpu_hook.apply.bundle",
    "oci_gpu_hook.apply.cleanup",
    "oci_gpu_hook.apply.device_access.v1",
    "oci_gpu_hook.apply.device_access.v2",
    "oci_gpu_hook.apply.operations.table",
    "oci_gpu_hook.apply.systemd.drop_in",
    "oci_gpu_hook.apply.systemd.private_bus",
    "oci_gpu_hook.devices.cdi.room",
    "oci_gpu_hook.devices.nvidia.refusals",
    "oci_gpu_hook.devices.nvidia.shortfalls",
    "oci_gpu_hook.devices.nvidia.sick",
    "oci_gpu_hook.devices.nvidia.vendor",
    "oci_gpu_hook.entrypoints.runtime",
    "oci_gpu_hook.entrypoints.runtime_standby",
    "oci_gpu_hook.lifecycle.admission",
    "oci_gpu_hook.lifecycle.described",
    "oci_gpu_hook.lifecycle.granted",
    "oci_gpu_hook.lifecycle.injected",
    "oci_gpu_hook.lifecycle.start",
    "oci_gpu_hook.lifecycle.teardown",
    "oci_gpu_hook.oci.image_annotations",
    "oci_gpu_hook.request.nvidia.words",
    "oci_gpu_hook.request.other_kinds",
    "oci_gpu_hook.request.parse",
    "_json",
    "_socket",
    "_struct",
    "fcntl",
)


def rehearse() -> None:
    """Import all of them."""
    for name in _MODULES:
        import_module(name)

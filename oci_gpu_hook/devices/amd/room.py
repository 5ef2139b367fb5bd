"""AMD's `devices.vendor.Vendor`."""

from __future__ import annotations

from oci_gpu_hook.devices.amd import discovery
from oci_gpu_hook.devices.kernel.room import Room

ROOM = Room(discovery)

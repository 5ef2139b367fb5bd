"""Simulated hosts made without root."""

from __future__ import annotations

from oci_gpu_hook.admin.simulate.host import make


def plain(directory, **settings):
    return make(str(directory), device_nodes=False, **settings)

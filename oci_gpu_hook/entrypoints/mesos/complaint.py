"""Writes the one line that a Mesos task is shown if its GPUs cannot be attached."""

from __future__ import annotations

from oci_gpu_hook.base import streams
from oci_gpu_hook.base.errors import one_line


def complain(message: str) -> None:
    """Write a failure as one line to stderr, which is the task's."""
    streams.say(f"oci-gpu-hook: error: {one_line(message)}")

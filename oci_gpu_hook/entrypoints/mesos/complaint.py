"""Writes the one line that a Mesos task is shown if its GPUs cannot be attached."""

from __future__ import annotations

from oci_gpu_hook.base import streams
from oci_gpu_hook.base.errors import coded


def complain(message: str, code: str, config_path: str) -> None:
    """Write a failure as one line to stderr, which is the task's, and count it by the error's code."""
    streams.say(f"oci-gpu-hook: error: {coded(message, code)}")
    from oci_gpu_hook.base import log
    from oci_gpu_hook.base.config import load as configs

    config, _ = configs.load_or_defaults(config_path)
    log.configure(configs.of_this_user(config))
    log.count_refusal(code)

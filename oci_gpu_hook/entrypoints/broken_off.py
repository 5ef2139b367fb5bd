"""Reports, for a front, that a process has ended before its work was done, wherever errors belong."""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits, log, streams
from oci_gpu_hook.base.config.load import DEFAULT_PATH, load_or_defaults
from oci_gpu_hook.base.errors import ApplyError, HookError, coded
from oci_gpu_hook.base.files import read_all
from oci_gpu_hook.entrypoints.runtime_call import complain, read_call
from oci_gpu_hook.oci import container as containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, NoReturn

_PROCESSES: Final = {
    "resident": "the resident's process",
    "standby": "the process that attaches the GPUs",
    "preparing": "the process that prepares the bundle",
}


def report_for_hook(who: str, config_path: str) -> NoReturn:
    """Report it for a hook, whose state is on stdin, and end this process. who: as in front/front.h."""
    error = _error(who)
    try:
        state = containers.read_state(read_all(0, limits.STATE, "OCI state"))
        log.configure(load_or_defaults(config_path)[0], container=state.id)
    except (HookError, OSError):
        pass  # of no consequence for what is said
    streams.say(f"oci-gpu-hook: error: {coded(str(error), error.code)}")
    log.refused("oci-gpu-hook", str(error), error.code)
    os._exit(1)


def report_for_runtime(who: str, words: Sequence[str]) -> NoReturn:
    """Report it for a call of the runtime, and end this process. who: as in front/front.h."""
    error = _error(who)
    call = read_call(words)
    log.configure(load_or_defaults(DEFAULT_PATH)[0], container=call.container if call else "")
    complain(call, str(error), error.code)
    os._exit(1)


def _error(who: str) -> ApplyError:
    why = "has ended before its work was done"
    return ApplyError(_PROCESSES.get(who, "a process"), why, "start the container again", "OGH1516")

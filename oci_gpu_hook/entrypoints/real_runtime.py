"""The runtime that oci-gpu-runtime stands before: whether it can be started, and how this process becomes it."""

from __future__ import annotations

import os

from oci_gpu_hook.base import processes
from oci_gpu_hook.base.errors import ApplyError, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def check(real_runtime: str) -> None:
    """Raise ApplyError if it is not there or cannot be executed."""
    if not os.access(real_runtime, os.X_OK):
        raise _not_started(real_runtime, "it does not exist, or is not a program")


def become(real_runtime: str, words: Sequence[str]) -> NoReturn:
    """Become it, in the state in which the engine started this process. Raises ApplyError if it cannot be started."""
    from oci_gpu_hook.base.cpython import signals

    signals.restore()
    if not processes.variable("self", b"LC_CTYPE"):
        os.environ.pop("LC_CTYPE", None)  # CPython sets it if there is no locale (PEP 538)
    try:
        os.execv(real_runtime, [real_runtime, *words])  # noqa: S606
    except OSError as error:
        raise _not_started(real_runtime, reason(error)) from None


def _not_started(real_runtime: str, why: str) -> ApplyError:
    remedy = "install it, or run `oci-gpu hook-path --real-runtime FILE`"
    return ApplyError(f"cannot start the real runtime {quoted(real_runtime)}", why, remedy, "OGH1511")

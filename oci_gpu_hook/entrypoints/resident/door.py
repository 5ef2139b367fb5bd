"""Docker's and containerd's door: what is done for a front that then becomes the real runtime."""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import BUG, HookError
from oci_gpu_hook.entrypoints.hook import describe_bug
from oci_gpu_hook.entrypoints.runtime import prepare
from oci_gpu_hook.entrypoints.runtime_call import complain, read_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def prepare_bundle(arguments: Sequence[str], real_runtime: str) -> int:
    """Do what comes before the real runtime, for a front that then becomes it; return the exit status."""
    call = read_call(arguments[1:])
    hook = os.path.join(os.path.dirname(arguments[0]), "oci-gpu-hook")
    try:
        if call:
            prepare(call, hook, real_runtime, stays=False)
    except HookError as error:
        complain(call, str(error), error.code)
    except Exception as error:  # noqa: BLE001  a bug: engines show one line, so it names the place
        complain(call, describe_bug(error), BUG)
    else:
        return 0
    return 1

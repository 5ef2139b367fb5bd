"""Work on a running container, in a process apart: the container may lead it to a volume that never answers.

What the process had done by then is taken back when the container ends.
"""

from __future__ import annotations

from oci_gpu_hook.base import apart, limits
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import BUG, ApplyError, HookError, described_bug, quoted, reason
from oci_gpu_hook.lifecycle.interruption import ignore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_gpu_hook.lifecycle.interruption import Interruption


def done(container_id: str, work: Callable[[], object], interruption: Interruption | None = None) -> Any:
    """Return what the work returns, in the form that JSON gives it. Raises HookError, also what the work raised.

    interruption: which ends the work; without one it goes on to its end, whatever signals this process gets.
    """
    what = f"container {quoted(container_id)}"

    def answer() -> bytes:
        try:
            ignore()
            return dump({"done": work()})
        except HookError as error:
            said = [error.what, error.why, error.remedy, error.code]
        except OSError as error:
            said = [what, reason(error), "run this as root, in the host's namespaces", "OGH1903"]
        except Exception as error:  # noqa: BLE001  a bug, which the other process reports
            said = [what, described_bug(error), "please report this with the container's config.json", BUG]
        return dump({"refused": said})

    data = apart.answer(answer, limits.CONTAINER_FILES_SECONDS, interruption.heard if interruption else None)
    if data is None and interruption:
        interruption.check()
    if not data:
        why = f"a file system in it has not answered for {limits.CONTAINER_FILES_SECONDS:.0f} s"
        if data is not None:
            why = "the process that worked on it ended without an answer"
        raise ApplyError(what, why, "check its FUSE and NFS volumes", "OGH1513")
    found = parse(data, "answer")
    if "refused" in found:
        raise HookError(*found["refused"])
    return found["done"]

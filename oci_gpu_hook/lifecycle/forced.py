"""Takes devices from a container that holds or uses more than the configuration allows, also from what uses them."""

from __future__ import annotations

from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.lifecycle import detach, running
from oci_gpu_hook.oci.runtime_states import Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config

_GRACE: Final = 10.0  # seconds between the request to end and the kill


def detach_from(container_id: str, pid: int, uuids: Sequence[str], config: Config, say: Callable[..., None]) -> None:
    """Detach devices from the container of a process, and say what became of it: an event, and more about it."""
    log.configure(config, container=container_id)
    try:
        entry = running.of_process(pid, config)
        meant = Running(id=entry.id, pid=entry.pid, started=entry.start_time, bundle=entry.bundle, rootfs=entry.rootfs)
        done = detach.detach(meant, uuids, config, force=True, grace=_GRACE)
    except HookError as error:
        say("not detached", reason=str(error))
    else:
        say("detached", ended=[f"{ended} ({name})" for ended, name in done.ended])
    finally:
        log.configure(config)

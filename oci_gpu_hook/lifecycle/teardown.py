"""Ends a container: removes what was made for it, and releases its GPUs."""

from __future__ import annotations

from oci_gpu_hook.allocation import release
from oci_gpu_hook.apply import cleanup
from oci_gpu_hook.apply.watch import Watch
from oci_gpu_hook.base import log
from oci_gpu_hook.base.config.load import of_this_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.base.config.model import Config


def stop(container_id: str, bundle: str, config: Config) -> None:
    """Remove what was made for a container that has ended, and release its leases. Raises HookError.

    A living container with the same id, of another runtime or another --root, keeps what it has.
    """
    config = of_this_user(config)
    log.configure(config, container=container_id)
    with Watch(container_id):
        cleanup.detach(container_id, bundle, config)
    release.release(container_id, config)

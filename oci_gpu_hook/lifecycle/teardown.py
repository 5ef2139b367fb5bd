"""The end of a container: what it leaves behind is taken back, and its GPUs are free again."""

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
    """Take back what a container that has ended leaves behind. Raises HookError.

    A container of the same id that lives, of another runtime or of another root directory of this one, keeps its own.
    """
    config = of_this_user(config)
    log.configure(config, container=container_id)
    with Watch(container_id):
        cleanup.detach(container_id, bundle, config)
    release.release(container_id, config)

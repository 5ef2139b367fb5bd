"""The value of a grant."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.devices.nvidia.model import Gpu, MigDevice


class Granted(Record):
    """One device that a container gets: a whole GPU, or the MIG device `mig` of it."""

    gpu: Gpu
    mig: MigDevice | None = None

    @property
    def uuid(self) -> str:
        """The UUID that NVIDIA_VISIBLE_DEVICES takes for this device."""
        return self.mig.uuid if self.mig else self.gpu.uuid

"""Reads MIG instances from /proc: which exist, and the device nodes that guard them.

Source: NVIDIA Multi-Instance GPU User Guide, "Device Nodes and Capabilities"; the gpuN of a path is the device minor.
"""

from __future__ import annotations

from oci_gpu_hook.base.files import read_text
from oci_gpu_hook.devices.nvidia.facts import mig_instances
from oci_gpu_hook.devices.nvidia.model import MigDevice
from oci_gpu_hook.devices.nvidia.procfs import mig_minors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def minors(proc_root: str) -> dict[str, int]:
    """Return capability → minor of its node; empty if the driver has no MIG."""
    return mig_minors(read_text(f"{proc_root}/driver/nvidia-caps/mig-minors") or "")


def devices(proc_root: str, gpu_minor: int, nodes: Mapping[str, int]) -> tuple[MigDevice, ...]:
    """Return the MIG devices of a GPU in the order of their instances, which is also NVML's order of indices."""
    return tuple(_devices(gpu_minor, nodes, mig_instances(proc_root, gpu_minor)))


def _devices(gpu_minor: int, nodes: Mapping[str, int], instances: Iterable[list[int]]) -> Iterable[MigDevice]:
    for index, (gpu_instance, compute_instance, *_) in enumerate(instances):
        capability = f"gpu{gpu_minor}/gi{gpu_instance}"
        yield MigDevice(
            index=index,
            uuid="",
            gpu_instance=gpu_instance,
            compute_instance=compute_instance,
            profile="",
            memory=0,
            gpu_instance_minor=nodes.get(f"{capability}/access", -1),
            compute_instance_minor=nodes.get(f"{capability}/ci{compute_instance}/access", -1),
        )

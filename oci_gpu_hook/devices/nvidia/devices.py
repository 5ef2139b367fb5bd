"""Converts NVIDIA's GPUs and MIG devices to the `Device`s of other rooms. Pure."""

from __future__ import annotations

from oci_gpu_hook.devices.model import Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.devices.nvidia.model import Gpu, MigDevice

KIND: Final = "nvidia.com/gpu"


def of(gpus: Iterable[Gpu], exclude: Sequence[str] = (), reserve: int = 0) -> tuple[Device, ...]:
    """Return the GPUs, each followed by its MIG devices.

    exclude: indices, UUIDs and products that `all` and counts skip. A GPU in MIG mode is not countable, because CUDA
    sees only its MIG devices. reserve: bytes of each device that shares leave free, for CUDA's contexts.
    """
    devices = []
    excluded = frozenset([_plain(name) for name in exclude])
    for gpu in gpus:
        place = {"numa_node": gpu.numa_node, "pcie_switch": gpu.pcie_switch, "peer_links": gpu.links}
        index = str(gpu.index) if gpu.index >= 0 else gpu.bus_id
        is_excluded = bool(excluded) and not excluded.isdisjoint(names_of(gpu))
        fields = {
            "kind": KIND,
            "name": index,
            "uuid": gpu.uuid,
            "index": gpu.index,
            "part": -1,
            "label": f"GPU {index}",
            "whole": "",
            "parts": tuple([mig.uuid for mig in gpu.mig_devices]),
            "undivided": "",
            "profile": "",
            "memory": gpu.memory,
            "shareable": max(gpu.memory - reserve, 0),
            "countable": not gpu.mig_enabled,
            "fault": gpu.fault,
            "excluded": is_excluded,
            "native": (gpu, None),
            **place,
        }
        devices.append(Device.of(fields))
        for mig in gpu.mig_devices if gpu.mig_enabled else ():
            part = f"{index}:{mig.index}"
            part_fields = {
                "kind": KIND,
                "name": part,
                "uuid": mig.uuid,
                "index": gpu.index,
                "part": mig.index,
                "label": f"MIG {part}",
                "whole": gpu.uuid,
                "parts": (),
                "undivided": "",
                "profile": mig.profile,
                "memory": mig.memory,
                "shareable": max(mig.memory - reserve, 0),
                "countable": False,
                "fault": gpu.fault,
                "excluded": is_excluded or mig.uuid.lower() in excluded,
                "native": (gpu, mig),
                **place,
            }
            devices.append(Device.of(part_fields))
    return tuple(devices)


def names_of(gpu: Gpu) -> tuple[str, ...]:
    """Return the names of a GPU in configurations, in the form that `matches` compares."""
    return str(gpu.index), gpu.uuid.lower(), _plain(gpu.name)


def matches(name: str, gpu: Gpu) -> bool:
    """Tell whether an entry of `[allocation] exclude` names a GPU or one of its MIG devices."""
    return _plain(name) in (*names_of(gpu), *(mig.uuid.lower() for mig in gpu.mig_devices))


def everything(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Return the devices that `all` means: every working GPU, or its MIG devices if it is in MIG mode.

    A GPU in MIG mode without MIG devices is granted whole, as by NVIDIA, so that a privileged container can create
    some.
    """
    divided = {device.whole for device in devices if device.whole}
    return tuple([device for device in devices if device.uuid not in divided and not device.fault])


def native(device: Device) -> tuple[Gpu, MigDevice | None]:
    """Return a device's GPU, and the MIG device, or None for a whole GPU."""
    return device.native  # type: ignore[return-value]  # `of` has put it there


def gpu_of(device: Device) -> Gpu:
    """Return the GPU that a device is, or that it is a part of."""
    return native(device)[0]


def _plain(name: str) -> str:
    """Return a name for comparison, in lower case and without the maker's name."""
    return " ".join(name.lower().split()).removeprefix("nvidia ")

"""The vendors' rooms by the kind of their devices. A room is imported when a request names its kind.

A kind without a room of its own is what the host's CDI specification files say of it (devices.cdi).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Final

    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.vendor import Vendor


def of(kind: str) -> Vendor:
    """Return the interface of the room for devices of a kind."""
    room = _ROOMS.get(kind)
    return room() if room else _described(kind)


def kind_of(uuid: str) -> str:
    """Return the kind of a device on record: those that CDI describes are on record by their qualified names."""
    kind, equals, _ = uuid.partition("=")
    return kind if equals and "/" in kind else KINDS[0]


def described(devices: Iterable[Device]) -> bool:
    """Tell whether any of the devices is one that CDI specification files describe."""
    return any(device.kind not in _ROOMS for device in devices)


def _described(kind: str) -> Vendor:
    from oci_gpu_hook.devices.cdi.room import Room

    return Room(kind)


def _nvidia() -> Vendor:
    from oci_gpu_hook.devices.nvidia import vendor

    return vendor


_ROOMS: Final[Mapping[str, Callable[[], Vendor]]] = {"nvidia.com/gpu": _nvidia}
KINDS: Final = tuple(_ROOMS)

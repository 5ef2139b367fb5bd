"""The vendors' rooms by the kind of their devices. A room is imported when a request names its kind.

A kind without its own room is what the host's CDI specification files say of it (devices.cdi). The rooms of
`SEEN` give devices in the form of such files too, but the kernel describes them (devices.kernel).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.model import Inventory
    from oci_gpu_hook.devices.kernel.room import Room
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.vendor import Vendor


def of(kind: str) -> Vendor:
    """Return the interface of the room for devices of a kind."""
    room = _ROOMS.get(kind) or _SEEN.get(kind)
    return room() if room else _described(kind)


def seen(kind: str, config: Config) -> Inventory | None:
    """Return all that the kernel shows of one of the kinds of `SEEN`, None for nothing."""
    return _SEEN[kind]().seen(config)


def in_files(config: Config) -> tuple[str, ...]:
    """Return the kinds that the host's CDI specifications have, other than those of vendors with their own room.

    Raises DriverError for files that cannot be read.
    """
    from oci_gpu_hook.devices.cdi import compiled

    found = compiled.kinds(config) if compiled.has_files(config) else ()
    known = {kind.partition("/")[0] for kind in _ROOMS}
    return tuple(kind for kind in found if kind.partition("/")[0] not in known)


def standing(kind: str, config: Config) -> str:
    """Return what GPUs of one of the kinds of `SEEN` the host has: `CARD`, `INTEGRATED`, "" for none."""
    return _SEEN[kind]().standing(config)


def kind_of(uuid: str) -> str:
    """Return the kind of a device on record: those that CDI describes are on record by their qualified names."""
    kind, equals, _ = uuid.partition("=")
    return kind if equals and "/" in kind else KINDS[0]


def called(uuids: Iterable[str]) -> str:
    """Return the word for devices on record: GPUs, or devices where a specification file has described one."""
    return "GPUs" if {*map(kind_of, uuids)} <= {*KINDS, *SEEN} else "devices"


def described(devices: Iterable[Device]) -> bool:
    """Tell whether any of the devices is described as CDI does, by specification files or devices.kernel."""
    return any(device.kind not in _ROOMS for device in devices)


def _described(kind: str) -> Vendor:
    from oci_gpu_hook.devices.cdi.room import Room

    return Room(kind)


def _nvidia() -> Vendor:
    from oci_gpu_hook.devices.nvidia import vendor

    return vendor


def _amd() -> Room:
    from oci_gpu_hook.devices.amd.room import ROOM

    return ROOM


def _intel() -> Room:
    from oci_gpu_hook.devices.intel.room import ROOM

    return ROOM


_ROOMS: Final[Mapping[str, Callable[[], Vendor]]] = {"nvidia.com/gpu": _nvidia}
_SEEN: Final[Mapping[str, Callable[[], Room]]] = {"amd.com/gpu": _amd, "intel.com/gpu": _intel}
KINDS: Final = tuple(_ROOMS)
SEEN: Final = tuple(_SEEN)
CARD: Final = "card"
INTEGRATED: Final = "integrated"

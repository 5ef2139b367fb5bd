"""The vendors' rooms by the kind of their devices. A room is imported when a request names its kind."""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final

    from oci_gpu_hook.devices.vendor import Vendor


def of(kind: str) -> Vendor:
    """Return the interface of the room for devices of a kind. Raises InvalidInput if there is none."""
    room = _ROOMS.get(kind)
    if room is None:
        remedy = f"kinds that are served here: {', '.join(_ROOMS)}"
        raise InvalidInput(f"devices of the kind {quoted(kind)}", "are not served here", remedy)
    return room()


def _nvidia() -> Vendor:
    from oci_gpu_hook.devices.nvidia import vendor

    return vendor


_ROOMS: Final[Mapping[str, Callable[[], Vendor]]] = {"nvidia.com/gpu": _nvidia}
KINDS: Final = tuple(_ROOMS)

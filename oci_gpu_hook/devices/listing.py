"""All devices of kinds that have no room like NVIDIA's, for people's commands: by the kernel, then by CDI files."""

from __future__ import annotations

from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.cdi import everything

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.everything import Listed


def of_host(config: Config, wanted: Callable[[str], bool]) -> tuple[tuple[Listed, ...], HookError | None]:
    """Return the devices of the kinds that are wanted, and why there may be more that could not be seen.

    Those that the kernel describes take precedence over CDI specifications of their kind.
    """
    found: list[Listed] = []
    kinds = set()
    for kind in filter(wanted, vendors.SEEN):
        inventory = vendors.seen(kind, config)
        if inventory is not None:
            kinds.add(kind)
            found += everything.of_inventory(inventory, config)
    try:
        found += everything.listed(config, lambda kind: wanted(kind) and kind not in kinds)
    except HookError as error:
        return tuple(found), error
    return tuple(found), None

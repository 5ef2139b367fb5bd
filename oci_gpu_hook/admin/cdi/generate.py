"""Generates the specifications of this host, one for each class of devices."""

from __future__ import annotations

import os

from oci_gpu_hook.admin.install import place
from oci_gpu_hook.base.config.load import DEFAULT_PATH
from oci_gpu_hook.base.config.model import DRIVER_CAPABILITIES
from oci_gpu_hook.base.errors import HookError, InvalidInput, quoted
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.nvidia import for_request, snapshot, specification
from oci_gpu_hook.devices.nvidia.cdi_classes import FEATURE_CLASSES
from oci_gpu_hook.devices.nvidia.specification import Form
from oci_gpu_hook.request.model import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.spec_files.model import Specification
    from oci_gpu_hook.devices.nvidia.model import Inventory

_HOOK: Final = "oci-gpu-hook"


def inventory_of(config: Config, *, refresh: bool = False) -> Inventory:
    """Return the inventory, completed by NVML if possible. Raises DriverError."""
    return snapshot.load(config, detailed=True, refresh=refresh)


def specification_of(
    inventory: Inventory, config: Config, device_class: str, capabilities: Sequence[str], form: Form
) -> Specification:
    """Return the specification of a class, without devices if the host has none. Raises DriverError."""
    request = Request(
        devices=("all",),
        driver_capabilities=tuple(capabilities),
        features=(device_class,) if device_class in FEATURE_CLASSES else (),
        source="cdi",
    )
    return specification.of(request, for_request.selected(inventory, request), config, device_class, form)


def seen_specification_of(kind: str, config: Config, names: str) -> Specification:
    """Return the specification of devices of another vendor that the kernel describes; names: as for `form_of`."""
    from oci_gpu_hook.devices.kernel import specification as of_kernel

    inventory = vendors.seen(kind, config)
    if inventory is None:
        return of_kernel.nothing(kind)
    by_index, by_uuid = names in {"both", specification.BY_INDEX}, names in {"both", specification.BY_UUID}
    return of_kernel.of(inventory, config.allocation_exclude, lambda name: by_index if name.isdecimal() else by_uuid)


def capabilities_of(text: str) -> tuple[str, ...]:
    """Return the driver capabilities in a comma-separated list, "all" for all. Raises InvalidInput."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in (*DRIVER_CAPABILITIES, "all"):
            known = ", ".join(DRIVER_CAPABILITIES)
            raise InvalidInput(
                f"--capabilities {quoted(text)}",
                f"{quoted(name)} is unknown",
                f"the known ones are all, {known}",
                "OGH1902",
            )
    return tuple(name for name in DRIVER_CAPABILITIES if name in names or "all" in names)


def form_of(
    names: str, config_path: str, hook_path: str = "", *, with_groups: bool = False, installs: bool = True
) -> Form:
    """Return the options of a specification. names: "index", "uuid" or "both".

    hook_path: "" for the installed hook. installs: whether the hook is installed where it is missing; otherwise its
    path is "" there, which `require_hook` refuses. Raises HookError if it cannot be installed, InvalidInput for a path
    that engines refuse.
    """
    options = () if config_path == DEFAULT_PATH else ("--config", os.path.abspath(config_path))
    both = (specification.BY_INDEX, specification.BY_UUID)
    return Form(
        names=both if names == "both" else (names,),
        hook_path=_checked(hook_path) if hook_path else _installed_hook(installs=installs),
        hook_args=options,
        with_groups=with_groups,
    )


def require_hook(made: Specification) -> None:
    """Raise HookError if a specification names a hook that is not installed."""
    if any(not hook.path for hook in made.edits.hooks):
        why = "is not installed, and the specification names it"
        remedy = "install it with `oci-gpu hook-path`, or name one with --hook-path FILE"
        raise HookError("the hook", why, remedy, "OGH1920")


def _checked(hook_path: str) -> str:
    if not os.path.isabs(hook_path):
        why = "is not an absolute path, which a specification has"
        raise InvalidInput(f"--hook-path {quoted(hook_path)}", why, "name it from / on", "OGH1915")
    return hook_path


def _installed_hook(*, installs: bool) -> str:
    """Return the hook's path; where it is missing, install it or return ""."""
    own = os.path.join(place.default_directory(), _HOOK)
    if os.access(own, os.X_OK):
        return own
    if not installs:
        of_all = os.path.join(place.installed_directory(), _HOOK)
        return of_all if os.access(of_all, os.X_OK) else ""
    from oci_gpu_hook.admin.install import executables

    return executables.write().hook

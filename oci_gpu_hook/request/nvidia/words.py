"""NVIDIA's `request.vendor.Words`, where each of these functions is described."""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.request.ask import Ask, Said
from oci_gpu_hook.request.model import DEFAULT_KIND
from oci_gpu_hook.request.nvidia import cdi_names, device_list
from oci_gpu_hook.request.nvidia.capabilities import driver_capabilities
from oci_gpu_hook.request.values import boolean, items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import BundleMount, Container
    from oci_gpu_hook.request.qualified_name import QualifiedName

IMEX_CHANNELS: Final = "NVIDIA_IMEX_CHANNELS"
VISIBLE_DEVICES: Final = "NVIDIA_VISIBLE_DEVICES"
_REQUIREMENT: Final = "NVIDIA_REQUIRE_"
_JETPACK: Final = "NVIDIA_REQUIRE_JETPACK"  # an option of Tegra, not a requirement
_EVERY_CSV_FILE: Final = "csv-mounts=all"  # nvidia-container-toolkit, internal/modifier/cdi.go: all, not the base files
_DISABLE_REQUIRE: Final = "NVIDIA_DISABLE_REQUIRE"

read_list = device_list.read_list


def serves(name: QualifiedName) -> bool:
    """Tell whether a name means a GPU, a MIG device, an IMEX channel or a feature."""
    return bool(cdi_names.device(name) or cdi_names.imex_channel(name) or cdi_names.feature(name))


def is_applied(variables: Mapping[str, str], warnings: list[str]) -> bool:
    """Tell whether the variable has the value that NVIDIA's CDI specifications set when an engine applies them."""
    if variables.get(VISIBLE_DEVICES) != "void":
        return False
    warnings.append(f"{VISIBLE_DEVICES}='void': the engine has applied the CDI annotations; nothing is added")
    return True


def from_mounts(mounts: Sequence[BundleMount], warnings: list[str]) -> Ask | None:
    """Read the mounts below /var/run/nvidia-container-devices/. Raises InvalidInput."""
    from oci_gpu_hook.request.nvidia import mounts as of_mounts

    return of_mounts.from_mounts(mounts, warnings)


def said(variables: Mapping[str, str], config: Config) -> Said:
    """Return what swarm variables say, otherwise NVIDIA_VISIBLE_DEVICES, otherwise what an old CUDA image implies."""
    swarm = [name for name in config.swarm_resource if name in variables]
    present = swarm or [name for name in (VISIBLE_DEVICES,) if name in variables]
    listed = [item for name in present for item in items(variables[name])]
    implied = None
    if not present and _is_legacy_image(variables):
        implied = Ask(kind=DEFAULT_KIND, source="legacy-image", what="CUDA_VERSION", devices=("all",))
    return Said(
        source="swarm" if swarm else "environment",
        variables=tuple(present),
        items=tuple(listed),
        declines="void" in listed,
        outranks_count=bool(swarm),
        implied=implied,
    )


def options(
    ask: Ask, container: Container, config: Config, variables: Mapping[str, str], warnings: list[str]
) -> dict[str, Any]:
    """Return driver capabilities, requirements, MIG management, IMEX channels and features. Raises InvalidInput."""
    legacy = _is_legacy_image(variables)
    accepted = container.privileged or config.accept_envvar_when_unprivileged
    channels = ask.imex_channels
    if config.accept_volume_mounts:
        from oci_gpu_hook.request.nvidia import mounts as of_mounts

        channels += of_mounts.imex_channels(container.mounts)
    supported = config.supported_driver_capabilities
    return {
        "driver_capabilities": driver_capabilities(container, variables, supported, warnings, legacy=legacy),
        "requirements": () if config.disable_require else _requirements(variables, warnings, legacy=legacy),
        "mig_config_devices": _mig_access("NVIDIA_MIG_CONFIG_DEVICES", container, variables, warnings),
        "mig_monitor_devices": _mig_access("NVIDIA_MIG_MONITOR_DEVICES", container, variables, warnings),
        "imex_channels": _imex_channels(channels, variables, warnings, accepted=accepted),
        "features": _features(ask.features, variables, warnings),
    }


def _imex_channels(
    named: Sequence[str], variables: Mapping[str, str], warnings: list[str], *, accepted: bool
) -> tuple[int, ...]:
    if not named and IMEX_CHANNELS not in variables:
        return ()
    from oci_gpu_hook.request.nvidia import imex

    return imex.channels(named, variables, warnings, variables_count=accepted)


def _is_legacy_image(variables: Mapping[str, str]) -> bool:
    """Tell whether the image is older than NVIDIA_REQUIRE_CUDA: such images ask only by CUDA_VERSION."""
    return bool(variables.get("CUDA_VERSION")) and not variables.get("NVIDIA_REQUIRE_CUDA")


def _requirements(variables: Mapping[str, str], warnings: list[str], *, legacy: bool) -> tuple[str, ...]:
    """Return the values of NVIDIA_REQUIRE_*, and what an old image's CUDA_VERSION requires. Raises InvalidInput."""
    disable = variables.get(_DISABLE_REQUIRE, "")
    if boolean(disable):
        return ()
    found = [
        value for name, value in variables.items() if name.startswith(_REQUIREMENT) and not name.startswith(_JETPACK)
    ]
    if legacy:
        from oci_gpu_hook.request.nvidia.cuda import major_minor  # few images are that old

        found.append(f"cuda>={major_minor(variables['CUDA_VERSION'])}")
    if sum(map(len, found)) > limits.REQUIREMENTS:
        why = f"have together more than {limits.REQUIREMENTS} characters"
        raise InvalidInput(f"{_REQUIREMENT}*", why, f"shorten them; {_DISABLE_REQUIRE}=1 skips the check", "OGH1214")
    if disable and boolean(disable) is None and found:
        warnings.append(f"{_DISABLE_REQUIRE}={quoted(disable)} disables nothing; only 1, t, T, true, TRUE and True do")
    return tuple(found)


def _mig_access(variable: str, container: Container, variables: Mapping[str, str], warnings: list[str]) -> str | None:
    """Return the value of a variable for managing MIG devices. Raises InvalidInput if the container is unprivileged."""
    value = variables.get(variable, "")
    if not value:
        return None
    if not container.privileged:
        why = "an unprivileged container may not see or change the partitions of the host's GPUs"
        raise InvalidInput(
            f"{variable}={quoted(value)}", why, "unset it, or add CAP_SYS_ADMIN (--privileged)", "OGH1207"
        )
    if value.lower() != "all":
        warnings.append(f"{variable}={quoted(value)}: only 'all' has a meaning")
    return value


def _features(named: tuple[str, ...], variables: Mapping[str, str], warnings: list[str]) -> tuple[str, ...]:
    """Return the features that CDI names, or variables such as NVIDIA_GDS=enabled, ask for."""
    found = []
    for feature in cdi_names.FEATURE_CLASSES:
        variable = f"NVIDIA_{feature.upper()}"
        value = variables.get(variable, "")
        if feature in named or value == "enabled":
            found.append(feature)
        elif value not in ("", "disabled"):
            warnings.append(f"{variable}={quoted(value)} asks for nothing; only 'enabled' does")
    if variables.get(_JETPACK) == _EVERY_CSV_FILE:
        found.append("csv-mounts")
    return tuple(found)

"""From a container to its request: what it asks for, by whichever of the ways, under the host's policy. Pure."""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.request import by_count, imex, sources
from oci_gpu_hook.request.capabilities import driver_capabilities
from oci_gpu_hook.request.model import Request
from oci_gpu_hook.request.qualified_name import FEATURE_CLASSES
from oci_gpu_hook.request.values import boolean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.request.device_list import Ask

_REQUIREMENT: Final = "NVIDIA_REQUIRE_"
_JETPACK: Final = "NVIDIA_REQUIRE_JETPACK"  # not a requirement but an option of Tegra
_DISABLE_REQUIRE: Final = "NVIDIA_DISABLE_REQUIRE"


class Reading(Record):
    """A request, or None where the container asks for no GPU, and the warnings, which hold in either case."""

    request: Request | None
    warnings: tuple[str, ...]


def parse(container: Container, config: Config) -> Request | None:
    """Return what a container asks for, None when it asks for no GPU.

    Raises InvalidInput when it asks for a GPU in words that cannot be served, never when it asks for none.
    """
    return read(container, config).request


def read(container: Container, config: Config) -> Reading:
    """Return what `parse` does, with the warnings also of a container that gets no GPU. Raises InvalidInput."""
    warnings: list[str] = []
    variables = sources.environment(container.env, warnings)
    ask = _ask(container, config, variables, warnings)
    by_variables = ask is not None and ask.source not in ("annotations", "mounts")
    settings = by_count.settings(container.annotations, variables if by_variables else {})
    if ask and config.allocation_indices == "count":
        ask = by_count.from_indices(ask, settings)
    counted = by_count.counted(ask, settings, warnings) if ask else None
    unread = "" if by_variables else f"{ask.source} go before it" if ask else "no GPU is asked for"
    by_count.tell_unread(container.annotations, variables, unread, warnings)
    if ask is None or counted is None:
        return Reading(request=None, warnings=tuple(warnings))
    sources.check_entries(container.env)
    legacy = sources.is_legacy_image(variables)
    accepted = container.privileged or config.accept_envvar_when_unprivileged
    mounted = sources.mounted_imex_channels(container.mounts) if config.accept_volume_mounts else ()
    request = Request(
        **counted.__dict__,
        driver_capabilities=driver_capabilities(
            container, variables, config.supported_driver_capabilities, warnings, legacy=legacy
        ),
        requirements=() if config.disable_require else _requirements(variables, warnings, legacy=legacy),
        mig_config_devices=_mig_access("NVIDIA_MIG_CONFIG_DEVICES", container, variables, warnings),
        mig_monitor_devices=_mig_access("NVIDIA_MIG_MONITOR_DEVICES", container, variables, warnings),
        imex_channels=imex.channels((*ask.imex_channels, *mounted), variables, warnings, variables_count=accepted),
        features=_features(ask.features, variables, warnings),
        source=ask.source,
        warnings=tuple(warnings),
    )
    return Reading(request=request, warnings=request.warnings)


def _ask(container: Container, config: Config, variables: Mapping[str, str], warnings: list[str]) -> Ask | None:
    """Return what the first source asks for that has a word on devices, None when none has."""
    ask = sources.from_annotations(container, variables, warnings)
    if ask is None and config.accept_volume_mounts:
        ask = sources.from_mounts(container.mounts, warnings)
    return ask or sources.from_environment(container, config, variables, warnings)


def _requirements(variables: Mapping[str, str], warnings: list[str], *, legacy: bool) -> tuple[str, ...]:
    """Return the values of NVIDIA_REQUIRE_*, and what CUDA_VERSION of an old image requires. Raises InvalidInput."""
    disable = variables.get(_DISABLE_REQUIRE, "")
    if boolean(disable):
        return ()
    found = [
        value for name, value in variables.items() if name.startswith(_REQUIREMENT) and not name.startswith(_JETPACK)
    ]
    if legacy:
        from oci_gpu_hook.request.cuda import major_minor  # few images are that old

        found.append(f"cuda>={major_minor(variables['CUDA_VERSION'])}")
    if disable and boolean(disable) is None and found:
        warnings.append(f"{_DISABLE_REQUIRE}={quoted(disable)} disables nothing; only 1, t, T, true, TRUE and True do")
    return tuple(found)


def _mig_access(variable: str, container: Container, variables: Mapping[str, str], warnings: list[str]) -> str | None:
    """Return the value of NVIDIA_MIG_CONFIG_DEVICES or its like. Raises InvalidInput in an unprivileged container."""
    value = variables.get(variable, "")
    if not value:
        return None
    if not container.privileged:
        why = "an unprivileged container may not see or change the partitions of the host's GPUs"
        raise InvalidInput(f"{variable}={quoted(value)}", why, "unset it, or add CAP_SYS_ADMIN (--privileged)")
    if value.lower() != "all":
        warnings.append(f"{variable}={quoted(value)}: only 'all' has a meaning")
    return value


def _features(named: tuple[str, ...], variables: Mapping[str, str], warnings: list[str]) -> tuple[str, ...]:
    """Return the features that CDI names or NVIDIA_GDS=enabled and its like ask for."""
    found = []
    for feature in FEATURE_CLASSES:
        variable = f"NVIDIA_{feature.upper()}"
        value = variables.get(variable, "")
        if feature in named or value == "enabled":
            found.append(feature)
        elif value not in ("", "disabled"):
            warnings.append(f"{variable}={quoted(value)} asks for nothing; only 'enabled' does")
    return tuple(found)

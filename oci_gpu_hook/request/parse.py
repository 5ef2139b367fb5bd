"""Reads a container's request: what it asks for, from all sources, under the host's policy. Pure."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record
from oci_gpu_hook.oci import pod
from oci_gpu_hook.request import by_count, sources, vendors
from oci_gpu_hook.request.model import Request
from oci_gpu_hook.request.notices import Notices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.request.ask import Ask


class Reading(Record):
    """A request, None if the container asks for no GPU, and the warnings, which apply in both cases."""

    request: Request | None
    warnings: tuple[str, ...]


def parse(container: Container, config: Config) -> Request | None:
    """Return the container's request, None if it asks for no GPU.

    Raises InvalidInput if it asks for a GPU in a way that cannot be served, never if it asks for none.
    """
    return read(container, config).request


def read(container: Container, config: Config) -> Reading:
    """Do what `parse` does, but return the warnings also for a container that gets no GPU. Raises InvalidInput."""
    if pod.is_sandbox(container.annotations):
        return Reading(request=None, warnings=())
    container = container.replace(annotations=pod.without_overridden(container.annotations, sources.WHICH))
    warnings = Notices()
    variables = sources.environment(container.env, warnings)
    ask = sources.from_annotations(container, variables, warnings)
    if ask and sources.container_declines(ask, container, config, variables, warnings):
        ask, container = None, container.replace(annotations=sources.without_devices(container.annotations))
    ask = ask or _unannotated(container, config, variables, warnings)
    by_variables = ask is not None and ask.source not in ("annotations", "mounts")
    settings = by_count.settings(container.annotations, variables if by_variables else {})
    if ask and config.allocation_indices == "count":
        ask = by_count.from_indices(ask, settings)
    counted = by_count.counted(ask, settings, config.allocation_longest_wait, warnings) if ask else None
    unread = "" if by_variables else f"{ask.source} go before it" if ask else "no GPU is asked for"
    by_count.tell_unread(container.annotations, variables, unread, warnings)
    if ask is None or counted is None:
        return Reading(request=None, warnings=warnings.told())
    sources.check_entries(container.env)
    options = vendors.of(ask.kind).options(ask, container, config, variables, warnings)
    request = Request(**counted.__dict__, **options, kind=ask.kind, source=ask.source, warnings=warnings.told())
    return Reading(request=request, warnings=request.warnings)


def _unannotated(container: Container, config: Config, variables: Mapping[str, str], warnings: list[str]) -> Ask | None:
    """Return the request of the first source after the annotations that makes one, None if none does."""
    ask = sources.from_mounts(container.mounts, warnings) if config.accept_volume_mounts else None
    ask = ask or sources.from_environment(container, config, variables, warnings)
    asks_for_none = ask is None or (ask.devices is None and not ask.count_decides)
    if asks_for_none and not config.accept_volume_mounts:
        sources.tell_unread_mounts(container.mounts, warnings)
    return ask

"""Reads a container's request: what it asks for, from all sources, under the host's policy. Pure."""

from __future__ import annotations

from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.oci import pod
from oci_gpu_hook.request import by_count, sources, vendors
from oci_gpu_hook.request.model import Request
from oci_gpu_hook.request.notices import Notices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.request.ask import Ask
    from oci_gpu_hook.request.by_count import Setting


_ASK: Final = "annotations are for who starts the container; an image asks by its environment"


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
    for name in container.of_image:
        warnings.append(f"the annotation {quoted(name)} is what the image says, which is not read: {_ASK}")
    variables = sources.environment(container.env, warnings)
    kind = sources.kind_said(container.annotations, variables)
    asks, beside = sources.from_annotations(container, kind, variables, warnings)
    if asks and sources.container_declines(asks[0], container, config, variables, warnings):
        asks, container = [], container.replace(annotations=sources.without_devices(container.annotations))
    asks = asks or _unannotated(container, kind, config, variables, warnings)
    if not asks and not beside:
        asks = _share_alone(container, kind, config, variables, warnings)
    by_variables = bool(asks) and asks[0].source not in ("annotations", "mounts")
    settings = by_count.settings(container.annotations, variables if by_variables else {})
    if beside:
        from oci_gpu_hook.request import other_kinds

        asks = other_kinds.joined([*asks, *beside])
    requests = _requests(asks, settings, kind, container, config, variables, warnings)
    unread = (
        ""
        if by_variables
        else f"{asks[0].source} go before it"
        if asks
        else "no GPU is asked for; add a count, such as OCI_GPU_COUNT=1"
    )
    by_count.tell_unread(container.annotations, variables, unread, warnings)
    if not asks:
        warnings += [f"{each.what}={quoted(each.text)} is not read: {unread}" for each in settings.values()]
    if not requests:
        return Reading(request=None, warnings=warnings.told())
    sources.check_entries(container.env)
    request = requests[0].replace(warnings=warnings.told(), beside=tuple(requests[1:]))
    return Reading(request=request, warnings=request.warnings)


def _requests(  # noqa: PLR0913, PLR0917
    asks: Sequence[Ask],
    settings: dict[str, Setting],
    kind: str,
    container: Container,
    config: Config,
    variables: Mapping[str, str],
    warnings: list[str],
) -> list[Request]:
    """Return a request for each ask that is for something. Raises InvalidInput. kind: that is said, "" for none."""
    if asks and asks[0].kind in vendors.KINDS and config.allocation_indices == "count":
        asks = [by_count.from_indices(asks[0], settings), *asks[1:]]
    asks = [_of_any_kind(ask, config) if ask.count_decides and not kind else ask for ask in asks]
    if "count" in settings and len(asks) > 1 and all(ask.any_kind and ask.devices == ("all",) for ask in asks):
        asks = _counted_together(asks, kind or config.allocation_default_kind)
    counts = next((ask for ask in asks if ask.kind == kind), asks[0] if asks else None)
    found = []
    for ask in asks:
        own = settings if ask is counts else by_count.without_count(settings)
        counted = by_count.counted(ask, own, config.allocation_longest_wait, warnings)
        if counted is None:
            continue
        options: dict[str, Any] = {"driver_capabilities": ()}
        if ask.kind in vendors.KINDS:
            options = vendors.of(ask.kind).options(ask, container, config, variables, warnings)
        found.append(
            Request(
                **counted.__dict__,
                **options,
                kind=ask.kind,
                source=ask.source,
                engine_serves=ask.engine_serves,
                any_kind=ask.any_kind,
            )
        )
    return found


def _of_any_kind(ask: Ask, config: Config) -> Ask:
    """Return a count without a kind as one of the kind that the host counts, or of whichever it has."""
    default = config.allocation_default_kind
    return ask.replace(kind=default) if default else ask.replace(any_kind=True)


def _counted_together(asks: Sequence[Ask], kind: str) -> list[Ask]:
    """Return what `all` of several vendors is with a count: so many of one. kind: that is said, "" for none."""
    said = [ask.replace(any_kind=False) for ask in asks if ask.kind == kind]
    return said or [asks[0]]


def _share_alone(
    container: Container, kind: str, config: Config, variables: Mapping[str, str], warnings: list[str]
) -> list[Ask]:
    """Return what a container asks for that says only how much of a device it needs. kind: the one that is said."""
    found = by_count.settings(container.annotations, variables)
    if found.keys().isdisjoint(by_count.SHARE):
        return []
    from oci_gpu_hook.request import share_alone

    return share_alone.asks(container, kind, config, variables, warnings)


def _unannotated(
    container: Container, kind: str, config: Config, variables: Mapping[str, str], warnings: list[str]
) -> list[Ask]:
    """Return the requests of the first source after the annotations that makes any. kind: the one that is said."""
    ask = sources.from_mounts(container.mounts, warnings) if config.accept_volume_mounts else None
    asks = [ask] if ask else sources.from_environment(container, kind, config, variables, warnings)
    asks_for_none = not any(ask.devices is not None or ask.count_decides for ask in asks)
    if asks_for_none and not config.accept_volume_mounts:
        sources.tell_unread_mounts(container.mounts, warnings)
    return asks

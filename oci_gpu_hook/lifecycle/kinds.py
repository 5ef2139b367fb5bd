"""Settles whose devices a request means that leaves the vendor open. Imported only for such requests."""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.devices import presence, vendors
from oci_gpu_hook.request.model import DEFAULT_KIND, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.request.model import Request

# A request's fields that only NVIDIA's driver serves, as requests for other kinds have them.
_WITHOUT_NVIDIAS: Final[Mapping[str, Any]] = {
    "driver_capabilities": (),
    "requirements": (),
    "mig_config_devices": None,
    "mig_monitor_devices": None,
    "imex_channels": (),
    "features": (),
}


def settled(request: Request, config: Config) -> Request:
    """Return the request for what the host has. Raises InvalidInput where nobody has said which of several is meant.

    A count is of the one vendor whose GPUs the host has. What the variables of several vendors ask for is given as far
    as the host has such GPUs: images set both, for hosts of either.
    """
    open_parts = [part for part in (request, *request.beside) if part.any_kind]
    if len(open_parts) == 1 and open_parts[0].count is not None:
        return _with(request, {id(open_parts[0]): _counted(open_parts[0], config)})
    present = presence.of_host(config)
    if not any(part.kind in present for part in open_parts):
        return _with(request, {id(part): part.replace(any_kind=False) for part in open_parts})
    absent = [part.kind for part in open_parts if part.kind not in present]
    kept = {id(part): part.replace(any_kind=False) for part in open_parts if part.kind in present}
    left_out = [f"{kind} is left out, since this host has no such GPU; the other kinds are given" for kind in absent]
    return _with(request, {id(part): None for part in open_parts} | kept, left_out)


def settled_before(request: Request, uuids: Iterable[str]) -> Request:
    """Return the request of a container that was given devices by it, which say what it meant."""
    kinds = {vendors.kind_of(uuid) for uuid in uuids} or {DEFAULT_KIND}
    open_parts = [part for part in (request, *request.beside) if part.any_kind]
    if len(open_parts) == 1 and open_parts[0].count is not None:
        beside = {part.kind for part in (request, *request.beside) if not part.any_kind}
        kind = min(kinds - beside or kinds)
        return _with(request, {id(open_parts[0]): _of_kind(open_parts[0], kind)})
    kept = {id(part): part.replace(any_kind=False) for part in open_parts if part.kind in kinds}
    return _with(request, {id(part): None for part in open_parts} | kept) if kept else request


def _counted(request: Request, config: Config) -> Request:
    found = presence.meant_by_count(config)
    if len(found) > 1:
        what = f"{request.count} GPU{'s' if request.count != 1 else ''} asked for without a kind"
        why = f"this host has GPUs of {', '.join(found)}"
        remedy = f"say which by {name_of('kind', request)}, or [allocation] default-kind in config.toml"
        raise InvalidInput(what, why, remedy, "OGH1209")
    return _of_kind(request, found[0] if found else request.kind)


def _of_kind(request: Request, kind: str) -> Request:
    if kind in vendors.KINDS:
        return request.replace(kind=kind, any_kind=False)
    return request.replace(kind=kind, any_kind=False, **_WITHOUT_NVIDIAS)


def _with(request: Request, changed: dict[int, Request | None], warnings: Sequence[str] = ()) -> Request:
    """Return the request with parts exchanged, or left out where that is None; one is left."""
    parts = [changed.get(id(part), part) for part in (request, *request.beside)]
    first, *others = [part.replace(beside=()) for part in parts if part is not None]
    return first.replace(warnings=(*request.warnings, *warnings), beside=tuple(others))

"""What a running container has asked for and what was attached to it, as one request."""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.request import parse
from oci_gpu_hook.request.model import ATTACHED, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container


def of_running(container: Container, entry: Entry, config: Config) -> Request:
    """Return the request by which the container has what its entry says. Raises InvalidInput if it asks for nothing."""
    request = parse.parse(container, config)
    if request is None and not entry.attached:
        why = "its config.json asks for none now, or the configuration lets it have none"
        raise InvalidInput(f"container {quoted(entry.id)} was given GPUs", why, "restart the container", "OGH1909")
    return with_devices(request, entry.gpus, entry.capabilities) if request is None or entry.attached else request


def with_devices(request: Request | None, uuids: Sequence[str], capabilities: Sequence[str]) -> Request:
    """Return a request for these devices, otherwise as the container's own, if it has one."""
    if request is None:
        return Request(devices=tuple(uuids), driver_capabilities=tuple(capabilities), source=ATTACHED)
    return request.replace(devices=tuple(uuids), count=None, memory=0)

"""What CDI specification files bring to a Mesos container beside nodes and mounts: variables, groups and hooks.

A command of the launch cannot change the environment of the one that follows it. So the devices that files describe are
granted when the launch is read, before the real helper sees it: the launch gets their variables and groups, and the
container's config.json those and the hooks, which `stages` runs. The lease is the helper's, whose pid this process has,
and `attach` finds it.

Facts of Mesos 1.11 (src/slave/containerizer/mesos/launch.cpp): of two variables of one name the later one counts, and
`supplementary_groups`, which Mesos 1.8 and later know, are added to those of a user who is not root.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import HookError, InvalidInput, quoted
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.edits import ContainerEdits
from oci_gpu_hook.entrypoints.mesos import launch_info, proc_of_host
from oci_gpu_hook.entrypoints.mesos.stages import STAGES
from oci_gpu_hook.oci import container as containers
from oci_gpu_hook.request import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.request.model import Request

_REMEDY: Final = (
    "run the task by the Docker containerizer with the runtime oci-gpu (docs/mesos.md), or ask for a device without it"
)


def added(text: str, document: dict[str, Any], name: str, config: Config) -> str:
    """Grant the devices that files describe; return the launch information with what they bring to a launch.

    document: the container's config.json, to which it is added, too. name: the container's. Raises HookError for what
    cannot be granted, and for an edit that no launch of Mesos can make; then nothing is held.
    """
    with proc_of_host.Entered():
        state = containers.State(id=name, pid=int(os.readlink("/proc/self")), bundle="/", root="", annotations={})
        container = containers.of_document(document, state)
        request = _described(container, config)
        if request is None:
            return text
        from oci_gpu_hook.lifecycle.admission import Admitted

        with Admitted(container, request, config) as admission:
            edits = _settled(admission.described_edits())
            _check(edits)
            _put_in(document, edits)
    return launch_info.with_groups(launch_info.with_variables(text, edits.env), edits.additional_gids)


def _described(container: Container, config: Config) -> Request | None:
    """Return what the container asks for of kinds that files may describe, None for nothing."""
    request = parse.parse(container, config)
    if request is None:
        return None
    if request.is_open:
        from oci_gpu_hook.lifecycle import kinds

        try:
            request = kinds.settled(request, config)
        except HookError:
            return None  # `attach` says so, unless the agent's isolator has settled it
    parts = [part.replace(beside=()) for part in (request, *request.beside) if part.kind not in vendors.KINDS]
    return parts[0].replace(beside=tuple(parts[1:])) if parts else None


def _settled(edits: ContainerEdits) -> ContainerEdits:
    """Return the edits without what would only keep other hooks from acting, of which there are none here."""
    from oci_gpu_hook.lifecycle import described

    return edits.replace(env=tuple(entry for entry in edits.env if entry not in described.HARMLESS))


def _check(edits: ContainerEdits) -> None:
    """Raise InvalidInput for an edit that nothing in a launch can make."""
    from oci_gpu_hook.lifecycle import described

    for hook in edits.hooks:
        if hook.hook_name not in STAGES:
            why = "a launch of Mesos lets others run commands only before the container's own, outside the container"
            raise InvalidInput(f"CDI hook {quoted(hook.path)} ({hook.hook_name})", why, _REMEDY, "OGH1220")
    for what, why in described.refused(edits.replace(env=(), hooks=())):
        raise InvalidInput(what, why, _REMEDY, "OGH1220")


def _put_in(document: dict[str, Any], edits: ContainerEdits) -> None:
    from oci_gpu_hook.apply import bundle_described

    of_launch = ContainerEdits(env=edits.env, hooks=edits.hooks, additional_gids=edits.additional_gids)
    bundle_described.put_in(document, of_launch, user_namespace=False)

"""Reads a container's request when Mesos has accounted GPUs to it: `gpus:N` and the environment together. Pure.

| environment | with gpus:N |
|---|---|
| `all`, nothing, or a count of N | N GPUs |
| N names or fewer | those |
| more names than N, or another count | refused: Mesos would not know of them |
| a part of a GPU | refused: what Mesos accounts is whole |
| `none` | the driver's files |
| `void` | nothing |

Mesos accounts a GPU to one task only, so the lease is exclusive. Mesos may offer a GPU while the process that used it
is still being torn down, so a container waits for some seconds.
"""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.oci.container import State, of_document
from oci_gpu_hook.request import parse, sources
from oci_gpu_hook.request.model import ANNOTATION_PREFIX, DEFAULT_KIND
from oci_gpu_hook.request.nvidia.words import VISIBLE_DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container

PATIENCE: Final = 10  # seconds
_SETTINGS: Final = ("memory", "wait")
_REMEDY: Final = "give the task as many `gpus` as it names, or have it name fewer"


def asks(document: dict[str, Any], gpus: int | None, config: Config) -> bool:
    """Tell whether the container of a config.json asks for GPUs; add what Mesos accounts to its annotations.

    gpus: how many Mesos has given it, None if that is unknown. Raises InvalidInput.
    """
    container = _container(document)
    request = parse.parse(container, config)
    if not gpus or (request is not None and request.kind != DEFAULT_KIND):  # which Mesos has no resource for
        return request is not None
    variables = sources.environment(container.env, [])
    if request is None and _declines(variables.get(VISIBLE_DEVICES)):
        return False
    named = request is not None and request.devices != ("all",) and request.count is None
    if request is not None and named and len(request.devices) > gpus:
        why = f"names {len(request.devices)} devices, while Mesos gave the task gpus:{gpus}"
        raise InvalidInput(f"{VISIBLE_DEVICES}={quoted(','.join(request.devices))}", why, _REMEDY, "OGH1701")
    if request is not None and request.count not in (None, gpus):
        why = f"asks for {request.count} GPUs, while Mesos gave the task gpus:{gpus}"
        raise InvalidInput(f"OCI_GPU_COUNT={request.count}", why, _REMEDY, "OGH1701")
    if request is not None and request.is_share:
        why = f"Mesos gave the task gpus:{gpus}, which are whole GPUs"
        remedy = "give the task no `gpus`, and it gets its part; or remove OCI_GPU_MEMORY_LIMIT and OCI_GPU_CORES"
        raise InvalidInput("a part of a GPU", why, remedy, "OGH1701")
    settings = {"exclusive": "true", "wait": str(PATIENCE)}
    settings |= {name: text for name in _SETTINGS if (text := variables.get(f"OCI_GPU_{name.upper()}", "").strip())}
    if request is not None and named and not request.devices:
        settings = {}
    elif named or (request is not None and request.devices and request.count is not None):  # a MIG profile, by count
        settings.pop("memory", None)
    else:
        settings["count"] = str(gpus)
    document["annotations"] |= {ANNOTATION_PREFIX + name: text for name, text in settings.items()}
    return True


def names_other_kinds(document: dict[str, Any], config: Config) -> bool:
    """Tell whether the container of a config.json may ask for devices of other kinds than Mesos accounts."""
    request = parse.parse(_container(document), config)
    if request is None:
        return False
    return request.is_open or any(part.kind != DEFAULT_KIND for part in (request, *request.beside))


def _declines(visible: str | None) -> bool:
    return visible is not None and visible.strip() in ("", "void")


def _container(document: dict[str, Any]) -> Container:
    return of_document(document, State(id="", pid=0, bundle="/", root="", annotations={}))

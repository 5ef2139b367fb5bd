"""What Slurm's choice changes in the config.json of a step's container. Pure: works on the parsed document.

The document is a copy that Slurm has made for this step. Of this project's annotations those that say which devices are
taken out, and one is put in, which goes before every other way of asking: which GPUs there are for the container has
been decided. Of the container's own words those count that ask for less: `void`, and `none` for the driver's files.
"""

from __future__ import annotations

from oci_gpu_hook.base.document import member
from oci_gpu_hook.request import sources
from oci_gpu_hook.request.by_count import SHARE
from oci_gpu_hook.request.model import ANNOTATION_PREFIX, variable_of
from oci_gpu_hook.request.nvidia.words import VISIBLE_DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from oci_gpu_hook.devices.model import Device

_WHAT: Final = "config.json"
_SETTINGS: Final = ("devices", "count", "memory", "exclusive", "wait")
# By these CUDA and OpenCL choose among the GPUs that they see. In the container those are the given ones, from 0 on.
_ORDINALS: Final = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")


def variables(config: dict[str, Any]) -> dict[str, str]:
    """Return the variables of the container's process. Raises InvalidInput."""
    entries = member(member(config, "process", dict, _WHAT, {}), "env", list, _WHAT, [])
    return sources.environment([entry for entry in entries if type(entry) is str], [])


def declines(said: dict[str, str]) -> bool:
    """Tell whether a container wants none of the GPUs that its step has."""
    return said.get(VISIBLE_DEVICES, "all").strip() in ("", "void")


def choose(config: dict[str, Any], devices: Sequence[Device]) -> None:
    """Have the container of a config.json ask for these devices and for no others. Raises InvalidInput."""
    said = variables(config)
    names = [device.uuid for device in devices] or ["void"]
    if declines(said):
        names = ["void"]
    elif said.get(VISIBLE_DEVICES, "").strip() == "none":
        names = ["none"]
    there = member(config, "annotations", dict, _WHAT, {})
    kept = {key: text for key, text in there.items() if not _says_which(key)}
    parts = {ANNOTATION_PREFIX + name: text for name in SHARE if (text := said.get(variable_of(name), "").strip())}
    config["annotations"] = {**parts, **kept, f"{ANNOTATION_PREFIX}devices": ",".join(names)}
    if devices:
        _number(member(config, "process", dict, _WHAT, {}), devices)


def _says_which(key: str) -> bool:
    name = key.removeprefix(ANNOTATION_PREFIX)
    own = key != name and name.partition(".")[0] in _SETTINGS
    return own or key.startswith(sources.CDI_ANNOTATION_PREFIX)


def _number(process: dict[str, Any], devices: Sequence[Device]) -> None:
    """Set the variables that number GPUs, where they are there, to what the container sees."""
    has_parts = any(device.whole for device in devices)
    text = ",".join(device.uuid if has_parts else str(place) for place, device in enumerate(devices))
    env = member(process, "env", list, _WHAT, [])
    for place, entry in enumerate(env):
        name, equals, _ = str(entry).partition("=")
        if equals and name in _ORDINALS:
            env[place] = f"{name}={text}"

"""Requests by count: `io.oci-gpu-hook.count`, `.memory`, `.exclusive`, `.wait`, or OCI_GPU_COUNT and its like; shares.

A count narrows `all`, which nearly every CUDA image sets. Beside a list of devices, a count is an error unless the list
has exactly that many.
"""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.oci import pod
from oci_gpu_hook.request.model import ANNOTATION_PREFIX, PREPARED, VARIABLE_PREFIX, variable_of
from oci_gpu_hook.request.values import duration, number, size, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.request.ask import Ask

SHARE: Final = ("memory-limit", "cores")  # settings for a part of each device
_SETTINGS: Final = ("count", "memory", "exclusive", "wait", *SHARE)
_OF_NAMES: Final = ("exclusive", "wait")  # settings that mean something for devices that are named, too
_VARIABLES: Final = ("devices", "kind", *_SETTINGS)
_OTHER_VARIABLES: Final = ("volume", "cuda-compat")  # read by devices' vendors
_ANNOTATIONS: Final = ("devices", "capabilities", "kind", *_SETTINGS, "volume", "cuda-compat", "nested-proc")


class Counted(Record):
    """Devices and how many of them, as in Request."""

    devices: tuple[str, ...]
    count: int | None = None
    memory: int = 0
    exclusive: bool = False
    wait: int = 0
    memory_limit: int = 0
    cores: int = 0
    share_by: str = ""


class Setting(Record):
    """A value with the name of the annotation or variable that it comes from."""

    what: str
    text: str


def settings(annotations: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, Setting]:
    """Return the settings by name. An annotation takes precedence over a variable; a blank value sets nothing."""
    found = {}
    for name in _SETTINGS:
        annotation = pod.own_key(annotations, ANNOTATION_PREFIX + name)
        for key, values in ((annotation, annotations), (variable_of(name), variables)):
            if values.get(key, "").strip():
                found[name] = Setting(what=key, text=values[key])
                break
    return found


def without_count(found: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return the settings that hold for devices of a kind that the count is not of."""
    return {name: setting for name, setting in found.items() if name in _OF_NAMES}


def from_indices(ask: Ask, found: dict[str, Setting]) -> Ask:
    """Read the indices 0 to N-1, which Docker writes for `--gpus N`, as the count N: `[allocation] indices = "count"`.

    Add the count to `found` and return a request for any GPU. Other names, or a count in `found`, change nothing.
    """
    names = ask.devices or ()
    if ask.source != "environment" or "count" in found or not names:
        return ask
    if names != tuple(map(str, range(len(names)))):
        return ask
    found["count"] = Setting(what=ask.what, text=str(len(names)))
    return ask.replace(devices=("all",))


def tell_unread(annotations: Mapping[str, str], variables: Mapping[str, str], why: str, warnings: list[str]) -> None:
    """Warn of OCI_GPU_* variables that have no effect, and of unknown annotations of this project."""
    for name in _VARIABLES:
        variable = variable_of(name)
        if why and variables.get(variable, "").strip():
            warnings.append(f"{variable}={quoted(variables[variable])} is not read: {why}")
    known = known_variables()
    for key in variables:
        if key.startswith(VARIABLE_PREFIX) and key not in known:
            warnings.append(f"{quoted(key)} is not read{_meant(key, VARIABLE_PREFIX, known, warnings)}")
    for key in annotations:
        if not key.startswith(ANNOTATION_PREFIX) or key == PREPARED:
            continue
        word, dot, _ = key.removeprefix(ANNOTATION_PREFIX).partition(".")
        if word not in _ANNOTATIONS:
            meant = _meant(ANNOTATION_PREFIX + word, ANNOTATION_PREFIX, _ANNOTATIONS, warnings)
            warnings.append(f"the annotation {quoted(key)} is not read{meant}")
        elif dot and not pod.container_name(annotations):
            warnings.append(f"the annotation {quoted(key)} is not read: it is for a container of a pod by its name")


def known_variables() -> list[str]:
    """Return the names of this project's variables."""
    return [VARIABLE_PREFIX + name.upper().replace("-", "_") for name in (*_VARIABLES, *_OTHER_VARIABLES)]


def _meant(name: str, prefix: str, known: Sequence[str], warnings: Sequence[str]) -> str:
    """Return which of the known names a misspelt one was probably meant for, or all of them.

    "" where there are more warnings already than anybody is told.
    """
    if len(warnings) >= limits.WARNINGS:
        return ""
    from oci_gpu_hook.request import suggestions

    words = [each.removeprefix(prefix) for each in known]
    nearest = suggestions.word(name.removeprefix(prefix), words)
    return f"; did you mean {prefix}{nearest}?" if nearest else f"; {prefix}* are: {', '.join(words)}"


def counted(ask: Ask, found: Mapping[str, Setting], longest_wait: int | None, warnings: list[str]) -> Counted | None:
    """Return the request with its count, None for no GPU. Raises InvalidInput if the settings contradict each other.

    longest_wait: the most seconds that the host allows, None for any.
    """
    if ask.devices is None and not ask.count_decides:
        warnings += [f"{setting.what} is not read: {ask.what} asks for no GPU" for setting in found.values()]
        return None
    devices = ask.devices or ()
    count = _count(ask, found.get("count"))
    if count is None and "count" in found and devices and "memory" in found:
        # Granted by oci-gpu-runtime, or written by somebody who made sure that both fit.
        memory = found["memory"]
        warnings.append(f"{memory.what}={quoted(memory.text)} is not read: {ask.what} names the devices")
        found = {name: setting for name, setting in found.items() if name != "memory"}
    if count is not None and not ask.is_profile:
        devices = ()
    if count == 0:
        warnings.append(f"{found['count'].what}={quoted(found['count'].text)} asks for no GPU")
        return None
    asks_for_gpus = count is not None or bool(devices)
    if not asks_for_gpus:
        warnings += [f"{setting.what} is not read: {ask.what} asks for no GPU" for setting in found.values()]
        return Counted(devices=())
    exclusive = found.get("exclusive")
    made = Counted(
        devices=devices,
        count=count,
        memory=_memory(ask, found.get("memory"), count),
        exclusive=truth(exclusive.text, exclusive.what) if exclusive else False,
        wait=_wait(found.get("wait"), longest_wait, warnings),
    )
    if found.keys().isdisjoint(SHARE):
        return made
    return _share(found, made)


def _share(found: Mapping[str, Setting], counted: Counted) -> Counted:
    from oci_gpu_hook.request import shares

    memory, cores = (found.get(name) for name in SHARE)
    part, whole = memory or cores, found.get("exclusive")
    made = counted.replace(
        memory_limit=shares.memory(memory.text, memory.what) if memory else 0,
        cores=shares.cores(cores.text, cores.what) if cores else 0,
        share_by=part.what if part else "",
    )
    if counted.exclusive and part and whole:
        why = f"asks for a part of a GPU, and {whole.what}={quoted(whole.text)} for the whole of it"
        raise InvalidInput(f"{part.what}={quoted(part.text)}", why, "remove one of the two", "OGH1203")
    return made


def _count(ask: Ask, setting: Setting | None) -> int | None:
    """Return how many are asked for, None if the devices say so. A profile alone means one device of it."""
    if setting is None:
        return 1 if ask.is_profile or ask.count_decides else None
    count = number(setting.text, setting.what)
    if ask.count_decides or ask.is_profile or ask.devices == ("all",):
        return count
    if count == len(ask.devices or ()):
        return None  # as many names as the count says: oci-gpu-runtime leaves a count like this when it has granted it
    named = "names devices" if ask.devices else "asks for no GPU"
    why = f"it is given together with {ask.what}, which {named}"
    raise InvalidInput(f"{setting.what}={quoted(setting.text)}", why, "ask by count or by name, not by both", "OGH1203")


def _wait(setting: Setting | None, longest: int | None, warnings: list[str]) -> int:
    seconds = duration(setting.text, setting.what) if setting else 0
    if setting is None or longest is None or seconds <= longest:
        return seconds
    allowed = f"{longest} s, which is the most that [allocation] longest-wait of config.toml allows"
    warnings.append(f"{setting.what}={quoted(setting.text)} is cut to {allowed}")
    return longest


def _memory(ask: Ask, setting: Setting | None, count: int | None) -> int:
    if setting is None:
        return 0
    amount = size(setting.text, setting.what)
    if count is None:
        why = f"it narrows a count, and no count was given beside {ask.what}"
        remedy = f"say how many GPUs by {ANNOTATION_PREFIX}count or {VARIABLE_PREFIX}COUNT"
        raise InvalidInput(f"{setting.what}={quoted(setting.text)}", why, remedy, "OGH1208")
    return amount

"""Where this project differs from the reference, and why; a case that no row speaks of must come out the same.

A row says by the input, or by the reference's answer, to which cases it applies, and exactly what must come out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.unit.nvidia import bundles
from tests.unit.nvidia.outcomes import NO_GPU, REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable

# Names that a device could have: an index, a UUID or what begins like one, MIG indices, a bus id, or `all`.
_A_NAME = re.compile(
    r"(\d{1,9}|(gpu|mig)[-\d][\da-z/-]*|\d+:\d+|[\da-f]+:[\da-f]+:[\da-f]+(\.[0-7])?|all)", re.IGNORECASE
)


@dataclass(frozen=True)
class Row:
    """applies(case, theirs) selects the cases; expected(case, theirs) is this project's outcome."""

    reason: str
    applies: Callable[[dict[str, Any], Any], bool]
    expected: Callable[[dict[str, Any], Any], Any] = lambda case, theirs: REFUSED
    warning: str = ""


def _given(case, name, default=None):
    return case["input"].get(name, default)


def _document(case):
    """Return a blackbox case's config.json, {} where it is not an object."""
    return _given(case, "config_json") or {}


def _is_hook(case):
    return case["kind"] == "hook_blackbox"


def _devices(theirs):
    return (
        theirs.get("devices", frozenset()) if isinstance(theirs, dict) else theirs if theirs != NO_GPU else frozenset()
    )


def _impossible(case, theirs):
    if case["kind"] not in ("hook_blackbox", "hook_container_config", "visible_devices"):
        return False
    devices = {name for name in _devices(theirs) if name not in ("", "none", "void")} if theirs != REFUSED else ()
    return any(not _A_NAME.fullmatch(name) for name in devices)


def _mount_words(case):
    accepted = (_given(case, "config") or {}).get("accept-nvidia-visible-devices-as-volume-mounts")
    destinations = [mount.get("destination", "") for mount in _document(case).get("mounts", [])] if accepted else []
    return [path.rpartition("/")[2] for path in destinations if path.startswith(bundles.MOUNTS + "/")]


def _without(theirs, *names):
    """Return their outcome less some device names and the "" that a duplicate leaves among IMEX channels."""
    if isinstance(theirs, frozenset):
        return theirs.difference(names)
    return {**theirs, "devices": theirs["devices"].difference(names), "imex": theirs["imex"].difference(names)}


def _annotated(case):
    """Return the devices of the one CDI annotation of a blackbox case."""
    values = [value for key, value in _document(case).get("annotations", {}).items() if key.startswith("cdi.k8s.io/")]
    return frozenset(
        value.rpartition("=")[2] for value in ",".join(values).split(",") if value.startswith("nvidia.com/")
    )


def _by_annotation(case, theirs):
    default = {"capabilities": frozenset(("compute", "utility")), "requirements": [], "mig": (None, None)}
    place = {"imex": frozenset(), "rootfs": f"{bundles.BUNDLE}/rootfs", "pid": "4321"}
    return {"devices": _annotated(case), **default, **place}


def _imex_is_invalid(case, theirs):
    channels = theirs.get("imex", ()) if isinstance(theirs, dict) else ()
    return any(channel != "" and not (isinstance(channel, int) and channel < 1 << 20) for channel in channels)


def _state(case):
    return _given(case, "stdin", "") if _is_hook(case) else ""


BETTER = (
    Row(
        "A device or channel that is named twice is given once; no empty name is left that hides all GPUs in CDI mode.",
        lambda case, theirs: bool(
            {"duplicate-leaves-empty-entry", "duplicate-hides-all-gpus"} & {*case.get("quirks", ())}
        ),
        lambda case, theirs: _without(theirs, "", "none"),
    ),
    Row(
        "A mount beside the directory of device mounts (`…/nvidia-container-devices-other/0`) is not a request.",
        lambda case, theirs: any(
            mount.get("destination", "").startswith(f"{bundles.MOUNTS}-") for mount in _document(case).get("mounts", [])
        ),
        lambda case, theirs: NO_GPU,
    ),
    Row(
        "A name that no device can have is refused with the variable, the nearest valid name and all valid forms; the "
        "reference hands it on, and its CLI says `unknown device`.",
        _impossible,
    ),
    Row(
        "`ALL` is `all` here, with a warning, as it is to the reference's CLI, which the reference's CDI mode refuses.",
        lambda case, theirs: _is_hook(case) and "ALL" in _devices(theirs) if theirs not in (REFUSED, NO_GPU) else False,
        lambda case, theirs: {**theirs, "devices": frozenset(("all",))},
        "is read as 'all'",
    ),
    Row(
        "`none` alone has its meaning in volume mounts too: driver files and no GPU.",
        lambda case, theirs: _mount_words(case) == ["none"],
        lambda case, theirs: {**theirs, "devices": frozenset()},
    ),
    Row(
        "`void` alone has its meaning in volume mounts too: no GPU container.",
        lambda case, theirs: _mount_words(case) == ["void"],
        lambda case, theirs: NO_GPU,
    ),
    Row(
        "`none` or `void` beside devices in volume mounts is refused; in the reference the CLI fails on it.",
        lambda case, theirs: len(_mount_words(case)) > 1 and bool({"none", "void"} & {*_mount_words(case)}),
    ),
    Row(
        "No driver capability selected gives the same, and a warning says that there will be no driver library.",
        lambda case, theirs: "no-capability-selected-silently" in case.get("quirks", ()),
        lambda case, theirs: theirs,
        "no driver capability is selected",
    ),
    Row(
        "An IMEX channel that cannot exist is refused with the range; the reference's hook leaves that to its CLI.",
        _imex_is_invalid,
    ),
    Row(
        "`cdi.k8s.io/*` annotations ask in every engine; the reference's hook ignores them and its runtime obeys them.",
        lambda case, theirs: _is_hook(case) and bool(_annotated(case)),
        _by_annotation,
    ),
    Row(
        "What is no CDI name in an annotation, and of no vendor that is served here, is passed over with a warning.",
        lambda case, theirs: case["kind"] in ("annotation_devices", "cdi_device_requests") and _foreign(case),
        lambda case, theirs: NO_GPU,
        "is not a CDI name and is not read",
    ),
    Row(
        "A CDI device of another vendor in NVIDIA_VISIBLE_DEVICES is refused: this hook could only leave it out.",
        lambda case, theirs: case["kind"] == "jit_cdi_requests" and "example.com/" in str(_given(case, "env")),
    ),
    Row(
        "The hook serves containers whatever mode NVIDIA's file sets; the reference's refuses in `cdi` and `jit-cdi`.",
        lambda case, theirs: (
            _is_hook(case)
            and theirs == REFUSED
            and "mode" in (_given(case, "config") or {}).get("nvidia-container-runtime", {})
        ),
        lambda case, theirs: {**_by_annotation(case, theirs), "devices": frozenset(("all",))},
    ),
    Row(
        "A container without a process in the state (pid 0 or none) is refused; the reference passes the number on.",
        lambda case, theirs: "pid-not-validated" in case.get("quirks", ()),
    ),
    Row(
        "A state without a bundle is refused; the reference reads the config.json of whatever directory it runs in.",
        lambda case, theirs: case["kind"] == "oci_state" and not _devices_of_state(theirs),
    ),
    Row(
        "Data after the JSON of the state is refused.",
        lambda case, theirs: "trailing-data-ignored" in case.get("quirks", ()),
    ),
    Row(
        "The names in the state are read as the OCI specification spells them, in lower case.",
        lambda case, theirs: '"Bundle"' in _state(case),
    ),
    Row(
        "`root` in the state (crun) says where the rootfs is, as in the reference's newer hooks.",
        lambda case, theirs: '"root":"/ext/rootfs"' in _state(case),
        lambda case, theirs: {**theirs, "rootfs": "/ext/rootfs"},
    ),
    Row(
        "A rootfs that is the bundle itself, or lies outside it by a relative path, is refused.",
        lambda case, theirs: "rootfs-not-confined-to-bundle" in case.get("quirks", ()) or _has_no_root_path(case),
    ),
    Row(
        "config.json needs no `ociVersion` to be served; the runtime has checked it.",
        lambda case, theirs: (
            _is_hook(case)
            and theirs == REFUSED
            and case["expected"].get("error", "").startswith("Version is")
            and '"root"' in _given(case, "config_json_text", "")
        ),
        lambda case, theirs: {**_by_annotation(case, theirs), "devices": frozenset(("all",))},
    ),
    Row(
        "An unknown cuda-compat-mode is refused with the known ones; the reference takes it for `disabled`.",
        lambda case, theirs: "unknown-compat-mode-means-disabled" in case.get("quirks", ()),
        lambda case, theirs: theirs if _compat_mode(case) in ("ldconfig", "mount", "disabled", "hook") else REFUSED,
    ),
)


def _devices_of_state(theirs):
    return theirs != REFUSED and theirs["bundle"]


def _has_no_root_path(case):
    return (
        case["kind"] == "container_root" and _given(case, "config_json") == {} and "root" not in _given(case, "state")
    )


def _compat_mode(case):
    return (_given(case, "config") or {}).get("nvidia-container-runtime.modes.legacy", {}).get("cuda-compat-mode")


def _foreign(case):
    values = ",".join((_given(case, "annotations") or {}).values())
    prefixes = _given(case, "annotation_prefixes") or (_given(case, "config") or {}).get("annotation_prefixes", [])
    used = any(key.startswith(tuple(prefixes)) for key in _given(case, "annotations") or {})
    return used and bool(values) and "nvidia.com" not in values and "=" not in values


NOT_APPLICABLE = (
    Row(
        "Stages other than prestart: a matter of the hook's command line, not of the request.",
        lambda case, theirs: _is_hook(case) and _given(case, "command") != "prestart",
    ),
    Row(
        "Which ldconfig to run: this project runs none.",
        lambda case, theirs: (
            _is_hook(case)
            and theirs == REFUSED
            and "ldconfig" in (_given(case, "config") or {}).get("nvidia-container-cli", {})
        ),
    ),
    Row(
        "Whether the channel's node exists: seen when the plan looks for it.",
        lambda case, theirs: (
            case["kind"] == "imex_channel_id" and "not found" in case["expected"].get("error_contains", "")
        ),
    ),
    Row(
        "A step inside the reference that drops what is not supported; its hook then refuses, and so does this one.",
        lambda case, theirs: case["kind"] == "capabilities_intersection" and theirs != _given(case, "requested"),
    ),
)


def row_of(case, theirs):
    """Return the verdict ("same", "better", "not applicable") that the rows give, and the row."""
    for row in NOT_APPLICABLE:
        if row.applies(case, theirs):
            return "not applicable", row
    for row in BETTER:
        if row.applies(case, theirs):
            return "better", row
    return "same", None

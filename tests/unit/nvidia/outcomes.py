"""What the reference says of a case and what this project says, in one form, so that `==` compares them."""

from __future__ import annotations

import json

from oci_gpu_hook.base.config import toml
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.devices.nvidia import requirements
from oci_gpu_hook.devices.nvidia.requirements import Host
from oci_gpu_hook.oci import container
from oci_gpu_hook.request import qualified_name, values
from oci_gpu_hook.request.nvidia import capabilities, cuda
from tests.unit.nvidia import bundles

REFUSED = "refused"
NO_GPU = "no GPU container"
REFERENCE_HOST = Host(driver="550.54.15", cuda="12.4", arch="8.0", brand="tesla")


def theirs(case):
    """Return the reference's outcome."""
    expected = case["expected"]
    kind = case["kind"]
    if expected.get("exit", 0) or expected.get("error") is True:
        return REFUSED
    if kind in ("hook_blackbox", "hook_container_config"):
        return _their_request(expected) if expected["gpu_container"] else NO_GPU
    if kind in _DEVICE_KINDS:
        devices = expected.get("devices", expected.get("devices_unordered"))
        return _devices(devices) if devices else NO_GPU
    if kind in _THEIRS:
        return _THEIRS[kind](expected)
    return expected


def ours(case):
    """Return this project's outcome."""
    try:
        return _ours(case)
    except HookError:
        return REFUSED


def _ours(case):
    kind = case["kind"]
    bundle = bundles.of_case(case)
    if bundle is None:
        return _OURS[kind](case["input"])
    if kind == "hook_blackbox":
        found = bundle.container()
        request = bundle.reading().request
        return NO_GPU if request is None else {**of_request(request), "rootfs": found.rootfs, "pid": str(found.pid)}
    request = bundle.reading().request
    return of_json(case, None if request is None else _json_of(request))


def _json_of(request):
    from oci_gpu_hook.request.json_form import to_json

    return json.loads(json.dumps(to_json(request)))


def of_json(case, document):
    """Return the outcome that the command's JSON stands for, in the form of the case's kind."""
    if document is None:
        return {"graphics_required": False}.get(case["kind"], NO_GPU)
    return _OF_JSON[case["kind"]](document)


def of_request(request):
    return _of_document(_json_of(request))


def _of_document(document):
    return {
        "devices": frozenset(document["devices"]),
        "capabilities": frozenset(document["driverCapabilities"]),
        "requirements": sorted(document["requirements"]),
        "mig": (document["migConfigDevices"], document["migMonitorDevices"]),
        "imex": frozenset(document["imexChannels"]),
    }


def _their_request(expected):
    outcome = {
        "devices": _devices(expected["devices"]),
        "capabilities": frozenset(expected["driver_capabilities_unordered"]),
        "requirements": sorted(expected["requirements_unordered"]),
        "mig": (expected["mig_config_devices"] or None, expected["mig_monitor_devices"] or None),
        "imex": frozenset(map(channel, expected.get("imex_channels", ()))),
    }
    if "rootfs" in expected:
        outcome["rootfs"] = expected["rootfs"].replace("@BUNDLE@", bundles.BUNDLE)
        outcome["pid"] = expected["pid"]
    return outcome


def _devices(names):
    """Return device names; a CDI name and its last part are the same device. "" among others is a trace of `none`."""
    if len(names) == 1 and (names[0] == "" or names[0].endswith("/gpu=none")):
        return frozenset()
    return frozenset(name.rpartition("=")[2] if qualified_name.parse(name) else name for name in names)


def channel(text):
    """Return the number of an IMEX channel, which may be written channelN; other text stays as it is."""
    number = str(text).removeprefix("channel")
    return int(number) if number.isdecimal() else text


def _term(text):
    name, operator, value = requirements._split(text)
    if requirements.unsatisfied(text, Host(driver="1", cuda="1")) == requirements.INVALID:
        return REFUSED
    return {"property": name, "op": operator, "value": value} if text else None


def _logic(given):
    words = {True: "driver>=0", False: "driver<0"}
    joined = {"and": ",", "or": " "}[given["op"]].join(words[value] for value in given["operands"])
    return requirements.unsatisfied(joined, REFERENCE_HOST) is None


def _hosts():
    return [
        Host(driver="550", cuda=cuda, arch=arch) for cuda in ("11.5", "11.6", "12") for arch in ("5.2", "5.3", "9.0")
    ]


def _truths(requirement):
    """Return what a requirement says of each of nine hosts; REFUSED where it cannot be read."""
    answers = [requirements.unsatisfied(requirement, host) for host in _hosts()]
    return REFUSED if requirements.INVALID in answers else [answer is None for answer in answers]


def _truths_of_tree(tree):
    if tree is None:
        return [True] * len(_hosts())
    for word, combine in (("or", any), ("and", all)):
        if word in tree:
            return [combine(answers) for answers in zip(*map(_truths_of_tree, tree[word]), strict=True)]
    return _truths(f"{tree['property']}{tree['op']}{tree['value']}")


def _evaluated(given):
    host = {name: value or "" for name, value in given["host"].items()}
    error = requirements.unsatisfied(given["requirement"], Host(**host))
    return {"satisfied": True} if error is None else {"satisfied": False, "error": error}


def _qualified(given):
    name = qualified_name.parse(given["device"])
    return (name.vendor, name.device_class, name.name) if name else None


def _state(given):
    state = container.read_state(given["stdin"].encode())
    return {"bundle": state.bundle, "root": state.root}


def _minimal_spec(given):
    text = given["config_json_text"]
    if text is None:
        return container.read_config("/nonexistent")
    return container.parse_config(text.encode(), container.read_state(bundles.state_json().encode()))


def _root(given):
    state = {"id": "c", "pid": 1, **given["state"]}
    document = given["config_json"]
    if document is None and "root" in state:
        document = {"root": {"path": "another"}}  # the engine's bundle always has one; the state's root goes before it
    if document is None:
        return container.read_config("/nonexistent")
    text = json.dumps({"process": {}, **document})
    return {"rootfs": container.parse_config(text.encode(), container.read_state(json.dumps(state).encode())).rootfs}


def _privileged(given):
    text = json.dumps({"root": {"path": "rootfs"}, **given["spec"]})
    return container.parse_config(text.encode(), container.read_state(bundles.state_json().encode())).privileged


def _intersection(given):
    supported = [name.strip() for name in given["supported"].split(",") if name.strip()]
    return ",".join(sorted(capabilities.named(values.items(given["requested"]), "requested", supported)))


def _supported(given):
    lines = given["toml_lines"]
    found = Config() if lines is None else toml.parse("\n".join(lines))
    return ",".join(sorted(found.supported_driver_capabilities))


_DEVICE_KINDS = frozenset(
    ("visible_devices", "visible_devices_from_mounts", "annotation_devices", "jit_cdi_requests", "cdi_device_requests")
)
_OF_JSON = {
    **dict.fromkeys(_DEVICE_KINDS, lambda document: frozenset(document["devices"])),
    "hook_blackbox": _of_document,
    "hook_container_config": _of_document,
    "driver_capabilities": lambda document: frozenset(document["driverCapabilities"]),
    "requirements_list": lambda document: sorted(document["requirements"]),
    "imex_channels_env": lambda document: frozenset(document["imexChannels"]),
    "imex_channel_id": lambda document: {"error": False},
    "graphics_required": lambda document: bool({"graphics", "display"}.intersection(document["driverCapabilities"])),
}
_THEIRS = {
    "driver_capabilities": lambda expected: frozenset(expected["driver_capabilities_unordered"]),
    "requirements_list": lambda expected: sorted(expected["requirements_unordered"]),
    "imex_channels_env": lambda expected: frozenset(map(channel, expected["channels"] or ())),
    "imex_channel_id": lambda expected: {"error": False},
    "graphics_required": lambda expected: expected["required"],
    "capabilities_intersection": lambda expected: expected["capabilities"],
    "capabilities_list": lambda expected: expected["list"] or [],
    "constraint_logic": lambda expected: expected["result"],
    "constraint_parse": lambda expected: expected["constraint"],
    "constraint_requirement": lambda expected: _truths_of_tree(expected["constraint"]),
    "cuda_version_major_minor": lambda expected: expected["major_minor"],
    "cdi_qualified_name": lambda expected: (
        (expected["vendor"], expected["class"], expected["name"]) if expected["qualified"] else None
    ),
    "privileged": lambda expected: expected["privileged"],
    "hook_config_file": lambda expected: expected["supported_driver_capabilities"],
}
_OURS = {
    "requirement_eval": _evaluated,
    "capabilities_intersection": _intersection,
    "capabilities_list": lambda given: values.items(given["value"]),
    "constraint_logic": _logic,
    "constraint_parse": lambda given: _term(given["condition"]),
    "constraint_requirement": lambda given: _truths(given["requirement"]),
    "cuda_version_major_minor": lambda given: cuda.major_minor(given["version"]),
    "cdi_qualified_name": _qualified,
    "oci_state": _state,
    "minimal_spec": _minimal_spec,
    "container_root": _root,
    "privileged": _privileged,
    "hook_config_file": _supported,
}

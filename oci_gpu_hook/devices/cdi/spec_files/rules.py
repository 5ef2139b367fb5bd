"""The rules for specifications beyond the types of their fields.

Source: Container Device Interface 1.1.0, SPEC.md, and what its library refuses (pkg/cdi/spec.go, device.go,
container-edits.go, pkg/parser/parser.go, internal/validation/k8s).
"""

from __future__ import annotations

import re

from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.devices.cdi.spec_files import versions
from oci_gpu_hook.devices.edits import NO_PERMISSIONS, UNSAID, ContainerEdits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Final, TypeAlias

    from oci_gpu_hook.devices.cdi.spec_files.model import Specification
    from oci_gpu_hook.devices.edits import DeviceNode, Hook, IntelRdt, Mount, NetDevice

    Broken: TypeAlias = tuple[str, str, str]  # the place of a field, what is wrong with it, what to write instead

HOOK_NAMES: Final = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
LARGEST_ANNOTATIONS: Final = 256 * 1024  # bytes of all keys and values
LONGEST_CLOS_ID: Final = 4095  # bytes
LONGEST_VENDOR: Final = 253  # characters, as those of a DNS name
LONGEST_CLASS: Final = 63  # characters
_KIND_PART: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_DEVICE_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?")
_NODE_TYPES: Final = ("", "b", "c", "u", "p")
# Kubernetes' qualified names, in lower case: an optional DNS subdomain and a slash, then a name.
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_SUBDOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_KEY_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_.-]*[a-z0-9])?")
_LONGEST_SUBDOMAIN: Final = 253
_LONGEST_KEY_NAME: Final = 63
_LAST_MAJOR: Final = 2**12 - 1  # include/linux/kdev_t.h, MINORBITS and what a dev_t of 32 bits leaves
_LAST_MINOR: Final = 2**20 - 1
_LONGEST_NAME: Final = 255  # bytes: include/uapi/linux/limits.h, NAME_MAX and PATH_MAX
_LONGEST_PATH: Final = 4096
_EMPTY: Final = "is empty"
_ZERO: Final = "has a zero byte"
_WITHOUT_IT: Final = "remove it"


def broken(specification: Specification) -> Iterator[Broken]:
    """Return the violations of rules, in the order of the specification."""
    yield from _version(specification)
    yield from _kind(specification.kind)
    yield from _annotations(specification.annotations, "annotations")
    if not specification.devices:
        yield "devices", "there is none", "list one device at least"
    seen: dict[str, int] = {}
    for number, device in enumerate(specification.devices):
        place = f"devices[{number}]"
        if not _DEVICE_NAME.fullmatch(device.name):
            remedy = "use letters, digits and _-.: with a letter or digit at both ends"
            yield f"{place}.name", f"{quoted(device.name)} is not a device name", remedy
        elif device.name in seen:
            what = f"{quoted(device.name)} is the name of devices[{seen[device.name]}] too"
            yield f"{place}.name", what, "give each device a name of its own"
        seen.setdefault(device.name, number)
        yield from _annotations(device.annotations, f"{place}.annotations")
        if device.edits == ContainerEdits():
            yield f"{place}.containerEdits", "has no edit", "add a device node, a mount, a variable or another edit"
        yield from _edits(device.edits, f"{place}.containerEdits")
    yield from _edits(specification.edits, "containerEdits")


def _version(specification: Specification) -> Iterator[Broken]:
    said = versions.normalized(specification.cdi_version)
    if said not in versions.KNOWN:
        remedy = f"write one of {', '.join(versions.READ)}"
        yield "cdiVersion", f"{quoted(specification.cdi_version)} is unknown here", remedy
        return
    least, because = versions.required(specification)
    if not versions.is_at_least(said, least):
        why = f"does not know {because}" if because else "is older than all that engines read"
        yield "cdiVersion", f"{said} {why}", f"write {least} or later"


def _kind(kind: str) -> Iterator[Broken]:
    vendor, slash, device_class = kind.partition("/")
    if not slash:
        yield "kind", f"{quoted(kind)} is not VENDOR/CLASS", "write it as in vendor.com/gpu"
        return
    for part, text, longest in (("vendor", vendor, LONGEST_VENDOR), ("class", device_class, LONGEST_CLASS)):
        if not _KIND_PART.fullmatch(text):
            remedy = "use letters, digits and _-. with a letter in front and a letter or digit at the end"
            yield "kind", f"{quoted(text)} is not a {part}", remedy
        elif len(text) > longest:
            yield "kind", f"the {part} has {len(text)} characters", f"use {longest} at most"


def _annotations(annotations: Mapping[str, str], place: str) -> Iterator[Broken]:
    for key in annotations:
        prefix, slash, name = key.lower().rpartition("/")
        if slash and not (_SUBDOMAIN.fullmatch(prefix) and len(prefix) <= _LONGEST_SUBDOMAIN):
            remedy = "write letters, digits and -, with dots between labels, as in vendor.com"
            yield f"{place}.{key}", f"{quoted(prefix)} before the slash is not a DNS name", remedy
        if not _KEY_NAME.fullmatch(name) or len(name) > _LONGEST_KEY_NAME:
            remedy = f"use {_LONGEST_KEY_NAME} letters, digits and _-. at most, with a letter or digit at both ends"
            yield f"{place}.{key}", f"{quoted(name)} is not the name of an annotation", remedy
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > LARGEST_ANNOTATIONS:
        yield place, f"have {size} bytes", f"keep names and values within {LARGEST_ANNOTATIONS} together"


def _edits(edits: ContainerEdits, place: str) -> Iterator[Broken]:
    yield from _env(edits.env, f"{place}.env")
    for number, node in enumerate(edits.device_nodes):
        yield from _device_node(node, f"{place}.deviceNodes[{number}]")
    yield from _net_devices(edits.net_devices, f"{place}.netDevices")
    for number, hook in enumerate(edits.hooks):
        yield from _hook(hook, f"{place}.hooks[{number}]")
    for number, mount in enumerate(edits.mounts):
        yield from _mount(mount, f"{place}.mounts[{number}]")
    if edits.intel_rdt is not None:
        yield from _intel_rdt(edits.intel_rdt, f"{place}.intelRdt")


def _env(env: Iterable[str], place: str) -> Iterator[Broken]:
    for number, entry in enumerate(env):
        if entry.find("=") <= 0:
            yield f"{place}[{number}]", f"{quoted(entry)} is not NAME=VALUE", "write a name, = and a value"
        elif "\0" in entry:
            yield f"{place}[{number}]", _ZERO, _WITHOUT_IT


def _device_node(node: DeviceNode, place: str) -> Iterator[Broken]:
    yield from _path(node.path, f"{place}.path")
    if node.host_path:
        yield from _path(node.host_path, f"{place}.hostPath")
    for name, number, most in (("major", node.major, _LAST_MAJOR), ("minor", node.minor, _LAST_MINOR)):
        if number != UNSAID and not 0 <= number <= most:
            yield f"{place}.{name}", f"no device has the number {number}", f"write a number between 0 and {most}"
    if node.type not in _NODE_TYPES:
        remedy = "write c or u for a character device, b for a block device, p for a FIFO, or leave it out"
        yield f"{place}.type", f"{quoted(node.type)} is not a type of node", remedy
    if node.permissions != NO_PERMISSIONS and node.permissions.strip("rwm"):
        remedy = f"write some of the letters rwm, or {NO_PERMISSIONS}"
        yield f"{place}.permissions", f"{quoted(node.permissions)} is not a set of permissions", remedy


def _net_devices(devices: Iterable[NetDevice], place: str) -> Iterator[Broken]:
    for field, what in (("host_interface_name", "hostInterfaceName"), ("name", "name")):
        seen: dict[str, int] = {}
        for number, device in enumerate(devices):
            name = getattr(device, field)
            if not name:
                yield f"{place}[{number}].{what}", _EMPTY, "write the name of an interface"
            elif name in seen:
                why = f"{quoted(name)} is that of netDevices[{seen[name]}] too"
                yield f"{place}[{number}].{what}", why, "name each interface once"
            seen.setdefault(name, number)


def _hook(hook: Hook, place: str) -> Iterator[Broken]:
    if hook.hook_name not in HOOK_NAMES:
        remedy = f"write one of {', '.join(HOOK_NAMES)}"
        yield f"{place}.hookName", f"{quoted(hook.hook_name)} is not the name of a hook", remedy
    yield from _path(hook.path, f"{place}.path")
    if hook.path and not hook.path.startswith("/"):
        yield f"{place}.path", f"{quoted(hook.path)} is not an absolute path", "write it from / on"
    yield from _env(hook.env, f"{place}.env")


def _mount(mount: Mount, place: str) -> Iterator[Broken]:
    if not mount.host_path:
        yield f"{place}.hostPath", _EMPTY, "write a path of the host, or tmpfs for a mount of that type"
    elif "\0" in mount.host_path:
        yield f"{place}.hostPath", _ZERO, _WITHOUT_IT
    yield from _path(mount.container_path, f"{place}.containerPath")


def _intel_rdt(intel_rdt: IntelRdt, place: str) -> Iterator[Broken]:
    name = intel_rdt.clos_id
    if name == "/":
        return
    if len(name.encode()) > LONGEST_CLOS_ID or name in (".", "..") or "/" in name or "\n" in name:
        remedy = f"use {LONGEST_CLOS_ID} bytes at most, without / and line breaks, and neither . nor .. alone"
        yield f"{place}.closID", f"{quoted(name)} is not a file name", remedy


def _path(path: str, place: str) -> Iterator[Broken]:
    if not path:
        yield place, _EMPTY, "write a path"
    elif "\0" in path:
        yield place, _ZERO, _WITHOUT_IT
    elif len(path.encode()) >= _LONGEST_PATH or any(len(name.encode()) > _LONGEST_NAME for name in path.split("/")):
        remedy = f"use {_LONGEST_NAME} bytes at most for each name, and {_LONGEST_PATH - 1} for all of it"
        yield place, "no path of Linux is so long", remedy

"""The engine's input: the OCI state on stdin and the bundle's config.json, parsed once into values.

Sources: OCI runtime specification 1.2, runtime.md ("State") and config.md; crun adds `root` to the state. The engine is
trusted to write both correctly; the environment in them comes from the image and is not trusted.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.document import member, parse
from oci_gpu_hook.base.errors import InvalidInput, Malformed, TooLarge, quoted, reason
from oci_gpu_hook.base.files import read_all
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

# In these releases of the specification process.capabilities was a flat list.
_FLAT_CAPABILITIES: Final = ("1.0.0-rc1", "1.0.0-rc2", "1.0.0-rc3", "1.0.0-rc4")
_ASKING: Final = ("io.oci-gpu-hook.", "cdi.k8s.io/")  # how annotations begin that ask for something here
ASK_THE_ENGINE: Final = (
    "this comes from the container engine; check that it runs the hook as the OCI specification says"
)


class State(Record):
    """The state of the container (runtime.md, "State"). `root`, absolute or below the bundle, is crun's addition."""

    id: str
    status: str = ""
    pid: int
    bundle: str
    root: str
    annotations: Mapping[str, str]


class BundleMount(Record):
    """An entry of config.json's `mounts`."""

    destination: str
    source: str
    type: str
    options: tuple[str, ...]


class DeviceRule(Record):
    """An entry of config.json's `linux.resources.devices`; None as `major` or `minor` means every number."""

    allow: bool
    type: str
    major: int | None
    minor: int | None
    access: str


class IdMapping(Record):
    """An entry of config.json's `linux.uidMappings` or `gidMappings`."""

    container_id: int
    host_id: int
    size: int


class Container(Record):
    """The parts of a container that this project uses. `pid` is 0 while the container is only a bundle.

    groups: of its process in addition to `gid`. overrides_modes: whether its process has CAP_DAC_OVERRIDE. nodes: major
    and minor of the character devices in its bundle. config: the parsed config.json, for what few need. of_image: names
    of annotations that its image brings, and `annotations` is without.
    """

    id: str
    pid: int
    bundle: str
    rootfs: str
    root_readonly: bool
    env: tuple[str, ...]
    mounts: tuple[BundleMount, ...]
    annotations: Mapping[str, str]
    privileged: bool
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    overrides_modes: bool = False
    namespaces: tuple[str, ...]
    uid_mappings: tuple[IdMapping, ...]
    gid_mappings: tuple[IdMapping, ...]
    cgroups_path: str
    device_rules: tuple[DeviceRule, ...]
    nodes: tuple[tuple[int, int], ...] = ()
    of_image: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = None

    @property
    def bound_nodes(self) -> tuple[str, ...]:
        """The files in /dev that are bound from the host, as engines do for containers that cannot create nodes."""
        return tuple(
            mount.source for mount in self.mounts if "/dev/" in mount.source and mount.destination.startswith("/dev/")
        )

    @property
    def has_every_device(self) -> bool:
        """Whether the container may open every device of the host, as a privileged one may."""
        return any(rule.allow and rule.type == "a" and rule.major is rule.minor is None for rule in self.device_rules)


def read_state(data: bytes) -> State:
    """Parse the OCI state. Raises InvalidInput, which names the wrong member."""
    what = "OCI state"
    value = parse(data, what)
    bundle = member(value, "bundle", str, what) or member(value, "bundlePath", str, what, "")  # rc releases: bundlePath
    if not bundle:
        raise Malformed(what, "has no bundle", ASK_THE_ENGINE)
    if not bundle.startswith("/"):
        raise Malformed(what, f"bundle {quoted(bundle)} is not an absolute path", ASK_THE_ENGINE)
    return State(
        id=_identifier(member(value, "id", str, what, "")),
        status=member(value, "status", str, what, ""),
        pid=member(value, "pid", int, what, 0),
        bundle=_usable_path(bundle, "bundle"),
        root=_usable_path(member(value, "root", str, what, ""), "root"),
        annotations=_texts(member(value, "annotations", dict, what, {}), what),
    )


def read_config(bundle: str) -> bytes:
    """Return the bytes of the bundle's config.json. Raises InvalidInput if it cannot be read."""
    path = os.path.join(bundle, "config.json")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return read_all(fd, limits.CONFIG_JSON_SEARCHED, path)
        finally:
            os.close(fd)
    except OSError as error:
        raise Malformed(f"cannot read {quoted(path)}", reason(error), ASK_THE_ENGINE) from None


def parse_config(data: bytes, state: State) -> Container:
    """Return the container that the state and its bundle's config.json describe. Raises InvalidInput."""
    return of_document(read_document(data, state.bundle), state)


def read_document(data: bytes, bundle: str) -> Any:
    """Return a parsed config.json. Raises InvalidInput, or TooLarge if the file was not searched for requests."""
    path = os.path.join(bundle, "config.json")
    if len(data) > limits.CONFIG_JSON:
        why = f"is larger than {limits.CONFIG_JSON} bytes, and could ask for a GPU"
        raise TooLarge(path, why, "make its environment and annotations smaller; this limit guards the host")
    return parse(data, path)


def of_document(config: object, state: State) -> Container:
    """Do what `parse_config` does, for a config.json that is already parsed. Raises InvalidInput."""
    what = os.path.join(state.bundle, "config.json")
    if type(config) is not dict:
        raise Malformed(what, f"expected a JSON object, found {quoted(config)}", ASK_THE_ENGINE)
    process = member(config, "process", dict, what)
    root = member(config, "root", dict, what)
    if process is None or root is None:
        raise Malformed(what, f"has no {'process' if process is None else 'root'}", ASK_THE_ENGINE)
    user = member(process, "user", dict, what, {})
    uid = member(user, "uid", int, what, 0)
    version = member(config, "ociVersion", str, what, "")
    linux = member(config, "linux", dict, what, {})
    resources = member(linux, "resources", dict, what, {})
    container = Container(
        id=state.id,
        pid=state.pid,
        bundle=state.bundle,
        rootfs=_rootfs(state, member(root, "path", str, what, "")),
        root_readonly=member(root, "readonly", bool, what, False),
        env=_strings(member(process, "env", list, what, []), what, "process.env"),
        mounts=tuple(_mount(entry, what) for entry in member(config, "mounts", list, what, [])),
        annotations={**_texts(member(config, "annotations", dict, what, {}), what), **state.annotations},
        privileged="CAP_SYS_ADMIN" in _capabilities("bounding", process, version, what),
        uid=uid,
        gid=member(user, "gid", int, what, 0),
        groups=_all_of(int, "numbers", member(user, "additionalGids", list, what, []), f"{what}: additionalGids"),
        # A process that is not root keeps only its ambient capabilities when it executes its program (capabilities(7)).
        overrides_modes="CAP_DAC_OVERRIDE" in _capabilities("ambient" if uid else "bounding", process, version, what),
        namespaces=tuple(member(ns, "type", str, what, "") for ns in member(linux, "namespaces", list, what, [])),
        uid_mappings=tuple(_id_mapping(entry, what) for entry in member(linux, "uidMappings", list, what, [])),
        gid_mappings=tuple(_id_mapping(entry, what) for entry in member(linux, "gidMappings", list, what, [])),
        cgroups_path=member(linux, "cgroupsPath", str, what, ""),
        device_rules=tuple(_device_rule(entry, what) for entry in member(resources, "devices", list, what, [])),
        nodes=_nodes(member(linux, "devices", list, what, []), what),
        config=config,
    )
    return _without_images(container) if any(key.startswith(_ASKING) for key in container.annotations) else container


def _without_images(container: Container) -> Container:
    from oci_gpu_hook.oci import image_annotations

    theirs = image_annotations.of(container.annotations, container.rootfs, container.id)
    kept = {key: text for key, text in container.annotations.items() if key not in theirs}
    return container.replace(annotations=kept, of_image=theirs) if theirs else container


def _rootfs(state: State, configured: str) -> str:
    """Return the absolute path of the rootfs: the state's `root`, otherwise root.path, relative to the bundle.

    An absolute path is accepted as it is (Docker and Podman write one); a relative one must stay below the bundle.
    """
    path = _usable_path(state.root or configured, "root.path")
    if not path:
        raise Malformed("config.json: root.path", "is empty", ASK_THE_ENGINE)
    if path.startswith("/"):
        return os.path.normpath(path)
    joined = os.path.normpath(os.path.join(state.bundle, path))
    bundle = os.path.normpath(state.bundle)
    if joined == bundle or not joined.startswith(bundle.rstrip("/") + "/"):
        why = f"{quoted(path)} leads out of the bundle {quoted(state.bundle)}"
        remedy = "use a directory below the bundle, or an absolute path"
        raise InvalidInput("config.json: root.path", why, remedy, "OGH1006")
    return joined


def _capabilities(kind: str, process: dict[str, Any], version: str, what: str) -> list[object]:
    """Return one of the sets of capabilities. For NVIDIA's interface, privileged means CAP_SYS_ADMIN in `bounding`."""
    is_flat = version.startswith(_FLAT_CAPABILITIES)  # 1.0.0-rc2-dev too
    found = {kind: process.get("capabilities")} if is_flat else member(process, "capabilities", dict, what, {})
    return member(found, kind, list, what, [])  # type: ignore[no-any-return]


def _mount(entry: object, what: str) -> BundleMount:
    fields = {
        "destination": member(entry, "destination", str, what, ""),
        "source": member(entry, "source", str, what, ""),
        "type": member(entry, "type", str, what, ""),
        "options": _strings(member(entry, "options", list, what, []), what, "mounts: options"),
    }
    return BundleMount.of(fields)  # a container in Kubernetes has twenty mounts


def _device_rule(entry: object, what: str) -> DeviceRule:
    major = member(entry, "major", int, what)
    minor = member(entry, "minor", int, what)
    return DeviceRule(
        allow=member(entry, "allow", bool, what, False),
        type=member(entry, "type", str, what, "a") or "a",
        major=None if major in (None, -1) else major,
        minor=None if minor in (None, -1) else minor,
        access=member(entry, "access", str, what, "rwm") or "rwm",
    )


def _nodes(entries: list[object], what: str) -> tuple[tuple[int, int], ...]:
    nodes = [entry for entry in entries if member(entry, "type", str, what) in ("c", "u")]
    return tuple([(member(node, "major", int, what, -1), member(node, "minor", int, what, -1)) for node in nodes])


def _id_mapping(entry: object, what: str) -> IdMapping:
    first, host, size = (member(entry, name, int, what, 0) for name in ("containerID", "hostID", "size"))
    return IdMapping(container_id=first, host_id=host, size=size)


def _identifier(text: str) -> str:
    """Return the container's id, checked because it becomes a file name in the state directory."""
    if "/" in text or text in (".", "..") or not 0 <= _encoded_length(text) <= limits.CONTAINER_ID:
        raise Malformed("OCI state: id", f"{quoted(text)} cannot name a container", ASK_THE_ENGINE)
    return text


def _usable_path(text: str, name: str) -> str:
    if _encoded_length(text) < 0:
        raise Malformed(f"OCI state: {name}", f"{quoted(text)} cannot be a path", ASK_THE_ENGINE)
    return text


def _encoded_length(text: str) -> int:
    """Return a text's length in bytes as a file name, -1 if it cannot be one (a NUL, half of a surrogate pair)."""
    try:
        return -1 if "\0" in text else len(os.fsencode(text))
    except UnicodeEncodeError:
        return -1


def _strings(values: list[object], what: str, where: str) -> tuple[str, ...]:
    return _all_of(str, "strings", values, f"{what}: {where}")


def _all_of(kind: type, name: str, values: list[object], what: str) -> tuple[Any, ...]:
    for value in values:
        if type(value) is not kind:
            raise Malformed(what, f"expected {name}, found {quoted(value)}", ASK_THE_ENGINE)
    return tuple(values)


def _texts(values: dict[str, object], what: str) -> dict[str, str]:
    for name, value in values.items():
        if type(value) is not str:
            raise Malformed(f"{what}: annotations", f"{quoted(name)} is not a string", ASK_THE_ENGINE)
    return values  # type: ignore[return-value]

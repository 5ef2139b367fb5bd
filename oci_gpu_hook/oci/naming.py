"""Tells which engine a container is of, and what people call it there, by what the engine itself has written.

Where an engine has bundles: containerd, core/runtime/v2 (bundle.go) and moby, daemon/internal/libcontainerd; containers
of containers/storage, store.go; this project's for Mesos. Names: `oci.engine_records`; nerdctl, pkg/labels; annotations
of pods, `oci.pod`. How cgroups are named: moby, daemon/oci_linux.go; Podman, libpod/container_internal_linux.go; CRI-O,
internal/config/cgmgr; containerd, internal/cri/server/podsandbox.
"""

from __future__ import annotations

from oci_gpu_hook.base.record import Record
from oci_gpu_hook.oci import engine_records, pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

_OF_CONTAINERD: Final = "/io.containerd.runtime."
_NAMESPACES: Final = {"moby": "docker", "k8s.io": "containerd"}
_OF_STORAGE: Final = "-containers/"
_MANAGER: Final = "io.container.manager"  # Podman sets it itself, whatever the image's annotations say
_CRIO: Final = "io.kubernetes.cri-o."
_NERDCTL: Final = "nerdctl/name"
_MESOS: Final = "mesos.container"
_MESOS_NAME: Final = "mesos.executor-id"
# What the engine puts before the id of a container in the name of its cgroup.
_CGROUPS: Final = {
    "docker": "docker",
    "libpod": "podman",
    "crio": "cri-o",
    "cri-containerd": "containerd",
    "nerdctl": "nerdctl",
}
_ID_DIGITS: Final = 64
_HEX: Final = frozenset("0123456789abcdef")
SHORT: Final = 12  # digits of an id that engines show


class Naming(Record):
    """A container's engine, and its name there or, of a pod's, NAMESPACE/POD/CONTAINER; "" for what nobody tells."""

    engine: str = ""
    name: str = ""


def of(container_id: str, bundle: str, rootfs: str, annotations: Mapping[str, str]) -> Naming:
    """Return what a container is called. annotations: of its config.json, but for those of its image."""
    in_pod = pod.description(annotations)
    if _OF_CONTAINERD in bundle:
        namespace = bundle.rstrip("/").split("/")[-2]
        of_nerdctl = annotations.get(_NERDCTL, "")
        engine = _NAMESPACES.get(namespace, "nerdctl" if of_nerdctl else "containerd")
        return Naming(engine=engine, name=in_pod or of_nerdctl or engine_records.name_of(container_id, rootfs))
    if _OF_STORAGE in bundle:
        if annotations.get(_MANAGER) != "libpod" and any(key.startswith(_CRIO) for key in annotations):
            return Naming(engine="cri-o", name=in_pod or engine_records.name_of(container_id, rootfs))
        return Naming(engine="podman", name=engine_records.name_of(container_id, rootfs) or in_pod)
    if _MESOS in annotations:
        return Naming(engine="mesos", name=annotations.get(_MESOS_NAME, ""))
    return Naming(name=in_pod)


def of_cgroup(path: str) -> tuple[str, str]:
    """Return the engine and the id of the container that a cgroup's path names; ("", "") if it names none."""
    for part in reversed(path.split("/")):
        prefix, _, digits = part.removesuffix(".scope").rpartition("-")
        if len(digits) == _ID_DIGITS and _HEX.issuperset(digits):
            return _CGROUPS.get(prefix, "docker" if f"/docker/{digits}" in path else ""), digits
    return "", ""


def short(container_id: str) -> str:
    """Return an id as engines show it: 12 digits of 64; any other id is whole."""
    is_long = len(container_id) == _ID_DIGITS and _HEX.issuperset(container_id)
    return container_id[:SHORT] if is_long else container_id

"""Reads from an engine's annotations a container's place in a pod, and which of the pod's annotations it heeds. Pure.

A Kubernetes engine passes a pod's annotations to each of its containers and to the sandbox, the pause container that
holds the pod's namespaces. Sources: containerd 1.3 to 2.1, pkg/cri/annotations; CRI-O, pkg/annotations, which Podman's
`kube play` writes as well; and the labels of the kubelet, which CRI-O passes on as annotations.
"""

from __future__ import annotations

from oci_gpu_hook.base import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

_TYPES: Final = ("io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType")
_CONTAINER: Final = ("io.kubernetes.cri.container-name", "io.kubernetes.container.name")
_POD: Final = ("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name")
_NAMESPACE: Final = ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace")
READ: Final = frozenset((*_TYPES, *_CONTAINER, *_POD, *_NAMESPACE))


def is_sandbox(annotations: Mapping[str, str]) -> bool:
    """Tell whether this is a pod's pause container, which gets no GPU, whatever the pod asks for."""
    return any(annotations.get(key) == "sandbox" for key in _TYPES)


def is_in_pod(annotations: Mapping[str, str]) -> bool:
    """Tell whether the annotations may be a pod's, and so meant for all of its containers."""
    return any(key in annotations for key in _TYPES)


def container_name(annotations: Mapping[str, str]) -> str:
    """Return the container's name in its pod, "" if it is not known."""
    return _first(annotations, _CONTAINER)


def description(annotations: Mapping[str, str]) -> str:
    """Return `NAMESPACE/POD/CONTAINER`, "" for a container outside a pod."""
    parts = [_first(annotations, keys) for keys in (_NAMESPACE, _POD, _CONTAINER)]
    return "/".join(part for part in parts if part)[: limits.POD_NAME] if parts[1] else ""


def own_key(annotations: Mapping[str, str], key: str) -> str:
    """Return the key of the annotation that applies to this container: `KEY.CONTAINER` if it exists, otherwise KEY."""
    name = container_name(annotations)
    own = f"{key}.{name}"
    return own if name and own in annotations else key


def without_overridden(annotations: Mapping[str, str], keys: Sequence[str]) -> Mapping[str, str]:
    """Return the annotations; if the container has its own of any of the keys, without the pod's of these keys."""
    if all(own_key(annotations, key) == key for key in keys):
        return annotations
    return {key: text for key, text in annotations.items() if key not in keys}


def _first(annotations: Mapping[str, str], keys: Sequence[str]) -> str:
    for key in keys:
        if annotations.get(key):
            return annotations[key]
    return ""

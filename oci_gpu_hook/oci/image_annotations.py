"""Annotations that an image says, told from those of whoever started its container. Imported where any are read here.

Annotations may ask for what an image must not (config.toml may keep images, and environments, from asking), so they are
believed of whoever starts a container alone. Podman writes those of an image's manifest among them.
"""

from __future__ import annotations

from oci_gpu_hook.oci import engine_records, pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

OURS: Final = ("io.oci-gpu-hook.", "cdi.k8s.io/")  # what those begin with that ask for something here
_MANAGER: Final = "io.container.manager"
_PODMAN: Final = "libpod"


def of(annotations: Mapping[str, str], rootfs: str, container: str) -> tuple[str, ...]:
    """Return the names of those annotations of a container that are read here and are its image's.

    One that whoever started it has said in the same words cannot be told from the image's, and is taken for that. Where
    Podman does not tell what the image says, as of one in another's store, all are taken for the image's. rootfs,
    container: its root directory and id.
    """
    said = engine_records.image_annotations(rootfs, container)
    read = [key for key in annotations if key.startswith(OURS) or key in pod.READ]
    if said is None:
        return tuple(read) if annotations.get(_MANAGER) == _PODMAN else ()
    return tuple([key for key in read if said.get(key) == annotations[key]])

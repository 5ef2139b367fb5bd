"""The volume of nvidia-docker 1: a directory that shows the driver in `lib`, `lib64` and `bin`. Pure.

Images labelled `com.nvidia.volumes.needed`, and those made for Mesos, look for the driver in /usr/local/nvidia. A hook
sees no labels, so the container or the configuration asks for the directory. It is made of links, one for each file,
and not of links to whole directories: those would put the image's other programs and libraries first on its search
paths.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.devices.edits import Symlink
from oci_gpu_hook.oci import pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.edits import Mount
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.oci.image import Image

USUAL: Final = "/usr/local/nvidia"
ANNOTATION: Final = "io.oci-gpu-hook.volume"
VARIABLE: Final = "OCI_GPU_VOLUME"


def asked(container: Container, config: Config) -> str:
    """Return the directory that the container is to find the driver in beside the usual places, "" for none.

    The annotation goes before the variable, and both before the configuration. Raises InvalidInput.
    """
    what = pod.own_key(container.annotations, ANNOTATION)
    text = container.annotations.get(what, "").strip()
    for entry in container.env if not text else ():
        name, _, value = entry.partition("=")
        if name == VARIABLE:
            what, text = VARIABLE, value.strip()
    if not text:
        return config.driver_volume
    if text in ("1", "true"):
        return USUAL
    if text in ("0", "false"):
        return ""
    if not text.startswith("/") or os.path.normpath(text) in ("/", "//") or ".." in text.split("/") or "\0" in text:
        raise InvalidInput(f"{what}={quoted(text)}", "is no absolute path", f"write true, which means {USUAL}")
    return "/" + os.path.normpath(text).lstrip("/")


def links(volume: str, mounts: Sequence[Mount], libraries: Sequence[Symlink], image: Image) -> list[Symlink]:
    """Return the links that make the directory `volume`: `lib` is for 32-bit libraries, `lib64` for the others."""
    shown = {image.library_directory: "lib64", "/usr/bin": "bin"}
    if image.library_directory_32:
        shown.setdefault(image.library_directory_32, "lib")
    paths = [*(mount.container_path for mount in mounts), *(link.path for link in libraries)]
    found = []
    for path in paths:
        directory, name = os.path.split(path)
        if directory in shown:
            place = f"{volume}/{shown[directory]}/{name}"
            found.append(Symlink(path=place, target=path))
    return [link for link in found if link.path != link.target]

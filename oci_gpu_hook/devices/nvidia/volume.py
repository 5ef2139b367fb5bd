"""Makes the volume of nvidia-docker 1: a directory with the driver in `lib`, `lib64` and `bin`. Pure.

Images labelled `com.nvidia.volumes.needed`, and images made for Mesos, look for the driver in /usr/local/nvidia. A hook
does not see labels, so the container or the configuration asks for the directory. It contains a link for each file.
Links to whole directories would put the image's other programs and libraries first on its search paths.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.devices.edits import Symlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.devices.edits import Mount
    from oci_gpu_hook.oci.image import Image

USUAL: Final = "/usr/local/nvidia"
ANNOTATION: Final = "io.oci-gpu-hook.volume"
VARIABLE: Final = "OCI_GPU_VOLUME"


def asked(what: str, text: str) -> str:
    """Return the additional directory in which a container wants the driver, "" for none.

    what: the annotation or variable whose value is `text`. Raises InvalidInput.
    """
    if text in ("1", "true"):
        return USUAL
    if text in ("0", "false"):
        return ""
    if not text.startswith("/") or os.path.normpath(text) in ("/", "//") or ".." in text.split("/") or "\0" in text:
        raise InvalidInput(
            f"{what}={quoted(text)}", "is not an absolute path", f"write true, which means {USUAL}", "OGH1218"
        )
    path = "/" + os.path.normpath(text).lstrip("/")
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError:  # half of a surrogate pair, which is possible in JSON but not in a path
        raise InvalidInput(
            f"{what}={quoted(text)}", "cannot be a path", f"write true, which means {USUAL}", "OGH1218"
        ) from None
    if path.count("/") > limits.VOLUME_LEVELS or size > limits.VOLUME_PATH:
        why = f"has more than {limits.VOLUME_LEVELS} directories or {limits.VOLUME_PATH} bytes"
        raise InvalidInput(
            f"{what}={quoted(text)}", why, f"write true, which means {USUAL}, or a shorter path", "OGH1218"
        )
    return path


def links(volume: str, mounts: Sequence[Mount], libraries: Sequence[Symlink], image: Image) -> list[Symlink]:
    """Return the links in the directory `volume`: `lib` is for 32-bit libraries, `lib64` for the others."""
    shown = {image.library_directory: "lib64", "/usr/bin": "bin"}
    if image.library_directory_32:
        shown.setdefault(image.library_directory_32, "lib")
    paths = [*(mount.container_path for mount in mounts), *(link.path for link in libraries)]
    found = []
    for path in paths:
        directory, name = os.path.split(path)
        if directory in shown:
            place = f"{volume}/{shown[directory]}/{name}"
            found.append(Symlink(path=place, target=path, optional=True))
    return [link for link in found if link.path != link.target]

"""Finds the absolute paths by which files for loaders (ICDs of EGL, Vulkan and OpenCL) name the driver's libraries.

Some distributions write the path of their own library directory into these files: openSUSE, NVIDIA's RPM packages
(`sed 's|libGLX_nvidia|%{_libdir}/libGLX_nvidia|'` in nvidia-video-G06.spec and nvidia-driver.spec), and NixOS, whose
directory is in its store (nixpkgs, pkgs/os-specific/linux/nvidia-x11/builder.sh). A container has the library in a
directory of its image's, so it gets a link at the path that the file names.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.document import parse
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.files import read_start
from oci_gpu_hook.devices.nvidia.model import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

    from oci_gpu_hook.devices.nvidia.model import DriverFile, Library

_OPENCL: Final = ".icd"  # one line, the library; all others are JSON
_JSON: Final = ".json"


def links(files: Iterable[DriverFile], libraries: Iterable[Library]) -> Iterator[Link]:
    """Yield a link for each absolute path that leads to one of the libraries, to its name in the image's directory."""
    known = {
        name
        for library in libraries
        if library.bits == 64 and not library.directory
        for name in (library.name, *(link for link, _ in library.links))
    }
    for file in files:
        for path in _named(file):
            name = os.path.basename(path)
            if path.startswith("/") and os.path.normpath(path) == path and name in known:
                yield Link(path=path, target=name, capabilities=file.capabilities, to_library=True)


def _named(file: DriverFile) -> Iterator[str]:
    """Yield the libraries that a file names: `library_path` of its objects, or the line of an OpenCL ICD."""
    if file.directory or not file.container_path.endswith((_JSON, _OPENCL)):
        return
    try:
        data = read_start(file.host_path, limits.ICD_FILE)
        if file.container_path.endswith(_OPENCL):
            yield data.decode("utf-8", "surrogateescape").strip()
            return
        document = parse(data, file.host_path)
    except (OSError, HookError):
        return  # which the loader cannot read either
    for part in document.values() if type(document) is dict else ():
        path = part.get("library_path") if type(part) is dict else None
        if type(path) is str:
            yield path

"""Reads the facts of a container that NVIDIA's contribution depends on: CUDA compatibility libraries, /proc, volume."""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.nvidia import settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.vendor import Rootfs
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.oci.image import Image

_COMPAT_DIRECTORY: Final = "/usr/local/cuda/compat"
_LIBCUDA: Final = "libcuda.so."
_PROC: Final = ("/proc/driver/nvidia", "/proc/driver")


class CompatLibrary(Record):
    """A CUDA forward-compatibility library in the image (/usr/local/cuda/compat/libcuda.so.*).

    note: the JSON text of its ELF note .note.cuda.fwd_compatibility, "" if it has none. regular: whether it is a
    library, not a symbolic link or anything else.
    """

    path: str
    note: str
    regular: bool = True


class ImageFacts(Record):
    """NVIDIA's facts about a container.

    procfs: the mountpoint of the view of /proc/driver/nvidia, "" if there is none because the container has no /proc,
    or wants to mount others (nested_proc). volume: the directory for nvidia-docker 1's volume, "" if none is requested.
    mps_directory: its CUDA_MPS_PIPE_DIRECTORY, or "". compat_wanted: whether the container wants its compatibility
    libraries, None if it does not say.
    """

    compat: tuple[CompatLibrary, ...] = ()
    compat_wanted: bool | None = None
    procfs: str = ""
    nested_proc: bool = False
    volume: str = ""
    mps_directory: str = ""


NO_FACTS: Final = ImageFacts()


def of(image: Image) -> ImageFacts:
    """Return NVIDIA's facts in the facts of an image; default values if they were not read."""
    facts = image.of_vendor
    return facts if isinstance(facts, ImageFacts) else NO_FACTS


def look(rootfs: Rootfs, container: Container, config: Config) -> ImageFacts:
    """Read the facts. Raises InvalidInput for invalid settings of the container."""
    nested_proc = _nested_proc(container, config)
    return ImageFacts(
        compat=_compat(rootfs, look_inside=config.cuda_compat_mode != "disabled"),
        compat_wanted=settings.truth(*settings.said(container, "cuda-compat")),
        procfs="" if nested_proc else _procfs(container),
        nested_proc=nested_proc,
        volume=_volume(container, config),
        mps_directory=settings.variable(container, "CUDA_MPS_PIPE_DIRECTORY"),
    )


def _volume(container: Container, config: Config) -> str:
    what, text = settings.said(container, "volume")
    if not text:
        return config.driver_volume
    from oci_gpu_hook.devices.nvidia import volume

    return volume.asked(what, text)


def _nested_proc(container: Container, config: Config) -> bool:
    """Tell whether a user namespace in the container should be able to mount its own procfs.

    The kernel allows that only if some procfs is fully visible already (fs/namespace.c, mount_too_revealing), so
    nothing may be mounted over parts of it. There is no other way to hide GPUs, and the new procfs would show them. So
    an image cannot ask for this.
    """
    asked = settings.truth(*settings.by_annotation(container, "nested-proc"))
    return config.nested_proc if asked is None else asked


def _compat(rootfs: Rootfs, *, look_inside: bool) -> tuple[CompatLibrary, ...]:
    names = [name for name in rootfs.names(_COMPAT_DIRECTORY) if name.startswith("lib") and ".so." in name]
    paths = [f"{_COMPAT_DIRECTORY}/{name}" for name in names]
    # If there are several, none is used; and an image may have many links to one file that is slow to read.
    if sum(name.startswith(_LIBCUDA) for name in names) > limits.COMPAT_LIBRARIES:
        look_inside = False
    return tuple(_compat_library(rootfs, path) if look_inside else CompatLibrary(path=path, note="") for path in paths)


def _compat_library(rootfs: Rootfs, path: str) -> CompatLibrary:
    if not os.path.basename(path).startswith(_LIBCUDA):
        return CompatLibrary(path=path, note="")
    status = rootfs.status(path, os.O_NOFOLLOW)
    if status is None or not stat.S_ISREG(status.st_mode):
        return CompatLibrary(path=path, note="", regular=False)
    from oci_gpu_hook.base.formats import elf

    fd = rootfs.open_file(path)
    if fd is None:
        return CompatLibrary(path=path, note="")
    try:
        return CompatLibrary(path=path, note=elf.forward_compatibility_note(fd))
    except elf.ElfError:
        return CompatLibrary(path=path, note="", regular=False)  # no loader would load it
    finally:
        os.close(fd)


def _procfs(container: Container) -> str:
    """Return the mountpoint. Every procfs has the driver's directory, but a simulated host only its parent."""
    if not any(mount.destination == "/proc" for mount in container.mounts):
        return ""
    return next((path for path in _PROC if os.path.isdir(path)), "")

"""What NVIDIA's contribution depends on in a container: its CUDA compatibility libraries, its /proc, its volume."""

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
    """A CUDA forward-compatibility library that the image ships (/usr/local/cuda/compat/libcuda.so.*).

    note: the JSON text of its ELF note .note.cuda.fwd_compatibility, "" where it has none.
    regular: whether it is a library itself, no symbolic link to one and nothing else.
    """

    path: str
    note: str
    regular: bool = True


class ImageFacts(Record):
    """NVIDIA's facts of a container.

    procfs: where a file system in the place of /proc/driver/nvidia is mounted, "" where none is: the container has no
    /proc, or nested_proc says that it wants to mount others.
    volume: the directory of nvidia-docker 1's volume, "" where none is asked for.
    mps_directory: its CUDA_MPS_PIPE_DIRECTORY, "" where it has none.
    compat_wanted: whether the container says that its compatibility libraries are used, None where it says nothing.
    """

    compat: tuple[CompatLibrary, ...] = ()
    compat_wanted: bool | None = None
    procfs: str = ""
    nested_proc: bool = False
    volume: str = ""
    mps_directory: str = ""


NO_FACTS: Final = ImageFacts()


def of(image: Image) -> ImageFacts:
    """Return the facts that were looked at with an image's, none where they were not looked at."""
    facts = image.of_vendor
    return facts if isinstance(facts, ImageFacts) else NO_FACTS


def look(rootfs: Rootfs, container: Container, config: Config) -> ImageFacts:
    """Return the facts. Raises InvalidInput for what the container says and cannot be."""
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
    """Tell whether a user namespace in the container is to be able to mount a procfs of its own.

    The kernel lets it only where all of some procfs is seen already (fs/namespace.c, mount_too_revealing), so nothing
    may be mounted over its parts: there is no other way to hide GPUs that would leave that possible, and a procfs that
    is mounted anew would show them. An image has no say in that.
    """
    asked = settings.truth(*settings.by_annotation(container, "nested-proc"))
    return config.nested_proc if asked is None else asked


def _compat(rootfs: Rootfs, *, look_inside: bool) -> tuple[CompatLibrary, ...]:
    names = [name for name in rootfs.names(_COMPAT_DIRECTORY) if name.startswith("lib") and ".so." in name]
    paths = [f"{_COMPAT_DIRECTORY}/{name}" for name in names]
    # Of several none is used, and an image may have any number of links to one file that is slow to read.
    if sum(name.startswith(_LIBCUDA) for name in names) > limits.COMPAT_LIBRARIES:
        look_inside = False
    return tuple(_compat_library(rootfs, path) if look_inside else CompatLibrary(path=path, note="") for path in paths)


def _compat_library(rootfs: Rootfs, path: str) -> CompatLibrary:
    if not os.path.basename(path).startswith(_LIBCUDA):
        return CompatLibrary(path=path, note="")
    if not _is_regular(rootfs, path):
        return CompatLibrary(path=path, note="", regular=False)
    from oci_gpu_hook.base.formats import elf

    fd = rootfs.open_file(path)
    if fd is None:
        return CompatLibrary(path=path, note="")
    try:
        return CompatLibrary(path=path, note=elf.forward_compatibility_note(fd))
    except elf.ElfError:
        return CompatLibrary(path=path, note="", regular=False)  # no loader would take it
    finally:
        os.close(fd)


def _is_regular(rootfs: Rootfs, path: str) -> bool:
    try:
        fd = rootfs.resolve(path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _procfs(container: Container) -> str:
    """Return where to mount: the driver's directory is in every procfs alike; a simulated host has only its parent."""
    if not any(mount.destination == "/proc" for mount in container.mounts):
        return ""
    return next((path for path in _PROC if os.path.isdir(path)), "")

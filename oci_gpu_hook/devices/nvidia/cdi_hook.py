"""The arguments of the hook in CDI specifications of this project: all that it must know of the host. Pure.

    oci-gpu-hook --cdi --driver=580.95.05 --cuda=13.0 --gpu=MINOR=PROC_NAME … --link=TARGET::PATH … --library=PATH …
        createContainer

They are in the specification, beside the mounts that they belong to, so they always match the driver of these mounts.
Also, in a user namespace or under a rootless engine root's state directory cannot be read. Links have the form of
NVIDIA's nvidia-cdi-hook (cmd/nvidia-cdi-hook/create-symlinks).
"""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.base.formats.ldcache import Entry, flags_for
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.edits import Symlink
from oci_gpu_hook.oci.image import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.devices.nvidia.model import RequestInventory

FLAG: Final = "--cdi"
STAGE: Final = "createContainer"
_LONGEST_MINOR: Final = 7  # digits of 2**20 - 1, the largest minor
DRIVER: Final = "--driver="
_CUDA: Final = "--cuda="
_PLATFORM: Final = "--platform="
_GPU: Final = "--gpu="
_LINK: Final = "--link="
_LIBRARY: Final = "--library="
_LIBRARY_32: Final = "--library32="


class Arguments(Record):
    """The parsed arguments of the hook.

    platform: as in Inventory. gpus: minor, and name below /proc/driver/nvidia/gpus, of each GPU of the host. links: in
    the order in which they are created. libraries: the paths that the ld cache must list.
    """

    driver_version: str = ""
    cuda_version: str = ""
    platform: str = ""
    gpus: tuple[tuple[int, str], ...] = ()
    links: tuple[Symlink, ...] = ()
    libraries: tuple[Entry, ...] = ()


def arguments(inventory: RequestInventory, links: Iterable[Symlink], libraries: Iterable[Entry]) -> tuple[str, ...]:
    """Return the arguments that follow the hook's own, with the stage last."""
    words = {flags_for(MACHINE, 64): _LIBRARY, flags_for(MACHINE, 32): _LIBRARY_32}
    return (
        FLAG,
        DRIVER + inventory.driver_version,
        *([_CUDA + inventory.cuda_version] if inventory.cuda_version else []),
        *([_PLATFORM + inventory.platform] if inventory.platform else []),
        *(f"{_GPU}{gpu.minor}={gpu.proc_name}" for gpu in inventory.gpus if gpu.proc_name),
        *(f"{_LINK}{link.target}::{link.path}" for link in links),
        *(words[entry.flags] + entry.path for entry in libraries),
        STAGE,
    )


def parse(words: Sequence[str]) -> Arguments:
    """Parse the words between `--cdi` and the stage. Raises InvalidInput."""
    driver = cuda = platform = ""
    gpus, links, libraries = [], [], []
    for word in words:
        if word.startswith(DRIVER):
            driver = word.removeprefix(DRIVER)
        elif word.startswith(_CUDA):
            cuda = word.removeprefix(_CUDA)
        elif word.startswith(_PLATFORM):
            platform = word.removeprefix(_PLATFORM)
        elif word.startswith(_GPU):
            gpus.append(_gpu(word))
        elif word.startswith(_LINK):
            links.append(_link(word))
        elif word.startswith(_LIBRARY):
            libraries.append(_library(word, word.removeprefix(_LIBRARY), 64))
        elif word.startswith(_LIBRARY_32):
            libraries.append(_library(word, word.removeprefix(_LIBRARY_32), 32))
        else:
            raise _unknown(word, "is not known")
    return Arguments(
        driver_version=driver,
        cuda_version=cuda,
        platform=platform,
        gpus=tuple(gpus),
        links=tuple(links),
        libraries=tuple(libraries),
    )


def _gpu(word: str) -> tuple[int, str]:
    minor, _, name = word.removeprefix(_GPU).partition("=")
    if not (minor.isascii() and minor.isdecimal() and len(minor) <= _LONGEST_MINOR and name):
        raise _unknown(word, "is not MINOR=NAME")
    if "/" in name or name in (".", ".."):
        raise _unknown(word, "has no name of a directory")
    return int(minor), name


def _link(word: str) -> Symlink:
    target, colons, path = word.removeprefix(_LINK).partition("::")
    if not (target and colons and _is_absolute(path)):
        raise _unknown(word, "is not TARGET::PATH with an absolute path")
    return Symlink(path=path, target=target)


def _library(word: str, path: str, bits: int) -> Entry:
    if not _is_absolute(path):
        raise _unknown(word, "has no absolute path")
    flags = flags_for(MACHINE, bits)
    return Entry(name=path.rpartition("/")[2], path=path, flags=flags, os_version=0, hwcap=0, subdirectory="")


def _is_absolute(path: str) -> bool:
    return path.startswith("/") and not path.endswith("/") and "\0" not in path


def _unknown(word: str, why: str) -> InvalidInput:
    remedy = "make the CDI specification with this version: oci-gpu cdi refresh"
    return InvalidInput(f"argument {quoted(word)} of the CDI hook", why, remedy, "OGH1413")

"""Decides whether a container uses its image's CUDA forward-compatibility libraries or the host's libcuda. Pure.

An image may have a newer libcuda in /usr/local/cuda/compat, for hosts whose driver is older than the image's CUDA. To
use it, no file of the image is mounted, opened or run: only the ld cache lists these libraries before the host's.

The rule is that of the NVIDIA Container Toolkit's enable-cuda-compat hook (cmd/nvidia-cdi-hook/cudacompat), in every
mode except `disabled`; the names of the modes describe how NVIDIA's tools work. Unlike in libnvidia-container, which
compares major versions as strings ("99" above "222"), versions are compared as numbers.

Both of NVIDIA's tools ignore the GPUs, and use an image's libraries even on cards without forward compatibility, where
every CUDA program then fails with error 804. This project uses them only if each granted GPU belongs to a family that
supports them (brands.py).
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.nvidia import brands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, TypeAlias

    from oci_gpu_hook.devices.nvidia.image_facts import CompatLibrary
    from oci_gpu_hook.devices.nvidia.model import Gpu

    Version: TypeAlias = tuple[int, ...]

SETTING: Final = "cuda-compat"  # io.oci-gpu-hook.cuda-compat, OCI_GPU_CUDA_COMPAT


class Decision(Record):
    """The result. `reason` is a sentence for people, "" if the image has no such libraries.

    directory: the image's directory whose libraries come first in the ld cache, "" for none. entries: their (name,
    path) for the ld cache, libcuda first.
    """

    directory: str = ""
    entries: tuple[tuple[str, str], ...] = ()
    reason: str = ""


class User(Record):
    """The container: its granted GPUs, and whether it asks for the libraries to be used.

    wants: True: use them regardless of driver and GPUs, unless the host's mode is `disabled`. None: it does not say.
    """

    gpus: tuple[Gpu, ...]
    wants: bool | None = None


class Note(Record):
    """The note in a compatibility libcuda: its CUDA version, and the drivers and GPUs that it works with.

    driver_branches: such as 580. brands: families of GPUs, by the numbers in brands.py.
    """

    cuda_version: str = ""
    driver_branches: tuple[int, ...] = ()
    brands: tuple[int, ...] = ()


def decide(
    libraries: Sequence[CompatLibrary],
    driver_version: str,
    cuda_version: str,
    mode: str,
    user: User | None = None,
) -> Decision:
    """Decide about the libraries in the image's compat directory, on a host with this driver and CUDA version.

    cuda_version is used only if driver versions cannot be compared, so that the result does not depend on whether the
    CUDA version is known. NVIDIA's toolkit also passes only one of the two to its hook.
    """
    if not libraries:
        return Decision()
    if mode == "disabled":
        return Decision(reason="the image's CUDA compatibility libraries are not used: cuda-compat-mode is disabled")
    wanted = user.wants if user else None
    if wanted is False:
        return Decision(reason=f"the image's CUDA compatibility libraries are not used: {SETTING} is false")
    candidates = [library for library in libraries if _is_versioned_libcuda(library)]
    if len(candidates) != 1:
        why = f"their directory has {len(candidates)} files libcuda.so.VERSION, and one is expected"
        return Decision(reason=f"the image's CUDA compatibility libraries are not used: {why}")
    directory, name = os.path.split(candidates[0].path)
    version = name.removeprefix("libcuda.so.")
    note = parse_note(candidates[0].note)
    if wanted:
        used, why = True, f"{SETTING} is true, whatever the driver and the GPUs are"
    elif note:
        used, why = by_note(note, version, driver_version, cuda_version)
    else:
        used, why = by_branch(version, driver_version)
    if used and user and not wanted:
        used, why = by_gpus(user.gpus, note, why)
    verb = "used" if used else "not used"
    reason = f"the image's CUDA compatibility libraries (libcuda {_shown(version)}) are {verb}: {why}"
    if not used:
        return Decision(reason=reason)
    return Decision(directory=directory, entries=_entries(libraries, candidates[0].path), reason=reason)


def by_note(note: Note, compat_version: str, driver_version: str, cuda_version: str) -> tuple[bool, str]:
    """Tell whether libraries with this note should be used on this host, and why."""
    compat, driver, cuda = parse_version(compat_version), parse_version(driver_version), parse_version(cuda_version)
    if compat and driver:
        if driver[0] not in note.driver_branches:
            return False, f"they do not work with drivers of the host's branch {driver[0]}"
        if compat > driver:
            return True, f"they are newer than the host's driver {driver_version}, and work with its branch"
        return False, f"they are no newer than the host's driver {driver_version}"
    own = parse_version(note.cuda_version)
    if own and cuda:
        if own > cuda:
            return True, f"their CUDA {note.cuda_version} is newer than the host's {cuda_version}"
        return False, f"their CUDA {note.cuda_version} is no newer than the host's {cuda_version}"
    return False, "their version cannot be compared with the host's"


def by_branch(compat_version: str, driver_version: str) -> tuple[bool, str]:
    """Tell the same for libraries without a note: they are used if their branch is later than the driver's."""
    compat, driver = parse_version(compat_version), parse_version(driver_version)
    if not compat or not driver:
        return False, "their version cannot be compared with the host's"
    if compat[0] > driver[0]:
        return True, f"their branch {compat[0]} is later than that of the host's driver {driver_version}"
    return False, f"their branch {compat[0]} is no later than that of the host's driver {driver_version}"


def by_gpus(gpus: Sequence[Gpu], note: Note | None, why: str) -> tuple[bool, str]:
    """Tell the same for libraries that suit the driver for the reason `why`: every GPU must support them.

    A note takes precedence over this project's knowledge of families, because later libraries may support more.
    """
    refused = brands.WITHOUT_FORWARD_COMPATIBILITY.difference(note.brands if note else ())
    for gpu in gpus:
        if brands.of(gpu.name) in refused:
            failure = "CUDA programs would fail with error 804"
            return False, f"NVIDIA makes them for no {quoted(gpu.name)} (GPU {gpu.index}), where {failure}"
    return True, why


def parse_note(text: str) -> Note | None:
    """Parse a note's JSON, in which the case of names does not matter; None if it cannot be understood."""
    if not text:
        return None
    from oci_gpu_hook.base import document

    try:
        value = document.parse(text.encode("utf-8", "surrogatepass"), "CUDA compatibility note")
    except InvalidInput:
        return None
    if type(value) is not dict:
        return None
    members = {name.lower(): member for name, member in value.items() if member is not None}
    cuda_version = members.get("cuda version", "")
    branches = members.get("driver", [])
    if (
        type(cuda_version) is not str
        or type(branches) is not list
        or any(type(branch) is not int for branch in branches)
    ):
        return None
    families = members.get("device", [])
    if type(families) is not list or any(type(family) is not int for family in families):
        families = []  # NVIDIA's tools do not read this, so a note is not rejected because of it
    return Note(cuda_version=cuda_version, driver_branches=tuple(branches), brands=tuple(families))


def parse_version(text: str) -> Version | None:
    """Return the numbers of a dotted version, without trailing zeros; None if it is not a version."""
    parts = text.split(".")
    if len(text) > 64 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    numbers = [int(part) for part in parts]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _is_versioned_libcuda(library: CompatLibrary) -> bool:
    """Tell whether the file is libcuda.so.*.*, and not a link such as libcuda.so.1."""
    name = os.path.basename(library.path)
    return library.regular and name.startswith("libcuda.so.") and "." in name.removeprefix("libcuda.so.")


def _entries(libraries: Sequence[CompatLibrary], libcuda: str) -> tuple[tuple[str, str], ...]:
    """Return the names and paths of libcuda and of all libraries beside it.

    These always include the names by which programs load libcuda: if one were missing, a process that uses both names
    would load the host's library and the image's at once.
    """
    directory = os.path.dirname(libcuda)
    entries = {"libcuda.so.1": libcuda, "libcuda.so": libcuda}
    for library in libraries:
        parent, name = os.path.split(library.path)
        if parent == directory:
            entries[name] = library.path
    return tuple(entries.items())


def _shown(version: str) -> str:
    return version if parse_version(version) else quoted(version)

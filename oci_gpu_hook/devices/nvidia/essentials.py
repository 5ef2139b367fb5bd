"""Tells which capabilities lack essential files on this host, for plan, start and doctor. Pure."""

from __future__ import annotations

from oci_gpu_hook.devices.nvidia.capabilities import COMPUTE_PROGRAMS, GRAPHICS, NGX, UTILITY, VIDEO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.devices.nvidia.model import DriverFile, Lacking, Library

NOTHING: Final = "brings nothing"
# A capability is useless without one of these libraries, and compat32 without a 32-bit one.
ESSENTIAL_LIBRARIES: Final = {
    COMPUTE_PROGRAMS: ("libcuda",),
    UTILITY: ("libnvidia-ml",),
    VIDEO: ("libnvcuvid", "libnvidia-encode"),
    GRAPHICS: ("libGLX_nvidia", "libEGL_nvidia"),
    NGX: ("libnvidia-ngx",),
}
# Files without which a capability is of little use although its libraries exist, and the reason.
ESSENTIAL_FILES: Final = (
    (UTILITY, "/usr/bin/nvidia-smi", "the GPUs cannot be queried with it"),
    (GRAPHICS, "/etc/vulkan/icd.d/nvidia_icd.json", "Vulkan finds no GPU"),
    (GRAPHICS, "/usr/share/glvnd/egl_vendor.d/10_nvidia.json", "EGL finds no GPU"),
)


def lacking(
    libraries: Sequence[Library], files: Iterable[DriverFile], not_given: Iterable[Lacking]
) -> Iterator[Lacking]:
    """Yield (capabilities, sentence) for what is missing. not_given: programs that no container could run."""
    there = {(library.name.partition(".so")[0], library.bits) for library in libraries}
    for capabilities, stems in ESSENTIAL_LIBRARIES.items():
        if not any((stem, 64) in there for stem in stems):
            yield capabilities, f"{'/'.join(capabilities)} {NOTHING}: the host has no {' and no '.join(stems)}"
    if not any(bits == 32 for _stem, bits in there):
        yield ("compat32",), f"compat32 {NOTHING}: the host has no 32-bit library of its driver"
    said = set()
    for capabilities, text in not_given:
        said.add(text.partition(" ")[0])
        yield capabilities, text
    paths = {file.container_path for file in files}
    for capabilities, path, why in ESSENTIAL_FILES:
        name = path.rpartition("/")[2]
        has_libraries = any((stem, 64) in there for stem in ESSENTIAL_LIBRARIES[capabilities])
        if path not in paths and has_libraries and name not in said:
            yield capabilities, f"{'/'.join(capabilities)} comes without {name}, which the host does not have: {why}"


def lacks_files(lacking: Iterable[Lacking]) -> bool:
    """Tell whether any capability has its libraries but lacks other files."""
    return any(NOTHING not in text for _capabilities, text in lacking)

"""What capabilities lack on this host of what makes them useful: said by the plan, the start and the doctor. Pure."""

from __future__ import annotations

from oci_gpu_hook.devices.nvidia.capabilities import COMPUTE_PROGRAMS, GRAPHICS, NGX, UTILITY, VIDEO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.devices.nvidia.model import DriverFile, Lacking, Library

NOTHING: Final = "brings nothing"
# Capabilities bring nothing without one of these; with compat32 beside, neither without one of 32 bits.
ESSENTIAL_LIBRARIES: Final = {
    COMPUTE_PROGRAMS: ("libcuda",),
    UTILITY: ("libnvidia-ml",),
    VIDEO: ("libnvcuvid", "libnvidia-encode"),
    GRAPHICS: ("libGLX_nvidia", "libEGL_nvidia"),
    NGX: ("libnvidia-ngx",),
}
# Files without which capabilities are of little use, where their libraries are there; and why.
ESSENTIAL_FILES: Final = (
    (UTILITY, "/usr/bin/nvidia-smi", "nobody can look at the GPUs with it"),
    (GRAPHICS, "/etc/vulkan/icd.d/nvidia_icd.json", "Vulkan finds no GPU"),
    (GRAPHICS, "/usr/share/glvnd/egl_vendor.d/10_nvidia.json", "EGL finds no GPU"),
)


def lacking(
    libraries: Sequence[Library], files: Iterable[DriverFile], not_given: Iterable[Lacking]
) -> Iterator[Lacking]:
    """Yield (capabilities, sentence) of what is lacking. not_given: of programs that no container could run."""
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
            yield capabilities, f"{'/'.join(capabilities)} comes without {name}, which the host has nowhere: {why}"


def lacks_files(lacking: Iterable[Lacking]) -> bool:
    """Tell whether any capability has its libraries and lacks other files."""
    return any(NOTHING not in text for _capabilities, text in lacking)

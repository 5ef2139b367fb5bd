"""Builds what must run, libraries and nvidia-smi, with the facts of one simulated host compiled in."""

from __future__ import annotations

import os
import re  # noqa: TID253  a command for people
import shutil  # noqa: TID253
import subprocess  # noqa: TID253
import tempfile  # noqa: TID253

from oci_gpu_hook.admin.simulate import other_platforms
from oci_gpu_hook.admin.simulate.model import NVIDIA
from oci_gpu_hook.admin.simulate.products import ARCHITECTURES, BRANDS
from oci_gpu_hook.base.errors import SimulationError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.admin.simulate.gpus import SimulatedGpu
    from oci_gpu_hook.admin.simulate.layouts import Layout
    from oci_gpu_hook.admin.simulate.model import Settings
    from oci_gpu_hook.admin.simulate.nodes import Numbers

SOURCES: Final = os.path.dirname(os.path.abspath(__file__))
WARNINGS: Final = ("-Wall", "-Wextra", "-Werror=implicit-function-declaration")
LIBRARY_FLAGS: Final = ("-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-z,relro,-z,now")
# A program that runs where there is no C library; musl makes the smaller one.
STATIC_COMPILERS: Final = ("musl-gcc", "cc", "gcc", "clang")
COMPILERS: Final = ("cc", "gcc", "clang")
_LIBRARIES: Final = {
    "libnvidia-ml": ("nvml.c", "nvml_topology.c", "nvml_instances.c", "nvml_usage.c", "nvml_events.c"),
    "libcuda": ("cuda.c",),
    "libnvidia-sandboxutils": ("sandboxutils.c",),
    "libdxcore": ("dxcore.c",),
}


def build(gpus: Sequence[SimulatedGpu], settings: Settings, layout: Layout, numbers: Numbers) -> dict[str, bytes]:
    """Return the images of libraries, of `nvidia-smi` and `mps` by their names. Raises SimulationError."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        remedy = "install one (Debian: apt-get install gcc libc6-dev)"
        raise SimulationError("C compiler", f"none of {', '.join(COMPILERS)} is on PATH", remedy, "OGH2002")
    with tempfile.TemporaryDirectory(prefix="oci-gpu-simulate-") as work:
        with open(f"{work}/facts.h", "w", encoding="utf-8") as file:
            file.write(_facts_header(settings, layout, len(gpus)))
        with open(f"{work}/facts.c", "w", encoding="utf-8") as file:
            file.write(_facts_table(gpus, numbers))
        images = {
            stem: _link(compiler, work, "libdxcore.so" if stem == "libdxcore" else f"{stem}.so.1", *sources)
            for stem, sources in _LIBRARIES.items()
            if stem != "libdxcore" or other_platforms.WSL in settings.platforms
        }
        programs = {stem: _static_program(work, f"{stem}.c") for stem in ("nvidia-smi", "mps")}
        return {**images, **programs}


def _link(compiler: str, work: str, soname: str, *sources: str) -> bytes:
    error = _compile([compiler, *LIBRARY_FLAGS, f"-Wl,-soname,{soname}"], work, *sources)
    if error:
        raise SimulationError(
            soname, error, f"check that {compiler} can link (Debian: apt-get install libc6-dev)", "OGH2002"
        )
    return _image(work)


def _static_program(work: str, source: str) -> bytes:
    error = ""
    for compiler in filter(None, map(shutil.which, STATIC_COMPILERS)):
        error = _compile([compiler, "-static"], work, source)
        if not error:
            return _image(work)
    remedy = "install a static C library (Debian: apt-get install musl-tools, Fedora: glibc-static)"
    raise SimulationError(source, error, remedy, "OGH2002")


def _compile(command: Sequence[str], work: str, *sources: str) -> str:
    """Compile and link into work/image. Return "" or what the compiler complains about first."""
    files = [os.path.join(SOURCES, source) for source in sources]
    arguments = [*command, *WARNINGS, "-O1", "-s", "-D_GNU_SOURCE", f"-I{work}", f"-I{SOURCES}", "-o", f"{work}/image"]
    run = subprocess.run(
        [*arguments, *files, f"{work}/facts.c", "-ldl"],  # glibc before 2.34 has dladdr there
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if run.returncode == 0:
        return ""
    complaints = [line for line in run.stderr.split("\n") if re.search(r"error|cannot|not found", line)]
    first = (complaints or run.stderr.strip().split("\n"))[0].strip()
    return one_line(first or f"exit status {run.returncode}")


def _image(work: str) -> bytes:
    with open(f"{work}/image", "rb") as file:
        return file.read()


def _control(settings: Settings) -> str:
    """Return the node below /dev by which a program sees that the driver is loaded."""
    if other_platforms.WSL in settings.platforms:
        return "dxg"
    return "nvmap" if other_platforms.TEGRA in settings.platforms and NVIDIA not in settings.platforms else "nvidiactl"


def _facts_header(settings: Settings, layout: Layout, count: int) -> str:
    version = settings.driver_version
    major, minor = map(int, settings.cuda.split("."))
    nvml = f"{major}.{version}"  # as nvmlSystemGetNVMLVersion has it: CUDA's major, then the driver's version
    return (
        f"#define SIM_LIBRARIES {_c_string(os.path.join('/', layout.root, layout.libraries))}\n"
        f"#define SIM_PROGRAMS {_c_string(os.path.join('/', layout.root, layout.programs))}\n"
        f"#define SIM_CONTROL {_c_string(_control(settings))}\n"
        f"#define SIM_NODES {int(settings.device_nodes)}\n"
        f"#define SIM_DRIVER_VERSION {_c_string(version)}\n"
        f"#define SIM_NVML_VERSION {_c_string(nvml)}\n"
        f"#define SIM_CUDA_VERSION {1000 * major + 10 * minor}\n"
        f"#define SIM_GPU_COUNT {count}\n"
    )


def _facts_table(gpus: Sequence[SimulatedGpu], numbers: Numbers) -> str:
    rows = [_gpu_row(gpu, numbers) for gpu in gpus] + ["{0}"]
    return '#include "host.h"\n\nconst struct sim_gpu sim_gpus[SIM_GPU_COUNT + 1] = {\n' + ",\n".join(rows) + "\n};\n"


def _gpu_row(gpu: SimulatedGpu, numbers: Numbers) -> str:
    product = gpu.product
    major, minor = product.compute_capability.split(".")
    devices = [
        f"{{{_c_string(device.uuid)}, {_c_string(device.profile.name)}, {device.gpu_instance}, "
        f"{device.compute_instance}, {device.gpu_instance_minor}, {device.compute_instance_minor}, "
        f"{device.profile.compute_slices}, {device.multiprocessors}, {device.memory}}}"
        for device in gpu.mig_devices
    ]
    fields = {
        "uuid": _c_string(gpu.uuid),
        "name": _c_string(product.name),
        "node": _c_string(gpu.node),
        "integrated": int(gpu.integrated),
        "minor": gpu.minor,
        "sick": int(gpu.sick),
        "domain": gpu.domain,
        "bus": gpu.bus,
        "slot": gpu.slot,
        "card": numbers.first_card + gpu.index,
        "render": numbers.first_render + gpu.index,
        "numa_node": gpu.numa_node,
        "device_id": product.device_id,
        "subsystem_id": f"{product.subsystem_id}u",
        "brand": BRANDS[product.brand],
        "architecture": ARCHITECTURES[product.compute_capability],
        "capability_major": major,
        "capability_minor": minor,
        "multiprocessors": product.multiprocessors,
        "slice_multiprocessors": product.slice_multiprocessors,
        "nvlinks": product.nvlinks,
        "peer": -1 if gpu.peer is None else gpu.peer,
        "memory": product.memory,
        "mig_capable": int(bool(product.mig_profiles)),
        "mig_enabled": int(gpu.mig_enabled),
        "mig_count": len(devices),
        "forward_compatible": int(product.forward_compatible),
        "mig": f"{{{', '.join(devices) or '{0}'}}}",
    }
    return "  {" + ", ".join(f".{name} = {value}" for name, value in fields.items()) + "}"


def _c_string(text: str) -> str:
    """Return a C literal of printable ASCII."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

"""NVIDIA's platforms without its Linux driver for cards: a WSL 2, and a Tegra, alone (Orin) or with a card (Thor).

Sources: nvidia-container-toolkit, pkg/nvcdi/driver-wsl.go (the driver store's files) and testdata/lookup/rootfs-orin,
rootfs-thor-dgpu (JetPack's CSV files, of which these are a part). Libraries are of this machine, whatever their paths.
"""

from __future__ import annotations

from oci_gpu_hook.admin.simulate.elf import shared_object
from oci_gpu_hook.admin.simulate.layouts import Layout
from oci_gpu_hook.admin.simulate.nodes import NVIDIA_MAJOR, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

    from oci_gpu_hook.admin.simulate.nodes import Numbers
    from oci_gpu_hook.admin.simulate.tree import Tree

WSL, TEGRA = "wsl2", "tegra"
STORE: Final = "usr/lib/wsl/drivers/nv_dispi.inf_amd64_1b6ce3f2a0c5d947"
_OLD_STORE: Final = "usr/lib/wsl/drivers/nv_dispi.inf_amd64_0a4f7c11b3e9d826"  # of a driver that was replaced
_OTHER_STORE: Final = "usr/lib/wsl/drivers/iigd_dch.inf_amd64_0000000000000000"
_STORE_LIBRARIES: Final = {  # name → SONAME, beside what is built from C
    "libnvidia-ml_loader.so": "libnvidia-ml.so.1",
    "libnvidia-ptxjitcompiler.so.1": "libnvidia-ptxjitcompiler.so.1",
    "libnvdxgdmal.so.1": "libnvdxgdmal.so.1",
    "libnvidia-opticalflow.so.1": "libnvidia-opticalflow.so.1",
    "libnvidia-encode.so.1": "libnvidia-encode.so.1",
    "libnvcuvid.so.1": "libnvcuvid.so.1",
    "libnvoptix_loader.so.1": "libnvoptix.so.1",
}
_STORE_FILES: Final = ("nvcubins.bin", "nvoptix.bin", "nvngx.dll")
TEGRA_LIBRARIES: Final = "usr/lib/aarch64-linux-gnu/nvidia"
CSV: Final = "etc/nvidia-container-runtime/host-files-for-container.d"
_TEGRA_OBJECTS: Final = {  # path → SONAME, beside what is built from C
    f"{TEGRA_LIBRARIES}/libnvidia-ptxjitcompiler.so.540.3.0": "libnvidia-ptxjitcompiler.so.1",
    f"{TEGRA_LIBRARIES}/libnvidia-glcore.so.540.3.0": "libnvidia-glcore.so.540.3.0",
    f"{TEGRA_LIBRARIES}/libGLX_nvidia.so.0": "libGLX_nvidia.so.0",
    f"{TEGRA_LIBRARIES}/libnvbufsurface.so.1.0.0": "libnvbufsurface.so.1.0.0",
    f"{TEGRA_LIBRARIES}/libnvrm_gpu.so": "libnvrm_gpu.so",
    "usr/lib/aarch64-linux-gnu/gstreamer-1.0/libgstnvvidconv.so": "",
}
_TEGRA_MISSING: Final = ("usr/lib/aarch64-linux-gnu/libnvsample_cudaprocess.so",)  # named, and on no such board
_IGPU_NODES: Final = tuple(f"nvgpu/igpu0/{name}" for name in ("as", "channel", "ctrl", "power", "prof", "tsg"))
_TEGRA_NODES: Final = ("nvmap", "host1x-fence", "nvhost-ctrl-gpu", "nvhost-gpu", "nvhost-as-gpu", "nvhost-ctrl-pva0")
_DISPLAY_MINOR: Final = 2  # /dev/nvidia2 of Thor
_FIRST_MINOR: Final = 32  # of nodes that share the major of AMD's kfd, which no driver of this machine has


def layout(platform: str) -> Layout:
    """Return where the platform has what is built from C."""
    libraries = STORE if platform == WSL else TEGRA_LIBRARIES
    return Layout(
        libraries=libraries,
        libraries32="usr/lib/i386-linux-gnu",
        programs=STORE if platform == WSL else "usr/sbin",
        share="usr/share",
        firmware="usr/lib/firmware/nvidia",
        x_output_class="10-nvidia.conf",
    )


def device_nodes(platform: str, numbers: Numbers, *, card: bool) -> Iterator[Node]:
    """Yield the platform's own nodes. card: whether a Tegra has a card, and with it the driver for cards."""
    if platform == WSL:
        yield Node(path="dev/dxg", major=numbers.kfd, minor=_FIRST_MINOR - 1)
        return
    names = (*_TEGRA_NODES, *(() if card else _IGPU_NODES))
    for minor, name in enumerate(names, _FIRST_MINOR):
        yield Node(path=f"dev/{name}", major=numbers.kfd, minor=minor)
    if card:
        yield Node(path=f"dev/nvidia{_DISPLAY_MINOR}", major=NVIDIA_MAJOR, minor=_DISPLAY_MINOR)
    else:
        yield Node(path="dev/nvidia0", major=NVIDIA_MAJOR, minor=0)
        yield Node(path="dev/nvidiactl", major=NVIDIA_MAJOR, minor=255)


def make_wsl(tree: Tree, machine: str, compiled: Mapping[str, bytes]) -> None:
    """Fill the driver root of a WSL 2; `tree` is there."""
    for name in ("libcuda.so.1.1", "libcuda_loader.so"):
        tree.write(f"{STORE}/{name}", compiled["libcuda"], 0o555)
    tree.write(f"{STORE}/libnvidia-ml.so.1", compiled["libnvidia-ml"], 0o555)
    tree.write(f"{STORE}/nvidia-smi", compiled["nvidia-smi"], 0o555)
    for name, soname in _STORE_LIBRARIES.items():
        tree.write(f"{STORE}/{name}", shared_object(machine, soname), 0o555)
    for name in _STORE_FILES:
        tree.write(f"{STORE}/{name}", f"{name}\n", 0o444)
    tree.write(f"{_OLD_STORE}/libcuda.so.1.1", shared_object(machine, "libcuda.so.1"), 0o555)
    tree.write(f"{_OTHER_STORE}/libigdgmm_w.so.12", shared_object(machine, "libigdgmm_w.so.12"), 0o555)
    tree.write("usr/lib/wsl/lib/libdxcore.so", compiled["libdxcore"], 0o555)
    tree.write("usr/lib/wsl/lib/libd3d12.so", shared_object(machine, "libd3d12.so"), 0o555)
    tree.write("usr/lib/wsl/lib/libcuda.so.1", compiled["libcuda"], 0o555)
    tree.link("usr/lib/wsl/lib/libcuda.so", "libcuda.so.1")


def make_tegra(tree: Tree, machine: str, compiled: Mapping[str, bytes], *, card: bool) -> None:
    """Fill the driver root of a Tegra; `tree` is there. card: whether its CSV files know of one."""
    tree.write(f"{TEGRA_LIBRARIES}/libcuda.so.1.1", compiled["libcuda"], 0o755)
    tree.link(f"{TEGRA_LIBRARIES}/libcuda.so", "libcuda.so.1.1")
    tree.write(f"{TEGRA_LIBRARIES}/libnvidia-ml.so.1", compiled["libnvidia-ml"], 0o755)
    tree.write("usr/sbin/nvidia-smi", compiled["nvidia-smi"], 0o755)
    for path, soname in _TEGRA_OBJECTS.items():
        tree.write(path, shared_object(machine, soname), 0o755)
    tree.link(f"{TEGRA_LIBRARIES}/libnvbufsurface.so", "libnvbufsurface.so.1.0.0")
    tree.link("usr/lib/aarch64-linux-gnu/libv4l2.so.0", "nvidia/libnvbufsurface.so")
    tree.write(f"{TEGRA_LIBRARIES}/ld.so.conf", f"/{TEGRA_LIBRARIES}\n")
    tree.write("usr/share/nvidia-multimedia/notes.txt", "multimedia\n")
    tree.write("usr/src/extra/extra.txt", "beyond the base files\n")
    tree.write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 0, BOARD: generic, EABI: aarch64\n")
    tree.write(f"{CSV}/devices.csv", _devices_csv(card=card))
    libraries = ("libcuda.so.1.1", "libnvidia-ml.so.1")
    listed = [f"{TEGRA_LIBRARIES}/{name}" for name in (*libraries, "ld.so.conf")]
    lines = [f"lib, /{path}" for path in (*listed, *_TEGRA_OBJECTS, *_TEGRA_MISSING, "usr/sbin/nvidia-smi")]
    lines += [f"sym, /{TEGRA_LIBRARIES}/libnvbufsurface.so", "sym, /usr/lib/aarch64-linux-gnu/libv4l2.so.0"]
    tree.write(f"{CSV}/drivers.csv", "\n".join([*lines, "dir, /usr/share/nvidia-multimedia", ""]))
    tree.write(f"{CSV}/extra.csv", "dir, /usr/src/extra\n")


def _devices_csv(*, card: bool) -> str:
    names = [*_TEGRA_NODES, *_IGPU_NODES, "nvidia-modeset", "nvidia0", *(["nvidia1"] if card else []), "nvidiactl"]
    lines = [f"dev, /dev/{name}" for name in (*names, "v4l2-nvdec")]
    return "\n".join([*lines, "dev, /dev/dri/renderD*", "dir, /dev/dri/by-path", ""])

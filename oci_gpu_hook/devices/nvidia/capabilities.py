"""The table of all driver files and nodes: which driver capability brings which library, program, file and node.

A new file of a new driver is a new row. Sources, named at the rows:
  legacy  libnvidia-container 1.17 (src/nvc_info.c, nvc_mount.c, options.h)
  cdi     nvidia-container-toolkit 1.20 (pkg/nvcdi, internal/discover)
  run     what NVIDIA's .run packages hold, as distributions pack it (Debian 535, Bottlerocket and Gentoo 580, Arch 595)
If the first two differ, the table has the union. cdi gives every library of the driver's version to every container;
here such a library belongs to the capability that its NEEDED entries and its purpose suggest.

The constants express what the interface implies: `video` also brings the compute libraries, and `display` the graphics
libraries (legacy, options.h). A 32-bit library uses the row of its 64-bit twin, and also needs `compat32`.
"""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

ALWAYS: Final = ()
UTILITY: Final = ("utility",)
COMPUTE: Final = ("compute", "video")
COMPUTE_PROGRAMS: Final = ("compute",)
VIDEO: Final = ("video",)
GRAPHICS: Final = ("graphics", "display")
DISPLAY: Final = ("display",)
NGX: Final = ("ngx",)
# Known, but deliberately left to the image or the host.
NOT_GIVEN: Final = ("not given",)

# How the file name of a library ends.
DRIVER_VERSION: Final = "driver"  # libcuda.so.580.95.05
OWN_VERSION: Final = "own"  # libnvidia-egl-gbm.so.1.1.2, independent of the driver's version


class LibraryRow(Record):
    """A library. `stem` is its name up to `.so`.

    directory: below the library directory. links: further links beside it, independent of its SONAME: {} means its
    SONAME link, a name without `.so.` its development link. cached: as in Library.
    """

    stem: str
    capabilities: tuple[str, ...]
    version: str = DRIVER_VERSION
    directory: str = ""
    links: tuple[str, ...] = ()
    cached: bool = True


class FileRow(Record):
    """A program or file. name: relative to the directories for its kind; it may contain `{version}` and a `*`."""

    name: str
    capabilities: tuple[str, ...]
    container_path: str = ""
    also_named: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


class NodeRow(Record):
    """Device nodes. path may end in `*`, which means digits. expected: every host with GPUs has it."""

    path: str
    capabilities: tuple[str, ...]
    expected: bool = False


class SocketRow(Record):
    """The directory of a daemon's socket. It is the directory so that the container finds a restarted daemon, too."""

    path: str
    capabilities: tuple[str, ...]
    container_path: str
    options: tuple[str, ...]


def _lib(stem: str, capabilities: tuple[str, ...], **rest: object) -> LibraryRow:
    return LibraryRow(stem=stem, capabilities=capabilities, **rest)  # type: ignore[arg-type]


def _file(name: str, capabilities: tuple[str, ...], container_path: str = "", **rest: object) -> FileRow:
    return FileRow(name=name, capabilities=capabilities, container_path=container_path, **rest)  # type: ignore[arg-type]


LIBRARIES: Final = (
    # management: legacy utility_libs
    _lib("libnvidia-ml", UTILITY, links=(".so",)),
    _lib("libnvidia-cfg", UTILITY + GRAPHICS),  # the X driver and EGL load it too (run)
    _lib("libnvidia-nscq", UTILITY),
    _lib("libnvsdm", UTILITY),  # NVSwitch device monitor, 560 and later (run: fabricmanager packages)
    _lib("libnvidia-sandboxutils", UTILITY),  # 565 and later (cdi)
    # CUDA and OpenCL: legacy compute_libs
    _lib("libcuda", COMPUTE, links=(".so",)),
    _lib("libcudadebugger", COMPUTE),
    _lib("libnvidia-opencl", COMPUTE),
    _lib("libnvidia-gpucomp", COMPUTE + GRAPHICS),  # NEEDED by libnvidia-glcore and -eglcore since 550 (run)
    _lib("libnvidia-ptxjitcompiler", COMPUTE + NGX),
    _lib("libnvidia-fatbinaryloader", COMPUTE),  # until 440
    _lib("libnvidia-allocator", COMPUTE + GRAPHICS),  # the GBM backend is a link to it (cdi)
    _lib("libnvidia-compiler", COMPUTE),  # until 470
    _lib("libnvidia-compiler-next", COMPUTE),  # 495 to 515 (run)
    _lib("libnvidia-pkcs11", COMPUTE),
    _lib("libnvidia-pkcs11-openssl3", COMPUTE),
    _lib("libnvidia-nvvm", COMPUTE),
    _lib("libnvidia-nvvm70", COMPUTE, version=OWN_VERSION),  # 580 and later: libnvidia-nvvm70.so.4 (cdi)
    _lib("libnvidia-tileiras", COMPUTE),  # 590 and later (legacy, run)
    # video: legacy video_libs
    _lib("libvdpau_nvidia", VIDEO, directory="vdpau"),
    _lib("libnvidia-encode", VIDEO),
    _lib("libnvidia-opticalflow", VIDEO, links=(".so",)),  # applications open the name without a version (legacy)
    _lib("libnvcuvid", VIDEO),
    # OpenGL, Vulkan, ray tracing: legacy graphics_libs and graphics_libs_glvnd
    _lib("libnvidia-eglcore", GRAPHICS),
    _lib("libnvidia-glcore", GRAPHICS),
    _lib("libnvidia-tls", GRAPHICS),
    _lib("libnvidia-glsi", GRAPHICS),
    _lib("libnvidia-fbc", GRAPHICS),
    _lib("libnvidia-ifr", GRAPHICS),  # until 495
    _lib("libnvidia-rtcore", GRAPHICS),
    _lib("libnvoptix", GRAPHICS),
    _lib("libGLX_nvidia", GRAPHICS, links=("libGLX_indirect.so.0",)),  # the name for indirect rendering (legacy)
    _lib("libEGL_nvidia", GRAPHICS),
    _lib("libGLESv2_nvidia", GRAPHICS),
    _lib("libGLESv1_CM_nvidia", GRAPHICS),
    _lib("libnvidia-glvkspirv", GRAPHICS),
    _lib("libnvidia-cbl", GRAPHICS),  # until 495
    # window systems: cdi (graphics.go); their own versions
    _lib("libnvidia-egl-gbm", GRAPHICS, version=OWN_VERSION),
    _lib("libnvidia-egl-wayland", GRAPHICS, version=OWN_VERSION),
    _lib("libnvidia-egl-wayland2", GRAPHICS, version=OWN_VERSION),  # 590 and later
    _lib("libnvidia-egl-xcb", GRAPHICS, version=OWN_VERSION),  # 560 and later
    _lib("libnvidia-egl-xlib", GRAPHICS, version=OWN_VERSION),
    _lib("libnvidia-vulkan-producer", GRAPHICS, links=(".so",)),  # until 550
    _lib("libnvidia-present", GRAPHICS),  # 570 and later: Vulkan presentation (run)
    _lib("libnvidia-vksc-core", GRAPHICS),  # Vulkan SC (run)
    _lib("libnvidia-api", GRAPHICS, version=OWN_VERSION),  # NVAPI for Proton: libnvidia-api.so.1 (cdi)
    _lib("libnvidia-gtk2", DISPLAY),  # parts of nvidia-settings (cdi gives whatever has the driver's version)
    _lib("libnvidia-gtk3", DISPLAY),
    _lib("libnvidia-wayland-client", DISPLAY),
    # deep learning of NGX: legacy ngx_libs; the Windows halves are what Proton loads (run)
    _lib("libnvidia-ngx", NGX),
    # vendor-neutral dispatchers, also packed by NVIDIA: the image's own fit its programs (cdi: off by default)
    *(
        _lib(stem, NOT_GIVEN, version=OWN_VERSION)
        for stem in (
            "libGL",
            "libEGL",
            "libGLX",
            "libGLESv1_CM",
            "libGLESv2",
            "libGLdispatch",
            "libOpenGL",
            "libOpenCL",
        )
    ),
    # of the hypervisor's side of vGPU (run: vgpu-kvm packages)
    _lib("libnvidia-vgpu", NOT_GIVEN),
    _lib("libnvidia-vgxcfg", NOT_GIVEN),
)

# Files in library directories that the loader does not load (run: nvidia/wine, xorg modules).
WINE_LIBRARIES: Final = ("nvngx.dll", "_nvngx.dll", "nvngx_dlssg.dll")
X_MODULES: Final = (
    _file("nvidia_drv.so", GRAPHICS),
    _file("libglxserver_nvidia.so.{version}", GRAPHICS, links=("libglxserver_nvidia.so",)),
)
GBM_BACKEND: Final = (
    "gbm/nvidia-drm_gbm.so",
    "../libnvidia-allocator.so.1",
)  # cdi; libgbm builds the name from the driver's

BINARIES: Final = (
    _file("nvidia-smi", UTILITY),  # legacy utility_bins, cdi
    _file("nvidia-debugdump", UTILITY),
    _file("nvidia-persistenced", UTILITY),
    _file("nv-fabricmanager", UTILITY),
    _file("nvidia-imex", UTILITY),  # cdi
    _file("nvidia-imex-ctl", UTILITY),
    _file("nvidia-cuda-mps-control", COMPUTE_PROGRAMS),  # legacy compute_bins, cdi
    _file("nvidia-cuda-mps-server", COMPUTE_PROGRAMS),
    _file("nvidia-xconfig", GRAPHICS),  # cdi
    _file("nvidia-pcc", GRAPHICS),  # compiler of Vulkan SC pipelines (run)
    _file("nvidia-ngx-updater", NGX),  # run
    _file("nvidia-settings", NOT_GIVEN),
    _file("nvidia-modprobe", NOT_GIVEN),  # setuid, and loads kernel modules
    _file("nvidia-powerd", NOT_GIVEN),
    _file("nvidia-bug-report.sh", NOT_GIVEN),
    _file("nvidia-sleep.sh", NOT_GIVEN),
    _file("nvidia-installer", NOT_GIVEN),
    _file("nvidia-uninstall", NOT_GIVEN),
    _file("nvidia-gridd", NOT_GIVEN),  # the licence daemon of vGPU guests
)

# Relative to the driver's data and configuration directories (cdi: graphics.go; run: the last ones).
DATA_FILES: Final = (
    _file("glvnd/egl_vendor.d/10_nvidia.json", GRAPHICS, "/usr/share/glvnd/egl_vendor.d/10_nvidia.json"),
    *(
        _file(f"egl/egl_external_platform.d/{name}", GRAPHICS, f"/usr/share/egl/egl_external_platform.d/{name}")
        for name in (
            "09_nvidia_wayland2.json",
            "10_nvidia_wayland.json",
            "15_nvidia_gbm.json",
            "20_nvidia_xcb.json",
            "20_nvidia_xlib.json",
        )
    ),
    _file(
        "vulkan/icd.d/nvidia_icd.json",
        GRAPHICS,
        "/etc/vulkan/icd.d/nvidia_icd.json",
        also_named=("vulkan/icd.d/nvidia_icd.{machine}.json",),  # RPM packages
    ),
    _file("vulkan/icd.d/nvidia_layers.json", GRAPHICS, "/etc/vulkan/icd.d/nvidia_layers.json"),
    _file("vulkan/implicit_layer.d/nvidia_layers.json", GRAPHICS, "/etc/vulkan/implicit_layer.d/nvidia_layers.json"),
    _file(
        "vulkansc/icd.d/nvidia_icd_vksc.json",
        GRAPHICS,
        "/etc/vulkansc/icd.d/nvidia_icd_vksc.json",
        also_named=("vulkansc/icd.d/nvidia_icd_vksc.{machine}.json",),
    ),
    _file("OpenCL/vendors/nvidia.icd", COMPUTE + GRAPHICS, "/etc/OpenCL/vendors/nvidia.icd"),
    _file(
        "nvidia/nvoptix.bin",
        GRAPHICS,
        "/usr/share/nvidia/nvoptix.bin",
        also_named=("nvoptix.bin",),  # Debian, beside the libraries
    ),
    _file("X11/xorg.conf.d/10-nvidia.conf", GRAPHICS, "/usr/share/X11/xorg.conf.d/10-nvidia.conf"),
    _file(
        "X11/xorg.conf.d/nvidia-drm-outputclass.conf",
        GRAPHICS,
        "/usr/share/X11/xorg.conf.d/nvidia-drm-outputclass.conf",
        also_named=(
            "X11/xorg.conf.d/10-nvidia-drm-outputclass.conf",  # Arch
            "nvidia/current/nvidia-drm-outputclass.conf",  # Debian
            "nvidia/nvidia-drm-outputclass.conf",  # Debian's link to the one that its alternatives have chosen
        ),
    ),
    _file(
        "nvidia/nvidia-application-profiles-{version}-rc",
        GRAPHICS,
        "/usr/share/nvidia/nvidia-application-profiles-{version}-rc",
    ),
)

# Relative to the directories in which the kernel looks for firmware (legacy: gsp*.bin; cdi 1.20: ucodes*.bin too).
FIRMWARE: Final = (
    _file("nvidia/{version}/gsp*.bin", ALWAYS),
    _file("nvidia/{version}/ucodes*.bin", ALWAYS),
)

NODES: Final = (
    NodeRow(path="/dev/nvidiactl", capabilities=ALWAYS, expected=True),
    NodeRow(path="/dev/nvidia-uvm", capabilities=COMPUTE, expected=True),
    NodeRow(path="/dev/nvidia-uvm-tools", capabilities=COMPUTE, expected=True),
    NodeRow(path="/dev/nvidia-modeset", capabilities=DISPLAY, expected=True),
    NodeRow(path="/dev/nvidia-fs*", capabilities=("gds",)),
    NodeRow(path="/dev/infiniband/uverbs*", capabilities=("mofed",)),
    NodeRow(path="/dev/infiniband/rdma_cm", capabilities=("mofed",)),
    NodeRow(path="/dev/nvidia-nvswitchctl", capabilities=("nvswitch",)),
    NodeRow(path="/dev/nvidia-nvswitch*", capabilities=("nvswitch",)),
    NodeRow(path="/dev/gdrdrv", capabilities=("gdrcopy",)),
)

# Connecting to a socket needs no writable mount. The directory of MPS, which does, is looked for in mps.py.
_SOCKET: Final = ("ro", "nosuid", "nodev", "noexec")
SOCKETS: Final = (
    SocketRow(
        path="/run/nvidia-persistenced",
        capabilities=UTILITY,
        container_path="/var/run/nvidia-persistenced",
        options=_SOCKET,
    ),
    SocketRow(
        path="/run/nvidia-fabricmanager",
        capabilities=UTILITY,
        container_path="/var/run/nvidia-fabricmanager",
        options=_SOCKET,
    ),
)

# What a feature brings in addition to its nodes, if the host has those (cdi: gds.go).
FEATURE_FILES: Final = (
    _file("/run/udev", ("gds",), "/run/udev"),
    _file("/etc/cufile.json", ("gds",), "/etc/cufile.json"),
)

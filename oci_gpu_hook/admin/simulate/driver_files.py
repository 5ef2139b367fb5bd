"""What files a driver consists of: the table that a simulated driver root is made from.

Sources: "Listing of Installed Components" in the README of the 580.105.08 driver; file lists of the 580.142 RPM and of
the 580.159.03 Debian packages; SONAMEs, NEEDED entries and notes read from the real 535.261.03 libraries.
"""

from __future__ import annotations

from oci_gpu_hook.admin.simulate.products import driver_branch
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

DRIVER_VERSION: Final = ""  # of a SharedObject: its file name ends in the driver's version


class SharedObject(Record):
    """A shared library of the driver.

    number: N of the SONAME `stem.so.N`; "" where the SONAME is the file name, None where there is no SONAME.
    version: what the file name ends in. links: further names that link to the SONAME, e.g. ("libcuda.so",).
    needed: stems of libraries of the driver. bits32: there is an i386 build also. since, until: driver branches.
    directory: below the library directory. machines: empty for all.
    """

    stem: str
    number: str | None = ""
    version: str = DRIVER_VERSION
    links: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    directory: str = ""
    bits32: bool = False
    since: int = 0
    until: int = 9999
    machines: tuple[str, ...] = ()


class Driver(Record):
    """A version of the driver on a machine, `x86_64` or `aarch64`; of the libraries or of the kernel modules."""

    version: str
    machine: str

    @property
    def branch(self) -> int:
        """The branch: 580 of 580.159.04."""
        return driver_branch(self.version)

    def file_name(self, library: SharedObject) -> str:
        """Return the name of a library's file, e.g. libcuda.so.580.159.04."""
        return f"{library.stem}.so.{library.version or self.version}"

    def soname(self, library: SharedObject) -> str:
        """Return a library's SONAME; "" where it has none."""
        if library.number is None:
            return ""
        return f"{library.stem}.so.{library.number}" if library.number else self.file_name(library)

    def libraries(self) -> dict[str, SharedObject]:
        """Return stem → library of those that this driver ships."""
        return {
            library.stem: library
            for library in LIBRARIES
            if library.since <= self.branch <= library.until
            and (not library.machines or self.machine in library.machines)
        }


def _lib(stem: str, number: str | None = "", **rest: object) -> SharedObject:
    return SharedObject(stem=stem, number=number, **rest)  # type: ignore[arg-type]


# Built from C instead, in 64 bits: they answer calls. So is libnvidia-sandboxutils.
NVML: Final = "libnvidia-ml"
CUDA: Final = "libcuda"

LIBRARIES: Final = (
    # utility
    _lib(NVML, "1", links=("libnvidia-ml.so",), exports=("nvmlInit_v2", "nvmlShutdown"), bits32=True),
    _lib("libnvidia-cfg", "1", exports=("nvCfgGetDevices",)),
    _lib(
        "libnvidia-nscq",
        "2",
        links=("libnvidia-nscq.so", "libnvidia-nscq.so.2.0"),
        exports=("nscq_session_create",),
    ),
    _lib("libnvidia-sandboxutils", "1", exports=("nvSandboxUtilsInit",), since=560),
    # compute
    _lib(CUDA, "1", links=("libcuda.so",), exports=("cuInit", "cuDriverGetVersion"), bits32=True),
    _lib("libcudadebugger", "1", exports=("GetCUDADebuggerAPI",), since=510),
    _lib("libnvidia-opencl", "1", exports=("clIcdGetPlatformIDsKHR",), bits32=True),
    _lib("libnvidia-gpucomp", bits32=True, since=545),
    _lib("libnvidia-ptxjitcompiler", "1", exports=("__cuda_CallJitEntryPoint",), bits32=True),
    _lib("libnvidia-compiler", bits32=True, until=525),
    _lib("libnvidia-nvvm", "4", links=("libnvidia-nvvm.so",), exports=("nvvmCompileProgram",), bits32=True, since=515),
    _lib("libnvidia-nvvm70", "4", version="4", exports=("nvvmCompileProgram",), since=570),
    _lib("libnvidia-tileiras", exports=("tileirasCompile",), since=590),
    _lib("libnvidia-allocator", "1", exports=("gbmint_get_backend",), bits32=True),
    _lib("libnvidia-pkcs11", exports=("C_GetFunctionList",), since=535),
    _lib("libnvidia-pkcs11-openssl3", exports=("C_GetFunctionList",), since=535),
    # video
    _lib("libnvcuvid", "1", links=("libnvcuvid.so",), needed=(CUDA,), exports=("cuvidCreateDecoder",), bits32=True),
    _lib(
        "libnvidia-encode",
        "1",
        links=("libnvidia-encode.so",),
        needed=("libnvcuvid",),
        exports=("NvEncodeAPICreateInstance",),
        bits32=True,
    ),
    _lib(
        "libnvidia-opticalflow",
        "1",
        links=("libnvidia-opticalflow.so",),
        needed=("libnvcuvid",),
        exports=("NvOFAPICreateInstanceCuda",),
        bits32=True,
    ),
    _lib("libvdpau_nvidia", "1", exports=("vdp_imp_device_create_x11",), directory="vdpau", bits32=True),
    # graphics
    _lib("libnvidia-tls", bits32=True),
    _lib("libnvidia-glsi", needed=("libnvidia-tls",), bits32=True),
    _lib("libnvidia-glcore", needed=("libnvidia-tls",), bits32=True),
    _lib("libnvidia-eglcore", needed=("libnvidia-tls", "libnvidia-glsi"), bits32=True),
    _lib("libnvidia-glvkspirv", bits32=True),
    _lib("libnvidia-rtcore", exports=("rtGetExportTable",)),
    _lib("libnvoptix", "1", exports=("optixQueryFunctionTable",)),
    _lib("libnvidia-fbc", "1", links=("libnvidia-fbc.so",), exports=("NvFBCCreateInstance",), bits32=True),
    _lib("libnvidia-ifr", "1", bits32=True, until=470),
    _lib("libnvidia-cbl", until=470),
    _lib(
        "libGLX_nvidia",
        "0",
        links=("libGLX_indirect.so.0",),
        needed=("libnvidia-glsi", "libnvidia-tls", "libnvidia-glcore"),
        exports=("__glx_Main", "vk_icdGetInstanceProcAddr"),
        bits32=True,
    ),
    _lib(
        "libEGL_nvidia",
        "0",
        needed=("libnvidia-glsi", "libnvidia-eglcore"),
        exports=("__egl_Main", "vk_icdGetInstanceProcAddr"),
        bits32=True,
    ),
    _lib("libGLESv1_CM_nvidia", "1", needed=("libnvidia-eglcore",), bits32=True),
    _lib("libGLESv2_nvidia", "2", needed=("libnvidia-eglcore",), bits32=True),
    _lib("libnvidia-present", exports=("vkGetInstanceProcAddr",), since=570),
    _lib("libnvidia-vksc-core", "1", exports=("vk_icdGetInstanceProcAddr",), since=545, machines=("x86_64",)),
    _lib("libnvidia-vulkan-producer", None, links=("libnvidia-vulkan-producer.so",), until=565),
    _lib("libnvidia-api", "1", version="1", exports=("nvapi_QueryInterface",), since=525),
    _lib("libnvidia-egl-gbm", "1", version="1.1.2", exports=("loadEGLExternalPlatform",), bits32=True),
    _lib("libnvidia-egl-wayland", "1", version="1.1.20", exports=("loadEGLExternalPlatform",), bits32=True),
    _lib("libnvidia-egl-wayland2", "1", version="1.0.1", exports=("loadEGLExternalPlatform",), since=590),
    _lib("libnvidia-egl-xcb", "1", version="1.0.3", exports=("loadEGLExternalPlatform",), bits32=True, since=560),
    _lib("libnvidia-egl-xlib", "1", version="1.0.3", exports=("loadEGLExternalPlatform",), bits32=True, since=560),
    # ngx
    _lib("libnvidia-ngx", "1", links=("libnvidia-ngx.so",), exports=("NVSDK_NGX_CUDA_Init",)),
    # vendor-neutral, shipped beside the driver: libglvnd and the OpenCL loader
    _lib("libGLdispatch", "0", version="0", bits32=True),
    _lib("libOpenGL", "0", version="0", links=("libOpenGL.so",), bits32=True),
    _lib("libGLX", "0", version="0", links=("libGLX.so",), bits32=True),
    _lib("libGL", "1", version="1.7.0", links=("libGL.so",), bits32=True),
    _lib("libEGL", "1", version="1.1.0", links=("libEGL.so",), bits32=True),
    _lib("libGLESv1_CM", "1", version="1.2.0", links=("libGLESv1_CM.so",), bits32=True),
    _lib("libGLESv2", "2", version="2.1.0", links=("libGLESv2.so",), bits32=True),
    _lib("libOpenCL", "1", version="1.0.0", links=("libOpenCL.so",), bits32=True),
    # of nvidia-settings: no capability brings it
    _lib("libnvidia-gtk3"),
)

X_MODULES: Final = ("nvidia_drv.so", "libglxserver_nvidia.so.{version}")

PROGRAMS: Final = (
    "nv-fabricmanager",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-debugdump",
    "nvidia-imex",
    "nvidia-imex-ctl",
    "nvidia-modprobe",
    "nvidia-ngx-updater",
    "nvidia-persistenced",
    "nvidia-settings",
    "nvidia-xconfig",
)

MPS_PROGRAMS: Final = ("nvidia-cuda-mps-control", "nvidia-cuda-mps-server")  # built from C, too

FIRMWARE: Final = ("gsp_ga10x.bin", "gsp_tu10x.bin")

SOCKETS: Final = ("nvidia-persistenced/socket", "nvidia-fabricmanager/socket")  # below /run

"""The texts of the data files that a simulated driver has: what loaders read to find a library."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


def icd(library: str) -> str:
    """Return the JSON by which libglvnd and the EGL loader find a library."""
    return (
        f'{{\n    "file_format_version" : "1.0.0",\n    "ICD" : {{\n        "library_path" : "{library}"\n    }}\n}}\n'
    )


VULKAN_ICD: Final = """{
    "file_format_version" : "1.0.1",
    "ICD": {
        "library_path": "libGLX_nvidia.so.0",
        "api_version" : "1.4.312"
    }
}
"""
VULKAN_LAYERS: Final = """{
    "file_format_version" : "1.0.0",
    "layer": {
        "name": "VK_LAYER_NV_optimus",
        "type": "INSTANCE",
        "library_path": "libGLX_nvidia.so.0",
        "api_version" : "1.4.312",
        "implementation_version" : "1",
        "description" : "NVIDIA Optimus layer",
        "functions": {
            "vkGetInstanceProcAddr": "vk_optimusGetInstanceProcAddr",
            "vkGetDeviceProcAddr": "vk_optimusGetDeviceProcAddr"
        },
        "enable_environment": { "__NV_PRIME_RENDER_OFFLOAD": "1" },
        "disable_environment": { "DISABLE_LAYER_NV_OPTIMUS_1": "" }
    }
}
"""
CUFILE: Final = '{ "properties": { "allow_compat_mode": true } }\n'  # what GPUDirect Storage reads
X_OUTPUT_CLASS: Final = """Section "OutputClass"
    Identifier     "nvidia"
    MatchDriver    "nvidia-drm"
    Driver         "nvidia"
EndSection
"""
PLATFORMS: Final = {  # file below egl/egl_external_platform.d → its library
    "09_nvidia_wayland2.json": "libnvidia-egl-wayland2.so.1",
    "10_nvidia_wayland.json": "libnvidia-egl-wayland.so.1",
    "15_nvidia_gbm.json": "libnvidia-egl-gbm.so.1",
    "20_nvidia_xcb.json": "libnvidia-egl-xcb.so.1",
    "20_nvidia_xlib.json": "libnvidia-egl-xlib.so.1",
}


def data_files(version: str) -> dict[str, str]:
    """Return path below the directory of data → text."""
    profile = '{ "rules": [], "profiles": [] }\n'
    return {
        "nvidia/nvoptix.bin": "simulated OptiX data\n",
        f"nvidia/nvidia-application-profiles-{version}-rc": profile,
        f"nvidia/nvidia-application-profiles-{version}-key-documentation": profile,
    }

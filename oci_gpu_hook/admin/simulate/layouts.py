"""Where distributions put a driver's files."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


class Layout(Record):
    """Directories below the driver root, without a leading slash.

    x_driver, x_extensions: below `libraries`. vulkan_icd: file below share/vulkan/icd.d. library_links: a directory of
    the system with links to all libraries, "" for none. firmware_class_path: the kernel's parameter, where firmware is
    not below /lib/firmware. symlinks: (path, target) of the system around the driver. search_paths: what config.toml
    has to name, as the ld cache lists none of the libraries; () where it does.
    """

    libraries: str
    libraries32: str
    programs: str
    share: str
    firmware: str
    x_driver: str
    x_extensions: str
    vulkan_icd: str = "nvidia_icd.json"
    x_output_class: str
    library_links: str = ""
    firmware_class_path: str = ""
    symlinks: tuple[tuple[str, str], ...] = ()
    search_paths: tuple[str, ...] = ()


DEFAULT_LAYOUT: Final = "debian"
LAYOUTS: Final = ("debian", "lib64", "usr-local-nvidia", "own-prefix")
_MERGED_USR: Final = (("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"))


def layout_named(name: str, machine: str) -> Layout:
    """Return one of LAYOUTS for a machine, `x86_64` or `aarch64`."""
    triplet = f"{machine}-linux-gnu"
    if name == "debian":  # as Ubuntu's and NVIDIA's packages for Debian lay it out
        return Layout(
            libraries=f"usr/lib/{triplet}",
            libraries32="usr/lib/i386-linux-gnu",
            programs="usr/bin",
            share="usr/share",
            firmware="usr/lib/firmware/nvidia",
            x_driver="nvidia/xorg",
            x_extensions="nvidia/xorg",
            x_output_class="10-nvidia.conf",
            symlinks=_MERGED_USR,
        )
    if name == "lib64":  # as RPM distributions and the .run installer on them lay it out
        return Layout(
            libraries="usr/lib64",
            libraries32="usr/lib",
            programs="usr/bin",
            share="usr/share",
            firmware="usr/lib/firmware/nvidia",
            x_driver="xorg/modules/drivers",
            x_extensions="xorg/modules/extensions",
            vulkan_icd=f"nvidia_icd.{machine}.json",
            x_output_class="nvidia-drm-outputclass.conf",
            symlinks=_MERGED_USR,
        )
    if name == "own-prefix":  # as Container-Optimized OS has it: a tree of its own, of which ldconfig knows nothing
        prefix = "home/kubernetes/bin/nvidia"
        return Layout(
            libraries=f"{prefix}/lib64",
            libraries32=f"{prefix}/lib",
            programs=f"{prefix}/bin",
            share=f"{prefix}/share",
            firmware=f"{prefix}/firmware/nvidia",
            firmware_class_path=f"/{prefix}/firmware",
            x_driver="xorg/modules/drivers",
            x_extensions="xorg/modules/extensions",
            x_output_class="nvidia-drm-outputclass.conf",
            symlinks=_MERGED_USR,
            search_paths=(f"/{prefix}/lib64",),
        )
    return Layout(  # as clouds install it beside a read-only system: one directory, links in the system's own
        libraries="usr/local/nvidia/lib64",
        libraries32="usr/local/nvidia/lib",
        programs="usr/local/nvidia/bin",
        share="usr/local/nvidia/share",
        firmware="usr/local/nvidia/firmware/nvidia",
        firmware_class_path="/usr/local/nvidia/firmware",
        x_driver="xorg/modules/drivers",
        x_extensions="xorg/modules/extensions",
        x_output_class="nvidia-drm-outputclass.conf",
        library_links=f"usr/lib/{triplet}",
        symlinks=(*_MERGED_USR, ("usr/bin/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi")),
    )

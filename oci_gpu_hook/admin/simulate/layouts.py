"""Where distributions put a driver's files: a table, each row with its source.

docs/platforms.md has the same table in words; tests/data/nvidia/layouts.json says of each layout what must be found.
"""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final


class Layout(Record):
    """Directories below the driver root, without a leading slash.

    libraries32, firmware: "" for none. x_driver, x_extensions: "" for those of X below `libraries`. configuration: with
    OpenCL/vendors. data: with `nvidia`, "" for `share`. vulkan: with icd.d, "" for share/vulkan; vulkan_icd: file in
    icd.d. vulkan_path, egl_path: where the ICD files say that the libraries are, with a leading slash; "" for names
    alone. lacks: of OpenCL, EGL, Vulkan and X, what there are no files for. library_links: a directory of the system
    with links to all libraries, "" for none. alternatives: the directory below `nvidia` of the libraries that these
    links reach through /etc/alternatives, "" for links straight to them. original_programs: the directory of programs
    that those in `programs`, which need their own loader, were made from, "" for none. farm: a directory with
    `lib`, `share` and `etc` full of links to everything, "" for none. root: where the driver
    root is below the directory for it. ld_cache: the directory of the ld cache, "" for none. firmware_class_path: the
    kernel's parameter, where firmware is not below /lib/firmware. symlinks: (path, target) of the system around the
    driver. search_paths: what config.toml has to name, as the ld cache lists none of the libraries; () where it does.
    listed: whether the ld cache lists the libraries.
    """

    libraries: str
    libraries32: str
    programs: str
    share: str
    firmware: str
    x_driver: str = ""
    x_extensions: str = ""
    configuration: str = "etc"
    data: str = ""
    vulkan: str = ""
    vulkan_icd: str = "nvidia_icd.json"
    vulkan_path: str = ""
    egl_path: str = ""
    lacks: tuple[str, ...] = ()
    x_output_class: str = "nvidia-drm-outputclass.conf"
    library_links: str = ""
    alternatives: str = ""
    original_programs: str = ""
    farm: str = ""
    root: str = ""
    ld_cache: str = "etc"
    firmware_class_path: str = ""
    symlinks: tuple[tuple[str, str], ...] = ()
    search_paths: tuple[str, ...] = ()
    listed: bool = True


DEFAULT_LAYOUT: Final = "debian"
_MERGED_USR: Final = (("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"))
_FIRMWARE: Final = "usr/lib/firmware/nvidia"
OPENCL, EGL, VULKAN, X = "OpenCL", "EGL", "Vulkan", "X"


def layout_named(name: str, machine: str) -> Layout:
    """Return one of LAYOUTS for a machine, `x86_64` or `aarch64`."""
    return _TABLE[name](machine)


def _debian(machine: str) -> Layout:
    """Ubuntu's and NVIDIA's packages for Debian: NVIDIA/ubuntu-packaging-nvidia-driver, debian/templates."""
    return Layout(
        libraries=f"usr/lib/{machine}-linux-gnu",
        libraries32="usr/lib/i386-linux-gnu",
        programs="usr/bin",
        share="usr/share",
        firmware=_FIRMWARE,
        x_driver=f"usr/lib/{machine}-linux-gnu/nvidia/xorg",
        x_extensions=f"usr/lib/{machine}-linux-gnu/nvidia/xorg",
        x_output_class="10-nvidia.conf",
        symlinks=_MERGED_USR,
    )


def _debian_alternatives(machine: str, branch: str = "current") -> Layout:
    """Debian's own packages: file list in tests/data/driver-files/debian-535.txt; links through /etc/alternatives."""
    links = f"usr/lib/{machine}-linux-gnu"
    return _debian(machine).replace(
        libraries=f"{links}/nvidia/{branch}",
        programs=f"usr/lib/nvidia/{branch}",
        library_links=links,
        alternatives=branch,
        x_driver=f"usr/lib/nvidia/{branch}",
        x_extensions=f"usr/lib/nvidia/{branch}",
    )


def _debian_tesla(machine: str) -> Layout:
    """Debian's tesla branches, which lie beside `current`: contents of nvidia-tesla-535-* 535.274.02-3."""
    return _debian_alternatives(machine, "tesla-535")


def _lib64(machine: str) -> Layout:
    """RPM distributions: RPM Fusion's file list in tests/data/driver-files/fedora-580.txt."""
    return Layout(
        libraries="usr/lib64",
        libraries32="usr/lib",
        programs="usr/bin",
        share="usr/share",
        firmware=_FIRMWARE,
        vulkan_icd=f"nvidia_icd.{machine}.json",
        symlinks=_MERGED_USR,
    )


def _opensuse(machine: str) -> Layout:
    """nvidia-video-G06 and its like: openSUSE/nvidia-driver-G06, nvidia-video-G06.spec."""
    return _lib64(machine).replace(firmware="lib/firmware/nvidia", vulkan_path="/usr/lib64/", symlinks=_MERGED_USR)


def _arch(_machine: str) -> Layout:
    """nvidia-utils and lib32-nvidia-utils of Arch Linux: their PKGBUILD, of 580 in CachyOS/CachyOS-PKGBUILDS."""
    return Layout(
        libraries="usr/lib",
        libraries32="usr/lib32",
        programs="usr/bin",
        share="usr/share",
        firmware=_FIRMWARE,
        x_extensions="usr/lib/nvidia/xorg",
        x_output_class="10-nvidia-drm-outputclass.conf",
        symlinks=(("bin", "usr/bin"), ("sbin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib")),
    )


def _run(machine: str) -> Layout:
    """NVIDIA's .run installer on Debian: NVIDIA/nvidia-installer, files.c, set_destinations; its options' defaults."""
    return _debian(machine).replace(firmware="lib/firmware/nvidia", vulkan="etc/vulkan", x_driver="", x_extensions="")


def _usr_local_nvidia(machine: str) -> Layout:
    """Clouds that install beside a read-only system: one directory, links in the system's own."""
    return Layout(
        libraries="usr/local/nvidia/lib64",
        libraries32="usr/local/nvidia/lib",
        programs="usr/local/nvidia/bin",
        share="usr/local/nvidia/share",
        firmware="usr/local/nvidia/firmware/nvidia",
        firmware_class_path="/usr/local/nvidia/firmware",
        library_links=f"usr/lib/{machine}-linux-gnu",
        symlinks=(*_MERGED_USR, ("usr/bin/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi")),
    )


def _cos(_machine: str) -> Layout:
    """Container-Optimized OS of GKE, with what its installer keeps of a .run installation.

    GoogleCloudPlatform/container-engine-accelerators, nvidia-driver-installer/cos (NVIDIA_INSTALL_DIR_HOST,
    VULKAN_ICD_DIR_HOST), and cos/tools, src/cmd/cos_gpu_installer/internal/installer: the files for EGL and OpenCL go
    to directories of the installer's own root, and its ld cache is updated, not the host's.
    """
    prefix = "home/kubernetes/bin/nvidia"
    return Layout(
        libraries=f"{prefix}/lib64",
        libraries32="",
        programs=f"{prefix}/bin",
        share=f"{prefix}/share",
        firmware=f"{prefix}/firmware/nvidia",
        firmware_class_path=f"/{prefix}/firmware",
        vulkan=f"{prefix}/vulkan",
        lacks=(OPENCL, EGL),
        symlinks=_MERGED_USR,
        listed=False,
    )


def _own_prefix(machine: str) -> Layout:
    """Clouds with a separate tree for the driver, of which ldconfig knows nothing and config.toml does."""
    layout = _cos(machine)
    prefix = layout.libraries.rpartition("/")[0]
    return layout.replace(vulkan="", lacks=(), libraries32=f"{prefix}/lib", search_paths=(f"/{layout.libraries}",))


def _bottlerocket(_machine: str) -> Layout:
    """bottlerocket-os/bottlerocket-kernel-kit, packages/kmod-6.12-nvidia-r580: its ld.so.conf.d lists the libraries.

    Neither OpenCL's ICD nor a module for X is in it. The programs have links in /usr/libexec/nvidia/tesla/bin.
    """
    return Layout(
        libraries="usr/lib/nvidia/tesla",
        libraries32="",
        programs="usr/bin",
        share="usr/share",
        firmware=_FIRMWARE,
        lacks=(OPENCL, X),
        symlinks=(*_MERGED_USR, ("usr/libexec/nvidia/tesla/bin/nvidia-smi", "../../../../bin/nvidia-smi")),
    )


def _flatcar(_machine: str) -> Layout:
    """flatcar/scripts, x11-drivers/nvidia-drivers-service, setup-nvidia: libraries and programs of a .run file."""
    return Layout(
        libraries="opt/nvidia/580.159.04/6.12.1-flatcar/usr/lib64",
        libraries32="",
        programs="opt/bin",
        share="usr/share",
        firmware="",
        lacks=(OPENCL, EGL, VULKAN, X),
        symlinks=(*_MERGED_USR, ("opt/nvidia/current", "580.159.04/6.12.1-flatcar")),
    )


def _talos(_machine: str) -> Layout:
    """siderolabs/extensions, nvidia-container-toolkit/nvidia-pkgs, release-1.13: below /usr/local, no OpenCL."""
    prefix = "usr/local"
    return Layout(
        libraries=f"{prefix}/lib",
        libraries32="",
        programs=f"{prefix}/bin",
        share="usr/share",
        data=f"{prefix}/share",
        firmware=_FIRMWARE,
        vulkan="etc/vulkan",
        lacks=(OPENCL,),
        ld_cache="",
        symlinks=(*_MERGED_USR, ("usr/bin/nvidia-smi", "/usr/local/bin/nvidia-smi")),
    )


def _nixos(machine: str) -> Layout:
    """nixpkgs, nixos/modules/hardware/graphics.nix and pkgs/os-specific/linux/nvidia-x11/builder.sh.

    A store with a directory for the libraries, another for the programs, links to the first in /run/opengl-driver and
    to the others in the system's profile, and no ld cache. The ICD files name the libraries in the store.
    """
    store = "nix/store/0123456789abcdfghijklmnpqrsvwxyz-nvidia-x11-580.159.04"
    return Layout(
        libraries=f"{store}/lib",
        libraries32="",
        programs=f"{store}-bin/bin",
        original_programs=f"{store}-bin/origBin",
        share=f"{store}/share",
        firmware="run/current-system/firmware/nvidia",
        firmware_class_path="/run/current-system/firmware",
        configuration=f"{store}/etc",
        vulkan_icd=f"nvidia_icd.{machine}.json",
        vulkan_path=f"/{store}/lib/",
        egl_path=f"/{store}/lib/",
        x_driver=f"{store}-bin/lib/xorg/modules/drivers",
        x_extensions=f"{store}-bin/lib/xorg/modules/extensions",
        farm="run/opengl-driver",
        ld_cache="",
        symlinks=(("run/current-system/sw/bin/nvidia-smi", f"/{store}-bin/bin/nvidia-smi"),),
    )


def _driver_container(machine: str) -> Layout:
    """NVIDIA's GPU Operator: a driver container, an Ubuntu with a .run file, at /run/nvidia/driver of the host.

    NVIDIA/gpu-driver-container, ubuntu24.04/nvidia-driver: nothing for X, and the kernel is told where the firmware is.
    """
    root = "run/nvidia/driver"
    return _run(machine).replace(root=root, lacks=(X,), firmware_class_path=f"/{root}/lib/firmware")


_TABLE: Final[Mapping[str, Callable[[str], Layout]]] = {
    "debian": _debian,
    "debian-alternatives": _debian_alternatives,
    "debian-tesla": _debian_tesla,
    "lib64": _lib64,
    "opensuse": _opensuse,
    "arch": _arch,
    "run": _run,
    "usr-local-nvidia": _usr_local_nvidia,
    "own-prefix": _own_prefix,
    "cos": _cos,
    "bottlerocket": _bottlerocket,
    "flatcar": _flatcar,
    "talos": _talos,
    "nixos": _nixos,
    "driver-container": _driver_container,
}
LAYOUTS: Final = tuple(_TABLE)

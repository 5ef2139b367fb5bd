"""Makes the driver root: every file of a driver, for all capabilities, and the ld cache that ldconfig writes of it."""

from __future__ import annotations

import os
import struct

from oci_gpu_hook.admin.simulate import driver_files, driver_texts
from oci_gpu_hook.admin.simulate.elf import shared_object
from oci_gpu_hook.admin.simulate.elf_parts import Note
from oci_gpu_hook.admin.simulate.layouts import EGL, OPENCL, VULKAN, X
from oci_gpu_hook.admin.simulate.tree import Tree
from oci_gpu_hook.base.errors import SimulationError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from oci_gpu_hook.admin.simulate.driver_files import Driver, SharedObject
    from oci_gpu_hook.admin.simulate.layouts import Layout

LDCONFIG: Final = ("/sbin/ldconfig.real", "/sbin/ldconfig", "/usr/sbin/ldconfig", "/usr/bin/ldconfig")
# libnvidia-tls bears this note; NVIDIA's tools know the right build of it by kernel 2.3.99.
_OF_BRANCH: Final = ("nvidia-smi", "nvidia-debugdump")  # what Debian has one of for each branch of the driver
_OWN_LOADER: Final = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-glibc-2.40/lib/ld-linux-x86-64.so.2"
TLS_ABI_TAG: Final = Note(section=".note.ABI-tag", owner="GNU", type=1, description=struct.pack("<4I", 0, 2, 3, 99))


def make_driver_root(root: str, driver: Driver, layout: Layout, compiled: Mapping[str, bytes]) -> None:
    """Fill the directory `root`.

    compiled: images built from C: libraries by their stems, `mps`, and `nvidia-smi`, which serves for other programs.
    Raises SimulationError when ldconfig is missing or fails; OSError.
    """
    tree = Tree(root=root)
    for directory in ("usr/bin", "usr/sbin", "usr/lib", "run", "tmp", layout.libraries):
        tree.directory(directory)
    for path, target in (*layout.symlinks, ("var/run", "../run")):
        tree.link(path, target)
    _libraries(tree, driver, layout, compiled)
    _programs(tree, driver, layout, compiled)
    _firmware_and_configuration(tree, driver, layout)
    if layout.farm:
        _farm(tree, layout)
    for socket in driver_files.SOCKETS:
        tree.socket(f"run/{socket}")
    _ld_cache(tree, layout)


def _libraries(tree: Tree, driver: Driver, layout: Layout, compiled: Mapping[str, bytes]) -> None:
    libraries = driver.libraries()
    for library in libraries.values():
        image = compiled.get(library.stem) or _image(driver, library, driver.machine)
        _install(tree, layout.libraries, driver, library, image)
        if library.bits32 and driver.machine == "x86_64" and layout.libraries32:
            _install(tree, layout.libraries32, driver, library, _image(driver, library, "i386"))
        if layout.library_links and not library.directory:
            for name in filter(None, dict.fromkeys((driver.soname(library), driver.file_name(library)))):
                _system_link(tree, layout, name)
    tree.link(f"{layout.libraries}/gbm/nvidia-drm_gbm.so", "../libnvidia-allocator.so.1")
    if X not in layout.lacks:
        _modules(tree, driver, layout)


def _programs(tree: Tree, driver: Driver, layout: Layout, compiled: Mapping[str, bytes]) -> None:
    for name in ("nvidia-smi", *driver_files.PROGRAMS):
        image = compiled["mps" if name in driver_files.MPS_PROGRAMS else "nvidia-smi"]
        apart = layout.alternatives and name not in _OF_BRANCH
        if layout.original_programs:
            tree.write(f"{layout.original_programs}/{name}", image, 0o755)
            image = shared_object(driver.machine, interpreter=_OWN_LOADER)
        tree.write(f"{'usr/bin' if apart else layout.programs}/{name}", image, 0o755)
    for name in _OF_BRANCH if layout.alternatives else ():
        _alternative(tree, f"usr/bin/{name}", f"nvidia--{name}", f"{layout.programs}/{name}")


def _system_link(tree: Tree, layout: Layout, name: str) -> None:
    """Link a library's name in the system's directory to the driver's own."""
    path, target = f"{layout.library_links}/{name}", f"{layout.libraries}/{name}"
    if layout.alternatives:
        _alternative(tree, path, f"nvidia--{name}-{layout.library_links.rpartition('/')[2]}", target)
    else:
        tree.link(path, f"/{target}")


def _alternative(tree: Tree, path: str, name: str, target: str) -> None:
    """Link a path as Debian does, whose administrator may choose among packages of one name."""
    tree.link(f"etc/alternatives/{name}", f"/{target}")
    tree.link(path, f"/etc/alternatives/{name}")


def _farm(tree: Tree, layout: Layout) -> None:
    """Link everything below `lib`, `share` and `etc` of the driver into one directory, files one by one."""
    for name, source in (("lib", layout.libraries), ("share", layout.share), ("etc", layout.configuration)):
        top = os.path.join(tree.root, source)
        for directory, _, files in os.walk(top):
            below = os.path.relpath(directory, top)
            for file in files:
                path = os.path.normpath(f"{name}/{below}/{file}")
                tree.link(f"{layout.farm}/{path}", f"/{os.path.normpath(f'{source}/{below}/{file}')}")


def _modules(tree: Tree, driver: Driver, layout: Layout) -> None:
    x_driver, x_extension = (name.format(version=driver.version) for name in driver_files.X_MODULES)
    module = shared_object(driver.machine, needed=("libc.so.6",), exports=("nvidiaModuleData",))
    drivers = layout.x_driver or f"{layout.libraries}/xorg/modules/drivers"
    extensions = layout.x_extensions or f"{layout.libraries}/xorg/modules/extensions"
    tree.write(f"{drivers}/{x_driver}", module, 0o755)
    tree.write(f"{extensions}/{x_extension}", module, 0o755)
    tree.link(f"{extensions}/libglxserver_nvidia.so", x_extension)
    output_class = f"{layout.share}/X11/xorg.conf.d/{layout.x_output_class}"
    if layout.alternatives:
        output_class = f"etc/nvidia/{layout.alternatives}/nvidia-drm-outputclass.conf"
        for name in (x_driver, "libglxserver_nvidia.so"):
            _alternative(tree, f"usr/lib/nvidia/{name}", f"nvidia--{name}", f"{drivers}/{name}")
        name = os.path.basename(output_class)
        _alternative(tree, f"etc/nvidia/{name}", f"nvidia--{name}", output_class)
    tree.write(output_class, driver_texts.X_OUTPUT_CLASS)


def _image(driver: Driver, library: SharedObject, machine: str) -> bytes:
    libraries = driver.libraries()
    return shared_object(
        machine,
        driver.soname(library),
        needed=(*(driver.soname(libraries[stem]) for stem in library.needed), "libc.so.6"),
        exports=library.exports,
        notes=(TLS_ABI_TAG,) if library.stem == "libnvidia-tls" else (),
    )


def _install(tree: Tree, libraries: str, driver: Driver, library: SharedObject, image: bytes) -> None:
    directory = os.path.join(libraries, library.directory)
    name, soname = driver.file_name(library), driver.soname(library)
    tree.write(f"{directory}/{name}", image, 0o755)
    if soname not in ("", name):
        tree.link(f"{directory}/{soname}", name)
    for link in library.links:
        tree.link(f"{directory}/{link}", soname or name)


def _firmware_and_configuration(tree: Tree, driver: Driver, layout: Layout) -> None:
    for name in driver_files.FIRMWARE if layout.firmware else ():
        tree.write(f"{layout.firmware}/{driver.version}/{name}", shared_object("riscv64"))  # a GSP is a RISC-V core
    if OPENCL not in layout.lacks:
        text = f"{layout.egl_path}libnvidia-opencl.so.1\n"
        tree.write(f"{layout.configuration}/OpenCL/vendors/nvidia.icd", text)
    tree.write("etc/cufile.json", driver_texts.CUFILE)
    tree.directory("run/udev/data")
    _drawing(tree, driver, layout)


def _drawing(tree: Tree, driver: Driver, layout: Layout) -> None:
    """Write what EGL, Vulkan and programs that draw read."""
    for name, text in driver_texts.data_files(driver.version).items() if VULKAN not in layout.lacks else ():
        tree.write(f"{layout.data or layout.share}/{name}", text)
    available = {driver.soname(library) for library in driver.libraries().values()}
    for name, soname in driver_texts.PLATFORMS.items() if EGL not in layout.lacks else ():
        if soname in available:
            text = driver_texts.icd(layout.egl_path + soname)
            tree.write(f"{layout.share}/egl/egl_external_platform.d/{name}", text)
    if EGL not in layout.lacks:
        text = driver_texts.icd(f"{layout.egl_path}libEGL_nvidia.so.0")
        tree.write(f"{layout.share}/glvnd/egl_vendor.d/10_nvidia.json", text)
    if VULKAN not in layout.lacks:
        _vulkan(tree, available, layout)


def _vulkan(tree: Tree, available: set[str], layout: Layout) -> None:
    directory = layout.vulkan or f"{layout.share}/vulkan"
    library = "libGLX_nvidia.so.0"
    icd = driver_texts.VULKAN_ICD.replace(library, layout.vulkan_path + library)
    tree.write(f"{directory}/icd.d/{layout.vulkan_icd}", icd)
    tree.write(f"{directory}/implicit_layer.d/nvidia_layers.json", driver_texts.VULKAN_LAYERS)
    if "libnvidia-vksc-core.so.1" in available:
        name = layout.vulkan_icd.replace("nvidia_icd", "nvidia_icd_vksc")
        icd = icd.replace(library, "libnvidia-vksc-core.so.1")
        tree.write(f"{layout.share}/vulkansc/icd.d/{name}", icd)


def _ld_cache(tree: Tree, layout: Layout) -> None:
    """Have the real ldconfig write etc/ld.so.cache."""
    import subprocess

    if not layout.ld_cache:
        return
    listed = (layout.library_links, layout.libraries, layout.libraries32) if layout.listed else ("usr/lib64",)
    directories = dict.fromkeys(filter(None, listed))
    tree.write("etc/ld.so.conf", "".join(f"/{directory}\n" for directory in directories))
    ldconfig = next((path for path in LDCONFIG if os.access(path, os.X_OK)), None)
    if ldconfig is None:
        raise SimulationError("ld cache", "ldconfig is not installed", "install glibc's (Debian: libc-bin)", "OGH2003")
    # -X: the links are ours. The locale decides nothing but the wording of what it complains about.
    run = subprocess.run(
        [ldconfig, "-X", "-r", tree.root], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    )
    if run.returncode or not os.path.exists(os.path.join(tree.root, "etc/ld.so.cache")):
        why = one_line(run.stderr.strip().split("\n")[-1] if run.stderr.strip() else f"exit status {run.returncode}")
        raise SimulationError("ld cache", f"{ldconfig}: {why}", "a simulated host needs glibc's ldconfig", "OGH2003")

"""Makes the driver root: every file of a driver, for all capabilities, and the ld cache that ldconfig writes of it."""

from __future__ import annotations

import os
import struct

from oci_gpu_hook.admin.simulate import driver_files, driver_texts
from oci_gpu_hook.admin.simulate.elf import shared_object
from oci_gpu_hook.admin.simulate.elf_parts import Note
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
    for name in ("nvidia-smi", *driver_files.PROGRAMS):
        image = "mps" if name in driver_files.MPS_PROGRAMS else "nvidia-smi"
        tree.write(f"{layout.programs}/{name}", compiled[image], 0o755)
    if layout.alternatives:
        _alternative(tree, "usr/bin/nvidia-smi", "nvidia--nvidia-smi", f"{layout.programs}/nvidia-smi")
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
    if layout.draws:
        _modules(tree, driver, layout)


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
    """Link everything below `lib` and `share` of the driver into one directory, files one by one."""
    for name, source in (("lib", layout.libraries), ("share", layout.share)):
        top = os.path.join(tree.root, source)
        for directory, _, files in os.walk(top):
            below = os.path.relpath(directory, top)
            for file in files:
                path = os.path.normpath(f"{name}/{below}/{file}")
                tree.link(f"{layout.farm}/{path}", f"/{os.path.normpath(f'{source}/{below}/{file}')}")


def _modules(tree: Tree, driver: Driver, layout: Layout) -> None:
    tree.link(f"{layout.libraries}/gbm/nvidia-drm_gbm.so", "../libnvidia-allocator.so.1")
    x_driver, x_extension = (name.format(version=driver.version) for name in driver_files.X_MODULES)
    module = shared_object(driver.machine, needed=("libc.so.6",), exports=("nvidiaModuleData",))
    tree.write(f"{layout.libraries}/{layout.x_driver}/{x_driver}", module, 0o755)
    tree.write(f"{layout.libraries}/{layout.x_extensions}/{x_extension}", module, 0o755)
    tree.link(f"{layout.libraries}/{layout.x_extensions}/libglxserver_nvidia.so", x_extension)


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
    tree.write(f"{layout.configuration}/OpenCL/vendors/nvidia.icd", "libnvidia-opencl.so.1\n")
    tree.write("etc/cufile.json", driver_texts.CUFILE)
    tree.directory("run/udev/data")
    if layout.draws:
        _drawing(tree, driver, layout)


def _drawing(tree: Tree, driver: Driver, layout: Layout) -> None:
    """Write what EGL, Vulkan and the X server read."""
    vulkan = layout.vulkan or f"{layout.share}/vulkan"
    for name, text in driver_texts.shared_files(driver.version).items():
        place = vulkan if name.startswith("vulkan/") else layout.share
        tree.write(f"{place}/{name.removeprefix('vulkan/') if place == vulkan else name}", text)
    available = {driver.soname(library) for library in driver.libraries().values()}
    for name, soname in driver_texts.PLATFORMS.items():
        if soname in available:
            tree.write(f"{layout.share}/egl/egl_external_platform.d/{name}", driver_texts.icd(soname))
    tree.write(f"{vulkan}/icd.d/{layout.vulkan_icd}", driver_texts.VULKAN_ICD)
    if "libnvidia-vksc-core.so.1" in available:
        name = layout.vulkan_icd.replace("nvidia_icd", "nvidia_icd_vksc")
        icd = driver_texts.VULKAN_ICD.replace("libGLX_nvidia.so.0", "libnvidia-vksc-core.so.1")
        tree.write(f"{layout.share}/vulkansc/icd.d/{name}", icd)
    tree.write(f"{layout.share}/X11/xorg.conf.d/{layout.x_output_class}", driver_texts.X_OUTPUT_CLASS)


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

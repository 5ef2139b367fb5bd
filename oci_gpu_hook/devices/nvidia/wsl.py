"""Finds the GPUs of WSL 2 and the files of Windows' driver, as NVIDIA's container toolkit takes them.

Source: nvidia-container-toolkit, pkg/nvcdi/driver-wsl.go and internal/dxcore: of the adapters that libdxcore lists, the
driver store that has libcuda.so.1.1; from it every library, *.bin, *.dll and nvidia-smi, at the same path in the
container since the loaders look there; libdxcore.so of /usr/lib/wsl/lib; both directories in the ld cache; /dev/dxg.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import DriverError, HookError, quoted
from oci_gpu_hook.devices.nvidia import essentials, facts, libraries, platforms
from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot
from oci_gpu_hook.devices.nvidia.model import Basis, DriverFile, Gpu, Inventory, Library, Link, Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config

STORES: Final = "/usr/lib/wsl/drivers"
LIBRARIES: Final = "/usr/lib/wsl/lib"
_DXCORE: Final = "libdxcore.so"
_PROBE: Final = os.path.join(os.path.dirname(__file__), "dxcore_probe.py")
_OF_STORE: Final = "libcuda.so.1.1"
_PROGRAM: Final = "nvidia-smi"
_DATA: Final = (".bin", ".dll")
_REMEDY: Final = "install NVIDIA's driver for WSL in Windows; nvidia-smi must work in WSL first (/usr/lib/wsl/lib)"


def discover(config: Config) -> Snapshot:
    """Return what the host has. Raises DriverError if Windows has no NVIDIA driver for WSL."""
    root = DriverRoot(config.driver_root)
    store = _store(root)
    found = [*_libraries(root, store), *_libraries(root, LIBRARIES, (_DXCORE,))]
    files = tuple(_files(root, store, {library.name for library in found}))
    links = tuple(
        Link(path=f"/usr/bin/{_PROGRAM}", target=file.container_path, capabilities=())
        for file in files
        if file.container_path == f"{store}/{_PROGRAM}"
    )
    lacking = [(names, text) for names, text in essentials.lacking(found, files, ()) if essentials.NOTHING in text]
    inventory = Inventory(
        driver_version="",
        gpus=(Gpu(index=0, uuid="", minor=-1, bus_id="", nodes=(platforms.DXG,)),),
        libraries=tuple(found),
        files=files,
        links=links,
        nodes=(),
        platform=platforms.WSL,
        lacking=tuple(lacking),
    )
    watched = [root.host_path(path) for path in (STORES, store, LIBRARIES)]
    present = [config.dev_root.rstrip("/") + platforms.DXG]
    candidates = {"of_capabilities": (), "of_gpus": [platforms.DXG], "of_displays": (), "of_mig": (), "of_imex": ()}
    gathered = facts.gather(config, [-1], watched, present)
    return Snapshot(
        inventory=inventory, basis=Basis(candidates=candidates, watched=watched, present=present, facts=gathered)
    )


def _store(root: DriverRoot) -> str:
    """Return the driver store in use; Windows keeps those of earlier drivers."""
    paths = [f"{STORES}/{name}" for name in root.names(STORES)]
    stores = [path for path in paths if root.resolve(f"{path}/{_OF_STORE}")]
    if len(stores) > 1:
        told = [path for path in _told(root) if path in stores]
        if not told:
            which = ", ".join(quoted(path) for path in stores)
            why = f"{len(stores)} driver stores have {_OF_STORE} ({which}), and libdxcore does not tell which is in use"
            raise DriverError(
                "the driver of WSL 2", why, "run `wsl --update` and `wsl --shutdown` in Windows", "OGH1410"
            )
        stores = told
    if not stores:
        where = quoted(root.host_path(STORES))
        why = f"this is WSL 2 ({platforms.DXG}), and no driver store below {where} has {_OF_STORE}"
        raise DriverError("no NVIDIA driver", why, _REMEDY, "OGH1401")
    return stores[0]


def _told(root: DriverRoot) -> list[str]:
    """Return the driver stores of the adapters that libdxcore lists, none where it cannot be asked."""
    from oci_gpu_hook.devices.nvidia import nvml

    library = root.resolve(f"{LIBRARIES}/{_DXCORE}")
    if library is None:
        return []
    try:
        answer = nvml.ask_program(_PROBE, (root.host_path(library),))
    except HookError:
        return []
    stores = answer.get("stores")
    return [f"{path}".rstrip("/") for path in stores] if type(stores) is list else []


def _libraries(root: DriverRoot, directory: str, only: Sequence[str] = ()) -> Iterator[Library]:
    """Yield the libraries of a directory, each with the link by which ldconfig would make it known.

    Of several with one SONAME the link leads to that whose name ldconfig sorts last (glibc, elf/ldconfig.c and
    dl-cache.c, _dl_cache_libcmp): libcuda_loader.so before libcuda.so.1.1. A file of that name needs no link.
    """
    images = {}
    for name in root.names(directory):
        stem, dot_so, rest = name.partition(".so")
        path = root.resolve(f"{directory}/{name}")
        if path and stem and dot_so and rest[:1] in ("", ".") and (not only or name in only):
            host_path = root.host_path(path)
            image = libraries.image_of(host_path)
            if image is not None and image.bits == 64:
                images[name] = (host_path, image.soname)
    last: dict[str, str] = {}
    for name in sorted(images):  # "_" sorts after "." and digits, as there
        last[images[name][1]] = name
    for name, (host_path, soname) in images.items():
        links = [(soname, name)] if soname and soname not in images and last[soname] == name else []
        if soname == "libcuda.so.1" and links and "libcuda.so" not in images:
            links.append(("libcuda.so", soname))  # which programs open; NVIDIA's toolkit adds it on Linux
        yield Library(
            host_path=host_path, name=name, soname=soname, links=tuple(links), directory=directory, capabilities=()
        )


def _files(root: DriverRoot, store: str, taken: set[str]) -> Iterator[DriverFile]:
    for name in root.names(store):
        if name in taken or not (name == _PROGRAM or name.endswith(_DATA)):
            continue
        path = root.resolve(f"{store}/{name}")
        if path and os.path.dirname(path) == root.resolve(store):  # Windows makes no links; one would lead anywhere
            yield DriverFile(host_path=root.host_path(path), container_path=f"{store}/{name}", capabilities=())

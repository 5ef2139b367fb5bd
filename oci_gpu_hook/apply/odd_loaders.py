"""Warns of images whose loader will not find the driver's libraries in /etc/ld.so.cache.

The cache's path is compiled into glibc's loader. Nix and Guix compile in another path, below their stores; musl's
loader uses no cache.
"""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.oci.image import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs

# The loaders' names are part of each ABI (glibc: sysdeps/unix/sysv/linux/*/shlib-versions; musl: ld-musl-ARCH.so.1).
_MACHINES: Final = {
    "ld-linux-x86-64.so.2": "x86_64",
    "ld-linux-aarch64.so.1": "aarch64",
    "ld-linux-armhf.so.3": "arm",
    "ld-linux.so.3": "arm",
    "ld-linux.so.2": "i386",
    "ld64.so.2": "ppc64le",
    "ld64.so.1": "s390x",
    "ld-linux-riscv64-lp64d.so.1": "riscv64",
    "ld-linux-loongarch-lp64d.so.1": "loongarch64",
}
_STORES: Final = {"/nix/store": "Nix", "/gnu/store": "Guix"}
_MUSL_DEFAULT: Final = "/usr/lib"


def warning(rootfs: Rootfs, env: Sequence[str], directory: str, loader: str) -> str:
    """Return why programs of the image may not find the driver's libraries, "" if LD_LIBRARY_PATH leads to them.

    directory: where the libraries are. loader: the path of glibc's loader, which the image lacks or has replaced.
    """
    machines = sorted(set(_machines([*rootfs.names("/lib"), *rootfs.names("/lib64")])))
    if machines and MACHINE not in machines:
        if machines == ["i386"] and MACHINE == "x86_64":
            return "the image has a 32-bit loader only: its programs find only what the capability compat32 brings"
        return f"the image is made for {', '.join(machines)}, and the driver's libraries are for {MACHINE}"
    if directory in search_paths(env):
        return ""
    remedy = f"set LD_LIBRARY_PATH={directory} in the container for programs that use the driver"
    for store, who in _STORES.items():
        if rootfs.exists(store):
            return f"the image's programs are {who}'s, whose loader does not read /etc/ld.so.cache: {remedy}"
    if rootfs.exists(loader):
        return f"the image's loader {loader} does not read /etc/ld.so.cache: {remedy}"
    return f"the image has no loader {loader}: {remedy}, which static programs cannot"


def of_musl(rootfs: Rootfs, env: Sequence[str], directory: str) -> str:
    """Return why musl's loader may not find the driver's libraries in a directory, "" if it will.

    Source: musl, ldso/dynlink.c: /etc/ld-musl-ARCH.path, else /lib:/usr/local/lib:/usr/lib.
    """
    path = f"/etc/ld-musl-{MACHINE}.path"
    listed = rootfs.read(path, limits.MUSL_PATHS).decode("utf-8", "replace").replace("\n", ":").split(":")
    searched = [each for each in listed if each] or [_MUSL_DEFAULT]
    if directory in (*searched, *search_paths(env)):
        return ""
    where = f"{quoted(path)} does not list" if listed != [""] else "musl's loader does not look into"
    return f"{where} {directory}: set LD_LIBRARY_PATH={directory} in the container for programs that use the driver"


def _machines(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        if name in _MACHINES:
            yield _MACHINES[name]
        elif name.startswith("ld-musl-") and name.endswith(".so.1"):
            yield name.removeprefix("ld-musl-").removesuffix(".so.1")


def search_paths(env: Sequence[str]) -> list[str]:
    """Return the directories of LD_LIBRARY_PATH."""
    start = "LD_LIBRARY_PATH="
    values = [entry[len(start) :] for entry in env if entry.startswith(start)]
    if not values or len(values[-1]) > limits.SEARCH_PATH:
        return []
    return [path.rstrip("/") for path in values[-1].replace(";", ":").split(":")]

"""Reads from an engine's records of a container's image which environment the image brings.

config.json has a single environment, which does not show who wrote an entry. Docker (with its own image store) and
engines built on containers/storage (Podman, CRI-O) keep the image's configuration in files beside the container's root
directory. Other engines keep it in a database, so for containerd, and Docker with containerd's image store, nothing is
known. Sources: moby, daemon/container and image/fs.go; containers/storage, containers.go and images.go.
"""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.document import member, parse
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.trust import read_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.oci.container import Container

_DRIVERS: Final = ("overlay2", "overlay", "fuse-overlayfs", "btrfs", "zfs", "vfs")
_HEX: Final = frozenset("0123456789abcdef")


def image_environment(container: Container) -> tuple[str, ...] | None:
    """Return the entries NAME=VALUE that the container's image brings, None if no engine has recorded them."""
    for driver in _DRIVERS:
        store, found, _ = container.rootfs.rpartition(f"/{driver}/")
        if found:
            entries = _dockers(store, driver, container.id)
            return _of_containers_storage(store, driver, container.id) if entries is None else entries
    return None


def _dockers(store: str, driver: str, container: str) -> tuple[str, ...] | None:
    record = _read(f"{store}/containers/{container}/config.v2.json")
    image = _digest(_text(record, "Image"))
    return _environment(_read(f"{store}/image/{driver}/imagedb/content/sha256/{image}")) if image else None


def _of_containers_storage(store: str, driver: str, container: str) -> tuple[str, ...] | None:
    from binascii import b2a_base64

    for name in ("containers.json", "volatile-containers.json"):
        records = _read(f"{store}/{driver}-containers/{name}")
        for record in records if type(records) is list else ():
            image = _digest(_text(record, "image"))
            if image and _text(record, "id") == container:
                key = b2a_base64(f"sha256:{image}".encode(), newline=False).decode()
                return _environment(_read(f"{store}/{driver}-images/{image}/={key}"))
    return None


def _environment(configuration: Any) -> tuple[str, ...] | None:
    """Return the environment of an image's configuration (OCI image specification, config.md)."""
    try:
        entries = member(member(configuration, "config", dict, "image", {}), "Env", list, "image", [])
    except HookError:
        return None
    return tuple([entry for entry in entries if type(entry) is str])


def _read(path: str) -> Any:
    try:
        return parse(read_trusted(path, limits.ENGINE_RECORD), path)
    except (HookError, OSError, ValueError):
        return None


def _text(record: Any, name: str) -> str:
    found = record.get(name) if type(record) is dict else None
    return found if type(found) is str else ""


def _digest(text: str) -> str:
    """Return the digits of a SHA-256 digest, which are used as a file name; "" for any other text."""
    digits = text.removeprefix("sha256:")
    return digits if len(digits) == 64 and _HEX.issuperset(digits) else ""

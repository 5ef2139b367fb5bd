"""Reads from an engine's records what a container is called, and which environment and annotations its image brings.

config.json has a single environment and a single list of annotations, which do not show who wrote an entry. Docker
(with its own image store) and engines built on containers/storage (Podman, CRI-O) keep the image's configuration in
files beside the container's root directory. Other engines keep it in a database, so for containerd, and Docker with
containerd's image store, nothing is known. Podman alone copies annotations into config.json: those of the image's
manifest, which `--annotation` overrides. Sources: moby, daemon/container and image/fs.go; containers/storage,
containers.go and images.go; Podman, pkg/specgen/generate/container.go.
"""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.document import member, parse
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.trust import read_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

_DRIVERS: Final = ("overlay2", "overlay", "fuse-overlayfs", "btrfs", "zfs", "vfs")
_HEX: Final = frozenset("0123456789abcdef")


def image_environment(rootfs: str, container: str) -> tuple[str, ...] | None:
    """Return the entries NAME=VALUE that a container's image brings, None where no engine's record tells.

    rootfs, container: its root directory and id.
    """
    store, driver = _store_of(rootfs)
    if not driver:
        return None
    entries = _dockers(store, driver, container)
    return _of_containers_storage(store, driver, container) if entries is None else entries


def name_of(container_id: str, rootfs: str) -> str:
    """Return the name that people have given a container of Docker, Podman or CRI-O; "" if none is recorded."""
    store, driver = _store_of(rootfs)
    if not driver:  # Docker with containerd's image store has root directories at STORE/rootfs/SNAPSHOTTER/ID
        store = rootfs.rpartition("/rootfs/")[0]
    if not store:
        return ""
    record = _read(f"{store}/containers/{container_id}/config.v2.json")
    name = _text(record, "Name").lstrip("/")
    return name or (_name_in_containers_storage(store, driver, container_id) if driver else "")


def _name_in_containers_storage(store: str, driver: str, container_id: str) -> str:
    for name in ("containers.json", "volatile-containers.json"):
        records = _read(f"{store}/{driver}-containers/{name}")
        for record in records if type(records) is list else ():
            if _text(record, "id") == container_id:
                names = record.get("names")
                return next((each for each in names if type(each) is str), "") if type(names) is list else ""
    return ""


def _dockers(store: str, driver: str, container: str) -> tuple[str, ...] | None:
    record = _read(f"{store}/containers/{container}/config.v2.json")
    image = _digest(_text(record, "Image"))
    return _environment(_read(f"{store}/image/{driver}/imagedb/content/sha256/{image}")) if image else None


def image_annotations(rootfs: str, container: str) -> Mapping[str, str] | None:
    """Return the annotations that a container's image brings; None where it has an image of which nothing is known."""
    store, driver = _store_of(rootfs)
    image = _image_in_containers_storage(store, driver, container) if driver else ""
    if not image:
        return {}  # of no image, such as a rootfs, or of an engine that does not hand them on
    manifest = _read(f"{store}/{driver}-images/{image}/manifest")
    if type(manifest) is not dict:
        return None  # in a store of images that is another's
    said = manifest.get("annotations")
    return {name: text for name, text in said.items() if type(text) is str} if type(said) is dict else {}


def _store_of(rootfs: str) -> tuple[str, str]:
    """Return the directory of the store that a root directory lies in and its driver, "" where it is in none."""
    for driver in _DRIVERS:
        store, found, _ = rootfs.rpartition(f"/{driver}/")
        if found:
            return store, driver
    return "", ""


def _of_containers_storage(store: str, driver: str, container: str) -> tuple[str, ...] | None:
    from binascii import b2a_base64

    image = _image_in_containers_storage(store, driver, container)
    if not image:
        return None
    key = b2a_base64(f"sha256:{image}".encode(), newline=False).decode()
    return _environment(_read(f"{store}/{driver}-images/{image}/={key}"))


def _image_in_containers_storage(store: str, driver: str, container: str) -> str:
    """Return the digest of a container's image, "" where it has none on record."""
    for name in ("containers.json", "volatile-containers.json"):
        records = _read(f"{store}/{driver}-containers/{name}")
        for record in records if type(records) is list else ():
            image = _digest(_text(record, "image"))
            if image and _text(record, "id") == container:
                return image
    return ""


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

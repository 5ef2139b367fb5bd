"""What an agent's provisioner does: the layers of an image, unpacked once and mounted for a container."""

from __future__ import annotations

import os
import tarfile
import uuid
from pathlib import Path
from typing import Any

from tests.mesos import launch_infos, linux

AS_IT_IS: Any = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}


def provision(image: str, store: Path, provisioned: Path) -> str:
    """Unpack the layers of an image once, and mount them under a directory of the container's own; return that."""
    with tarfile.open(image) as archive:
        manifest = launch_infos.read_json(archive, "manifest.json")[0]
    layers: list[str] = []
    for number, layer in enumerate(manifest["Layers"]):
        at = store / f"{Path(image).name}-{number}"
        if not at.exists():
            _unpack(image, layer, at)
        layers.insert(0, str(at))
    name = str(uuid.uuid4())
    backend = provisioned / "backends/overlay"
    rootfs, scratch = backend / "rootfses" / name, backend / "scratch" / name
    for path in (rootfs, scratch / "upperdir", scratch / "workdir"):
        path.mkdir(parents=True)
    options = f"lowerdir={':'.join(layers)},upperdir={scratch}/upperdir,workdir={scratch}/workdir"
    linux.mount("overlay", str(rootfs), "overlay", 0, options)
    return str(rootfs)


def _unpack(image: str, layer: str, at: Path) -> None:
    unpacked = at.with_name(f"{at.name}.{os.getpid()}")  # another agent of the test may be at it, too
    unpacked.mkdir(parents=True)
    with tarfile.open(image) as archive, tarfile.open(fileobj=archive.extractfile(layer)) as files:
        files.extractall(unpacked, **AS_IT_IS)
    try:
        unpacked.rename(at)
    except OSError:  # ENOTEMPTY: the other was there first
        if not at.exists():
            raise

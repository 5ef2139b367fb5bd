"""KFD topologies and DRM devices in a directory, by the few facts that a test is about."""

from __future__ import annotations

import os
from pathlib import Path

from oci_gpu_hook.base.config.model import Config


def properties(path: Path, **said: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name} {value}\n" for name, value in said.items()))


class Machine:
    """A /sys and a /dev; nodes of DRM are FIFOs, which no container is given here."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nodes = root / "sys/class/kfd/kfd/topology/nodes"
        self.config = Config(sys_root=f"{root}/sys", dev_root=str(root), state_dir=f"{root}/state", cdi_spec_dirs=())

    def amd(self, number: int, *, render: int, location: int, domain: int = 0, card: int | None = None, **said) -> None:
        """Add node `number` of the topology, and its DRM nodes."""
        facts = {"cpu_cores_count": 0, "simd_count": 304, "unique_id": 0} | said
        properties(
            self.nodes / str(number) / "properties",
            **facts, location_id=location, domain=domain, drm_render_minor=render,
        )  # fmt: skip
        if card is not None:
            self.drm(f"devices/gpu{render}", card=card, render=render)

    def drm(self, device: str, **numbers: int) -> None:
        """Add the DRM nodes of a device below /sys."""
        names = {"card": "card", "render": "renderD"}
        for kind, number in numbers.items():
            name = f"{names[kind]}{number}"
            directory = self.root / "sys" / device / "drm" / name
            directory.mkdir(parents=True)
            (directory / "device").symlink_to("../..")
            link = self.root / "sys/class/drm" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(directory)
            node = self.root / "dev/dri" / name
            node.parent.mkdir(parents=True, exist_ok=True)
            os.mkfifo(node)  # which takes no root, as a device node does

    def pci(self, address: str, driver: str, **attributes: str) -> str:
        """Add a PCI device; return its directory below /sys."""
        device = f"devices/pci0000:00/{address}"
        for name, text in attributes.items():
            path = self.root / "sys" / device / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        for link in (f"bus/pci/devices/{address}", f"bus/pci/drivers/{driver}/{address}"):
            path = self.root / "sys" / link
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(self.root / "sys" / device)
        os.symlink(f"{self.root}/sys/bus/pci/drivers/{driver}", self.root / "sys" / device / "driver")
        return device

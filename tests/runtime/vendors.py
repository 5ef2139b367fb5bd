"""CDI specifications in the shape that three vendors' tools write, for devices that are nodes without a driver.

AMD: `amd-ctk cdi generate` (a GPU by index, /dev/kfd with each, `all`). Intel: the resource drivers of intel.com (names
by PCI address, nodes below /dev/dri). Habana: accelerators with a control node each, by index and serial number, and a
library and variables for all.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

AMD, INTEL, HABANA = "amd.com/gpu", "intel.com/gpu", "habana.ai/gaudi"
# Majors that no driver of this machine has: a node of such a number that is let through opens with ENXIO.
_KFD, _DRI, _ACCEL = 235, 226, 261


@dataclass(frozen=True)
class Vendors:
    """Specifications and nodes below a directory; `specs` is the directory for [cdi] spec-dirs."""

    directory: Path

    @property
    def specs(self) -> Path:
        return self.directory / "cdi"

    def make(self) -> None:
        """Make all three vendors' files, two devices each."""
        for name in ("cdi", "dev", "lib"):
            (self.directory / name).mkdir(mode=0o755)
        self.amd()
        self.intel()
        self.habana()

    def node(self, name: str, major: int, minor: int, *, mode: int = 0o666, kind: int = stat.S_IFCHR) -> dict:
        """Make a node on the host; return what a specification says of it as little as it may."""
        path = self.directory / "dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.mknod(path, kind | mode, os.makedev(major, minor))
            path.chmod(mode)
        return {"path": f"/dev/{name}", "hostPath": str(path)}

    def write(self, name: str, document: dict) -> Path:
        path = self.specs / name
        path.write_text(json.dumps(document))
        path.chmod(0o644)
        return path

    def amd(self) -> None:
        kfd = self.node("kfd", _KFD, 0) | {"type": "c", "major": _KFD, "minor": 0, "permissions": "rw"}
        gpus = []
        for index in range(2):
            names = ((f"dri/card{index + 1}", index + 1), (f"dri/renderD{128 + index}", 128 + index))
            nodes = [self.node(path, _DRI, minor) for path, minor in names]
            numbers = [{"type": "c", "major": _DRI, "minor": minor, "fileMode": 0o20666} for _, minor in names]
            gpus.append([node | number for node, number in zip(nodes, numbers, strict=True)])
        devices = [
            {"name": str(index), "containerEdits": {"deviceNodes": [*nodes, kfd]}} for index, nodes in enumerate(gpus)
        ]
        everything = [node for nodes in gpus for node in nodes]
        devices.append({"name": "all", "containerEdits": {"deviceNodes": [*everything, kfd]}})
        self.write("amd.json", {"cdiVersion": "0.6.0", "kind": AMD, "devices": devices})

    def intel(self) -> None:
        devices = []
        for index in range(2):
            nodes = [
                self.node(f"dri/card{index + 8}", _DRI, index + 8),
                self.node(f"dri/renderD{136 + index}", _DRI, 136 + index),
            ]
            devices.append({"name": f"0000-0{index + 3}-00-0-0x56c0", "containerEdits": {"deviceNodes": nodes}})
        self.write("intel.com-gpu.json", {"cdiVersion": "0.5.0", "kind": INTEL, "devices": devices})

    def habana(self) -> None:
        library = self.directory / "lib" / "libhl_logger.so"
        library.write_text("habana")
        devices = []
        for index in range(2):
            nodes = [
                self.node(f"accel/accel{index}", _ACCEL, index),
                self.node(f"accel/accel_controlD{index}", _ACCEL, 64 + index),
            ]
            env = [f"HABANA_{name}={index}" for name in ("MODULE",)]
            devices.append({"name": str(index), "containerEdits": {"deviceNodes": nodes, "env": env}})
            devices.append({"name": f"AC{index}-UUID", "containerEdits": {"deviceNodes": nodes}})
        edits = {
            "env": ["HABANA_LOGS=/var/log/habana_logs"],
            "mounts": [
                {
                    "hostPath": str(library),
                    "containerPath": "/usr/lib/habanalabs/libhl_logger.so",
                    "options": ["ro", "nosuid", "nodev", "bind"],
                }
            ],
        }
        document = {"cdiVersion": "0.5.0", "kind": HABANA, "devices": devices, "containerEdits": edits}
        self.write("habana.json", document)

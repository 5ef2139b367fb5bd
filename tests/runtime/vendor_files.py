"""Specifications in the shape that further vendors' tools write, and what containers that ask for their devices see.

Furiosa: libfuriosa-kubernetes (two dozen nodes a device, by path alone). Intel: the resource drivers for Kubernetes, of
Gaudi (nodes without numbers, and a device for each claim, of variables and a hook), and GPUs with links by PCI address,
which are mounts. The SR-IOV network device plugin: PCI addresses, and a node that all devices share; NVIDIA's
network operator has it write kinds of nvidia.com. Qualcomm: an accelerator and the files of its runtime.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass

from tests.runtime.vendors import Vendors, opens

_ACCEL, _DRI, _VFIO, _RNGD, _UVERBS = 261, 226, 510, 236, 231
OWN_HOOK = "#!/bin/sh\ncat > /dev/null\n"


@dataclass(frozen=True)
class File:
    """What is asked for, and what is seen: answers of the probe.

    refused: by the hook alone, where that refuses. refused_of_tasks: so for tasks of Mesos' unified containerizer.
    """

    device: str
    seen: dict[str, str]
    refused: str = ""
    refused_of_tasks: str = ""


def furiosa(vendors: Vendors) -> File:
    def nodes(index: int) -> list[dict]:
        names = [f"npu{index}mgmt", f"npu{index}pe0", f"npu{index}pe0-3", *(f"npu{index}ch{n}" for n in range(8))]
        names += [*(f"npu{index}ch{n}r" for n in range(8)), *(f"npu{index}{name}" for name in ("dmar", "bar0", "bar2"))]
        made = [vendors.node(f"rngd/{name}", _RNGD, index << 8 | at) for at, name in enumerate(names)]
        return [node | {"permissions": "rw"} for node in made]

    devices = [{"name": f"npu{index}", "containerEdits": {"deviceNodes": nodes(index)}} for index in (0, 1)]
    write(vendors, "furiosa.yaml", "0.6.0", "furiosa.ai/npu", devices)
    return File("furiosa.ai/npu=npu1", opened("rngd/npu1mgmt", "rngd/npu1ch7r", without="rngd/npu0mgmt"))


def gaudi(vendors: Vendors) -> File:
    _gaudi(vendors)
    return File(
        "intel.com/gaudi=0000-0f-00-0-0x1020", opened("accel/accel0", "infiniband/uverbs0", without="accel/accel1")
    )


def gaudi_by_claim(vendors: Vendors) -> File:
    """Two devices: the accelerator's nodes, and those of the claim, which has none."""
    _gaudi(vendors)
    seen = opened("accel/accel1", without="accel/accel0") | {"getenv=HABANA_VISIBLE_DEVICES": "1"}
    names = "intel.com/gaudi=0000-1f-00-0-0x1020,intel.com/gaudi=6b0c6c4e-claim"
    return File(names, seen, "CDI variable 'HABANA_VISIBLE_DEVICES=1'")


def _gaudi(vendors: Vendors) -> None:
    program = vendors.directory / "habana-hook"
    program.write_text(OWN_HOOK)
    program.chmod(0o755)
    devices = []
    for index, address in enumerate(("0f", "1f")):
        names = ((f"accel/accel{index}", _ACCEL, index), (f"accel/accel_controlD{index}", _ACCEL, 64 + index))
        nodes = [
            vendors.node(*of) | {"type": "c"} for of in (*names, (f"infiniband/uverbs{index}", _UVERBS, 192 + index))
        ]
        devices.append({"name": f"0000-{address}-00-0-0x1020", "containerEdits": {"deviceNodes": nodes}})
    hook = {"hookName": "createRuntime", "path": str(program), "args": ["habana-hook", "createRuntime"]}
    claim = {"env": ["HABANA_VISIBLE_DEVICES=1"], "hooks": [hook | {"env": ["PATH=/usr/bin:/bin"]}]}
    devices.append({"name": "6b0c6c4e-claim", "containerEdits": claim})
    write(vendors, "intel.com-gaudi.yaml", "0.5.0", "intel.com/gaudi", devices)


def gpu_by_path(vendors: Vendors) -> File:
    nodes = [vendors.node("dri/card7", _DRI, 7), vendors.node("dri/renderD135", _DRI, 135)]
    links = vendors.directory / "dev/dri/by-path"
    links.mkdir()
    mounts = []
    for name, target in (("card", "card7"), ("render", "renderD135")):
        link = links / f"pci-0000:03:00.0-{name}"
        link.symlink_to(f"../{target}")
        place = {"hostPath": str(link), "containerPath": f"/dev/dri/by-path/{link.name}"}
        mounts.append(place | {"options": ["bind", "rw"], "type": "none"})
    edits = {"deviceNodes": [node | {"type": "c"} for node in nodes], "mounts": mounts}
    write(vendors, "intel.com-igpu.yaml", "0.5.0", "intel.com/igpu", [{"name": "0000-03", "containerEdits": edits}])
    return File("intel.com/igpu=0000-03", opened("dri/card7", "dri/by-path/pci-0000:03:00.0-render"))


def sriov(vendors: Vendors) -> File:
    _vfio(vendors, "example.com/net-pci")
    return File("example.com/net-pci=0000:3b:02.1", opened("vfio/vfio", "vfio/78", without="vfio/77"))


def sriov_of_nvidia(vendors: Vendors) -> File:
    _vfio(vendors, "nvidia.com/net-pci")
    return File("nvidia.com/net-pci=0000:3b:02.0", opened("vfio/vfio", "vfio/77", without="vfio/78"))


def _vfio(vendors: Vendors, kind: str) -> None:
    shared = vendors.node("vfio/vfio", _VFIO, 196) | {"permissions": "rw"}
    devices = []
    for index in (0, 1):
        group = vendors.node(f"vfio/{77 + index}", _VFIO, index) | {"permissions": "rw"}
        devices.append({"name": f"0000:3b:02.{index}", "containerEdits": {"deviceNodes": [shared, group]}})
    write(vendors, f"sriov-dp-{kind.replace('/', '-')}-netdevice.yaml", "1.1.0", kind, devices)


def qaic(vendors: Vendors) -> File:
    library = vendors.directory / "lib" / "libQAic.so"
    library.write_text("qaic")
    node = vendors.node("accel/accel9", _ACCEL, 9, mode=0o660) | {"permissions": "rw", "fileMode": 432, "gid": 0}
    mount = {"hostPath": str(library), "containerPath": "/opt/qti-aic/dev/lib/x86_64/libQAic.so"}
    edits = {"mounts": [mount | {"options": ["ro", "nosuid", "nodev", "bind"]}]}
    devices = [{"name": "9", "annotations": {"qualcomm.com/serial": "0X1"}, "containerEdits": {"deviceNodes": [node]}}]
    write(vendors, "qaic.json", "0.6.0", "qualcomm.com/qaic", devices, containerEdits=edits)
    seen = opened("accel/accel9", without="accel/accel0") | {f"read={mount['containerPath']}": "qaic"}
    return File("qualcomm.com/qaic=9", seen)


FILES: dict[str, Callable[[Vendors], File]] = {
    made.__name__: made for made in (furiosa, gaudi, gaudi_by_claim, gpu_by_path, sriov, sriov_of_nvidia, qaic)
}


def opened(*paths: str, without: str = "absent") -> dict[str, str]:
    """Return what the probe says of nodes that were given, and of one that was not."""
    return dict.fromkeys(opens(*paths), "ENXIO") | dict.fromkeys(opens(without), "ENOENT")


def write(vendors: Vendors, name: str, version: str, kind: str, devices: list[dict], **more) -> None:
    document = {"cdiVersion": version, "kind": kind, "devices": devices, **more}
    if name.endswith(".json"):
        vendors.write(name, document)
        return
    path = vendors.specs / name
    path.write_text(_yaml(document))
    os.chmod(path, 0o644)


def _yaml(value: object, indent: str = "") -> str:
    """Return block YAML as Go's libraries write it: keys by the alphabet, texts plain where they can be."""
    lines = []
    if isinstance(value, dict):
        for key in sorted(value):
            below = value[key]
            if isinstance(below, dict | list):
                lines.append(f"{indent}{key}:\n{_yaml(below, indent + ('  ' if isinstance(below, dict) else ''))}")
            else:
                lines.append(f"{indent}{key}: {_scalar(below)}\n")
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, dict):
                lines.append(f"{indent}- {_yaml(each, indent + '  ').lstrip()}")
            else:
                lines.append(f"{indent}- {_scalar(each)}\n")
    return "".join(lines)


def _scalar(value: object) -> str:
    quoted = isinstance(value, str) and (value[:1].isdigit() or ": " in value)
    return json.dumps(value) if quoted else str(value)

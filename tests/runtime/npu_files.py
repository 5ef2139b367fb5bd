"""Specifications in the shape that the tools of further accelerators write.

Rebellions: rbln-ctk (a group's node with each of its NPUs, groups and two names for all, libraries, two hooks).
Tenstorrent: a device plugin (`/sys` and huge pages, bound with what is mounted below). Google: the resource driver of
TPUs (a device for each claim, beside one of variables and a directory of logs). IBM: that of Spyre (the VFIO node for
all and again with each device). HAMi: that of Ascend NPUs (a claim's nodes, variables and files together).
"""

from __future__ import annotations

from tests.runtime import vendor_files
from tests.runtime.vendor_files import OWN_HOOK, File, opened, write
from tests.runtime.vendors import Vendors

_RBLN, _RSD, _TENSTORRENT, _VFIO, _DAVINCI = 243, 244, 241, 510, 236
_CLAIM = "0d6a7f2e-4f0a-4c43-9a0e-5a1f5b6c7d8e"


def rebellions(vendors: Vendors) -> File:
    npus = [vendors.node(f"rbln{index}", _RBLN, index) | {"permissions": "rw"} for index in range(4)]
    groups = [vendors.node(f"rsd{index}", _RSD, index) | {"permissions": "rw"} for index in range(2)]
    devices = [_device(str(index), deviceNodes=[node, groups[index // 2]]) for index, node in enumerate(npus)]
    devices += [_device(f"rsd{index}", deviceNodes=[node]) for index, node in enumerate(groups)]
    devices += [_device(name, deviceNodes=[*npus, *groups]) for name in ("all", "runtime")]
    program = vendors.directory / "rbln-cdi-hook"
    program.write_text(OWN_HOOK)
    program.chmod(0o755)
    library = vendors.directory / "lib" / "librbln-ml.so.2.0.1"
    library.write_text("rbln")
    place = f"/usr/lib64/{library.name}"
    options = ["ro", "nosuid", "nodev", "bind"]
    hook = {"hookName": "createContainer", "path": str(program)}
    edits = {
        "mounts": [{"hostPath": str(library), "containerPath": place, "options": options}],
        "hooks": [
            hook | {"args": ["rbln-cdi-hook", "create-symlinks", "--link", f"{place}::/usr/lib64/librbln-ml.so"]},
            hook | {"args": ["rbln-cdi-hook", "update-ldcache", "--folder", "/usr/lib64"], "env": ["DEBUG=false"]},
        ],
    }
    write(vendors, "rbln.yaml", "0.5.0", "rebellions.ai/npu", devices, containerEdits=edits)
    seen = opened("rbln3", "rsd1", without="rbln2") | {f"read={place}": "rbln"}
    return File("rebellions.ai/npu=3", seen, "CDI hook '")


def tenstorrent(vendors: Vendors) -> File:
    pages = vendors.directory / "hugepages-1G"
    pages.mkdir()
    (pages / "page").write_text("1G")
    nodes = [vendors.node(f"tenstorrent/{index}", _TENSTORRENT, index) | {"permissions": "rw"} for index in (0, 1)]
    devices = [_device(str(index), deviceNodes=[node]) for index, node in enumerate(nodes)]
    mounts = [
        {"hostPath": "/sys", "containerPath": "/sys", "options": ["rbind", "ro"]},
        {"hostPath": str(pages), "containerPath": "/dev/hugepages-1G", "options": ["rbind"]},
    ]
    kind = "tenstorrent.com/n150"
    write(vendors, "tenstorrent-n150.json", "0.6.0", kind, devices, containerEdits={"mounts": mounts})
    seen = opened("tenstorrent/1", without="tenstorrent/0") | {"read=/dev/hugepages-1G/page": "1G"}
    over_sys = "CDI mount '/sys': a hook mounts nothing over the kernel's files"
    return File(f"{kind}=1", seen | {"create=/sys/new": "EROFS"}, over_sys, over_sys)


def tpu(vendors: Vendors) -> File:
    kind = "k8s.tpu.google.com/tpu"
    logs = vendors.directory / "tpu_logs"
    logs.mkdir()
    mount = {"hostPath": str(logs), "containerPath": "/tmp/tpu_logs", "options": ["rw", "nosuid", "nodev", "bind"]}
    common = _device("common", env=["TPU_SKIP_MDS_QUERY=true"], mounts=[mount])
    write(vendors, "k8s.tpu.google.com-tpu_common.yaml", "0.3.0", kind, [common])
    shared = vendors.node("vfio/vfio", _VFIO, 196) | {"permissions": "mrw"}
    devices = []
    for index in (0, 1):
        nodes = [vendors.node(f"vfio/{index}", _VFIO, index) | {"permissions": "mrw"}, shared]
        devices.append(
            _device(f"{_CLAIM}-{index}", env=[f"TPU_DEVICE_{index}_RESOURCE_CLAIM={_CLAIM}"], deviceNodes=nodes)
        )
    write(vendors, f"k8s.tpu.google.com-tpu_{_CLAIM}.yaml", "0.5.0", kind, devices)
    seen = opened("vfio/0", "vfio/vfio", without="vfio/1") | {"getenv=TPU_DEVICE_0_RESOURCE_CLAIM": _CLAIM}
    seen |= {"getenv=TPU_SKIP_MDS_QUERY": "true", "create=/tmp/tpu_logs/log": "opened"}
    return File(f"{kind}=common,{kind}={_CLAIM}-0", seen, "CDI variable 'TPU_")


def spyre(vendors: Vendors) -> File:
    kind = "k8s.spyre.ibm.com/spyre"
    shared = vendors.node("vfio/vfio", _VFIO, 196) | {"permissions": "mrw"}
    nodes = [vendors.node(f"vfio/{index}", _VFIO, index) | {"permissions": "mrw"} for index in (4, 5)]
    devices = [
        _device(f"0000-1{index}-00.0", env=[f"AIU_DEVICE_{index}=0000:1{index}:00.0"], deviceNodes=[shared, node])
        for index, node in enumerate(nodes)
    ]
    edits = {"env": ["PCIDEVICE_IBM_COM_AIU_PF=0000:10:00.0"], "deviceNodes": [shared]}
    write(vendors, f"k8s.spyre.ibm.com-spyre_{_CLAIM}.yaml", "0.5.0", kind, devices, containerEdits=edits)
    seen = opened("vfio/5", "vfio/vfio", without="vfio/4") | {"getenv=AIU_DEVICE_1": "0000:11:00.0"}
    return File(f"{kind}=0000-11-00.0", seen, "CDI variable '")


def ascend(vendors: Vendors) -> File:
    kind = "k8s.ascend.project-hami.io/npu"
    names = ("davinci1", "davinci_manager", "devmm_svm", "hisi_hdc")
    nodes = [vendors.node(name, _DAVINCI, number) | {"type": "c"} for number, name in enumerate(names)]
    preload = vendors.directory / "ld.so.preload"
    preload.write_text("\n")
    region = vendors.directory / "region"
    region.mkdir()
    mounts = [
        {"hostPath": str(preload), "containerPath": "/etc/ld.so.preload", "options": ["ro", "bind"]},
        {"hostPath": str(region), "containerPath": "/shared-region", "options": ["rw", "nosuid", "nodev", "bind"]},
    ]
    claim = _device(_CLAIM, env=["ASCEND_VISIBLE_DEVICES=1"], deviceNodes=nodes, mounts=mounts)
    common = _device("common", env=["DRA_RESOURCE_DRIVER_NAME=ascend.project-hami.io"])
    write(vendors, "k8s.ascend.project-hami.io-npu_common.yaml", "0.3.0", kind, [common])
    write(vendors, f"k8s.ascend.project-hami.io-npu_{_CLAIM}.yaml", "0.5.0", kind, [claim])
    seen = opened(*names) | {"getenv=ASCEND_VISIBLE_DEVICES": "1", "read=/etc/ld.so.preload": "\n"}
    return File(f"{kind}=common,{kind}={_CLAIM}", seen | {"create=/shared-region/a": "opened"}, "CDI variable '")


def _device(name: str, **edits: object) -> dict:
    return {"name": name, "containerEdits": edits}


FILES = vendor_files.FILES | {made.__name__: made for made in (rebellions, tenstorrent, tpu, spyre, ascend)}

"""Device nodes: whether the host has those that containers need, with the driver's numbers."""

from __future__ import annotations

from oci_gpu_hook.admin.doctor.model import ERROR, NOTE, OK, WARNING, Finding, Host
from oci_gpu_hook.base.files import read_text
from oci_gpu_hook.devices import edits
from oci_gpu_hook.devices.nvidia import device_nodes, procfs
from oci_gpu_hook.plan import node_access

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.devices.edits import DeviceNode
    from oci_gpu_hook.devices.nvidia.model import DeviceNode as HostNode

_NAME: Final = "nodes"
# Names of the driver's majors in /proc/devices, and fixed minors (kernel-open/common/inc/nv-chardev-numbers.h).
_FRONTEND: Final = ("nvidia", "nvidia-frontend")
_FIXED: Final = {
    "/dev/nvidiactl": (_FRONTEND, 255),
    "/dev/nvidia-modeset": (("nvidia-modeset", *_FRONTEND), 254),
    "/dev/nvidia-uvm": (("nvidia-uvm",), 0),
    "/dev/nvidia-uvm-tools": (("nvidia-uvm",), 1),
}
_LISTED: Final = 4
_MAKE: Final = "run `nvidia-modprobe -c 0 -u` (or nvidia-smi) on the host, or enable NVIDIA's udev rules"


def check(host: Host) -> Iterator[Finding]:
    """Compare the nodes with /proc/devices and with the GPUs."""
    inventory = host.inventory
    if inventory is None:
        return
    if inventory.platform:
        paths = [node.path for node in inventory.nodes]
        what = f"{len(paths)} device node{'s' * (len(paths) != 1)}: {listed(paths)}"
        yield Finding(check=_NAME, severity=OK, what=what)
        yield from owners(_NAME, map(device_nodes.given, inventory.nodes))
        return
    by_path = {node.path: node for node in inventory.nodes}
    missing = [path for path in _FIXED if path not in by_path and path != "/dev/nvidia-modeset"]
    missing += [path for gpu in inventory.gpus if gpu.minor >= 0 and (path := f"/dev/nvidia{gpu.minor}") not in by_path]
    for path in missing:
        severity = WARNING if path.endswith("-tools") else ERROR
        why = (
            "CUDA fails in containers that ask for compute" if "uvm" in path else "containers that need it do not start"
        )
        yield Finding(check=_NAME, severity=severity, what=f"the host has no {path}", why=why, remedy=_MAKE)
    if "/dev/nvidia-modeset" not in by_path:
        yield Finding(check=_NAME, severity=NOTE, what="the host has no /dev/nvidia-modeset, for containers that draw")
    majors = read_text(f"{host.config.proc_root}/devices") or ""
    wrong = [finding for node in inventory.nodes if (finding := _numbers(node, majors))]
    yield from wrong
    if not (missing or wrong):
        yield Finding(check=_NAME, severity=OK, what=f"{len(inventory.nodes)} device nodes with the kernel's numbers")
    yield from owners(_NAME, map(device_nodes.given, inventory.nodes))


def owners(check: str, nodes: Iterable[DeviceNode]) -> Iterator[Finding]:
    """Yield findings of a check for nodes that not everybody may open: notes where udev makes them so on most hosts."""
    found: dict[tuple[int, int, int], list[str]] = {}
    for node in edits.restricted(nodes):
        if not node.path.startswith(device_nodes.MIG_NODES):  # for nodes of MIG the driver decides who may open them
            found.setdefault((node.file_mode, node.uid, node.gid), []).append(node.path)
    for (mode, uid, gid), paths in found.items():
        some = listed(paths)
        is_usual = not node_access.are_nvidias(paths)
        owner = "root" if uid == 0 else f"user {uid}"
        if mode & 0o060:
            what = f"only {owner} and group {_group(gid)} may open {some} (mode {mode:04o})"
            why = "other users' processes in containers cannot: the hook adds no group to them, oci-gpu-runtime does"
            remedy = f"start such containers with --group-add {gid} (supplementalGroups of a pod)"
            remedy += f"; {node_access.opened_by(paths)} opens them to all"
        else:
            what = f"only {owner} may open {some}"
            why = "containers get nodes as they are on the host: processes of other users in them cannot use the GPU"
            remedy = "give them to a group by a udev rule"
            if not is_usual:
                remedy = "set the module option NVreg_DeviceFileMode=0666, or a group by NVreg_DeviceFileGID"
        yield Finding(check=check, severity=NOTE if is_usual else WARNING, what=what, why=why, remedy=remedy)


def listed(paths: Sequence[str]) -> str:
    """Return the first paths, and how many more there are."""
    return ", ".join(paths[:_LISTED]) + (f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else "")


def _group(gid: int) -> str:
    import grp

    try:
        return f"{gid} ({grp.getgrgid(gid).gr_name})"
    except KeyError:
        return str(gid)


def _numbers(node: HostNode, majors: str) -> Finding | None:
    names, minor = _FIXED.get(node.path, ((), None))
    if not names and node.path.removeprefix("/dev/nvidia").isdecimal():
        names, minor = _FRONTEND, int(node.path.removeprefix("/dev/nvidia"))
    known = [major for name in names if (major := procfs.device_major(majors, name))]
    if not known or minor is None or (node.major in known and node.minor == minor):
        return None
    what = f"{node.host_path} is device {node.major}:{node.minor}, and the driver's is {known[0]}:{minor}"
    why = "containers are given what the node says, which is another device or none"
    return Finding(check=_NAME, severity=ERROR, what=what, why=why, remedy=f"rm {node.host_path}, then {_MAKE}")

"""A container with devices that CDI specifications describe: what the hook is to do, and what it cannot.

A hook comes when the container's process is there: its variables, its groups, the hooks that its runtime will run and
its network interfaces are settled then. An engine that reads CDI, or oci-gpu-runtime, has written them into
config.json; what is there is left to the runtime.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.devices.edits import needed
from oci_gpu_hook.plan import there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, Mount
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.plan.plan import Plan

HARMLESS: Final = ("NVIDIA_VISIBLE_DEVICES=void",)  # which keeps NVIDIA's hook from acting, and there is ours
_OPTIONS: Final = frozenset(
    ("ro", "rw", "bind", "rbind", "private", "rprivate", "slave", "rslave", "suid", "nosuid", "dev", "nodev",
     "exec", "noexec")
)  # fmt: skip
_KERNELS: Final = ("proc", "sys")  # directories of the container
_OF_DRIVERS: Final = ["proc", "driver"]  # where what NVIDIA's driver tells of the granted GPUs is mounted
_OF_TMPFS: Final = ("size=", "mode=", "nr_inodes=", "uid=", "gid=")
_REMEDY: Final = (
    "start the container through oci-gpu-runtime (docs/cdi.md), or name the device to an engine that reads CDI"
)


def left(plan: Plan, container: Container) -> Plan:
    """Return the plan without what config.json has. Raises InvalidInput for an edit that only a runtime can make."""
    config = container.config or {}
    edits = there.remaining(plan.edits, config)
    nodes = [node for node in plan.edits.device_nodes if _is_ours(node)]  # those that are there are looked at, too
    for what, why in refused(edits):
        raise InvalidInput(what, why, _REMEDY, "OGH1220")
    return plan.replace(
        edits=plan.edits.replace(
            env=(), hooks=(), additional_gids=(), intel_rdt=None, net_devices=(), device_nodes=tuple(nodes),
            mounts=edits.mounts,
        ),
        warnings=(*plan.warnings, *_warnings(edits, container)),
    )  # fmt: skip


def needs_runtime(edits: ContainerEdits, container: Container) -> tuple[str, ...]:
    """Say of each edit that only a runtime can make that the hook alone would refuse it."""
    left_over = there.remaining(edits, container.config or {})
    return tuple(f"{what}: {why}; {_REMEDY}" for what, why in refused(left_over))


def refused(edits: ContainerEdits) -> Iterator[tuple[str, str]]:
    """Yield what of the edits a hook cannot do, and why."""
    for entry in edits.env:
        if entry not in HARMLESS:
            yield f"CDI variable {quoted(entry)}", "a hook cannot set variables of a process that already exists"
    for hook in edits.hooks:
        yield (
            f"CDI hook {quoted(hook.path)} ({hook.hook_name})",
            "a hook cannot add hooks to a container that is being made",
        )
    for net in edits.net_devices:
        yield f"CDI network interface {quoted(net.host_interface_name)}", "a hook does not move interfaces"
    if edits.intel_rdt is not None:
        yield "CDI intelRdt", "a hook comes after the runtime has put the process into its class of service"
    for node in edits.device_nodes:
        if not _is_ours(node):
            yield f"CDI device node {quoted(node.path)}", _why_not(node)
    for mount in edits.mounts:
        if why := _why_no_mount(mount):
            yield f"CDI mount {quoted(mount.container_path)}", why


def _is_ours(node: DeviceNode) -> bool:
    """Tell whether the hook can give a node: a FIFO, or a device for reading and writing."""
    return node.type == "p" or {"r", "w"}.issubset(node.permissions)


def _why_not(node: DeviceNode) -> str:
    return f"a hook gives nodes for reading and writing, and the permissions here are {quoted(node.permissions)}"


def _why_no_mount(mount: Mount) -> str:
    if mount.type not in ("", "bind", "none", "tmpfs"):
        return f"a hook mounts what the host has, and tmpfs, and this is of type {quoted(mount.type)}"
    names = os.path.normpath(f"/{mount.container_path}").lstrip("/").split("/")
    if names[0] in _KERNELS and names[:2] != _OF_DRIVERS:
        return "a hook mounts nothing over the kernel's files"
    for option in mount.options:
        if option not in _OPTIONS and not (mount.type == "tmpfs" and option.startswith(_OF_TMPFS)):
            return f"a hook does not know the option {quoted(option)}"
    return ""


def _warnings(edits: ContainerEdits, container: Container) -> Iterator[str]:
    """Yield what is left out of what makes a difference to few: groups, of which root of the container needs none."""
    missing = [gid for gid in edits.additional_gids if gid not in (container.gid, *container.groups)]
    if missing and not container.overrides_modes:
        guarded = [node.path for node in edits.device_nodes if node.file_mode & 0o6 != needed(node.file_mode)]
        groups = ", ".join(map(str, missing))
        nodes = f", which {', '.join(guarded)} may need" if guarded else ""
        yield f"the container's process is not in the groups {groups}{nodes}: a hook cannot add groups; {_REMEDY}"

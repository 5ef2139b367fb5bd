"""The GPUs of other vendors: whether containers can get those that the PCI bus has."""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.admin.doctor import nodes
from oci_gpu_hook.admin.doctor.model import ERROR, OK, WARNING, Finding, Host
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.devices import pci, presence, vendors
from oci_gpu_hook.devices.cdi.everything import of_inventory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.model import Inventory
    from oci_gpu_hook.devices.edits import DeviceNode

_NAME: Final = "other_vendors"
_KFD: Final = "/dev/kfd"


def check(host: Host) -> Iterator[Finding]:
    """Check what the kernel shows of each kind, and find GPUs that its driver does not have."""
    for kind in vendors.SEEN:
        inventory = vendors.seen(kind, host.config)
        if inventory is not None:
            yield from _of_kind(kind, inventory, host)
    yield from _undriven(host)
    yield from _mixed(host)


def _of_kind(kind: str, inventory: Inventory, host: Host) -> Iterator[Finding]:
    listed = of_inventory(inventory, host.config)
    working = [each for each in listed if not each.device.fault]
    if working:
        what = f"{kind}: {len(working)} device{'s' * (len(working) != 1)}, listed in {working[0].file}"
        yield Finding(check=_NAME, severity=OK, what=what)
    for each in listed:
        if each.device.fault:
            what = f"{each.device.label}: the host lacks a node of it ({each.device.fault})"
            why = "containers that name it fail; counts pass it over"
            yield Finding(check=_NAME, severity=ERROR, what=what, why=why, remedy="see udev and dmesg")
    shared = inventory.files[0][1].device_nodes
    for node in shared:
        if not os.path.exists(node.host_path):
            what = f"the host has no {node.path}"
            why = f"containers that ask for {kind} do not start"
            yield Finding(check=_NAME, severity=ERROR, what=what, why=why, remedy="load the module, see udev and dmesg")
    own = [node for described in inventory.devices for node in described.edits.device_nodes]
    there = [found for node in dict.fromkeys((*shared, *own)) if (found := _with_owner(node))]
    yield from nodes.owners(_NAME, there)


def _with_owner(node: DeviceNode) -> DeviceNode | None:
    """Return a node with the owner and mode that it has on the host, None for one that the host lacks."""
    try:
        found = os.stat(node.host_path)
    except OSError:
        return None
    return node.replace(file_mode=stat.S_IMODE(found.st_mode), uid=found.st_uid, gid=found.st_gid)


def _undriven(host: Host) -> Iterator[Finding]:
    config = host.config
    amds = [address for address, vendor in pci.gpus(config.sys_root) if vendor == pci.AMD]
    if amds and vendors.seen("amd.com/gpu", config) is None:
        driver = pci.driver(config.sys_root, amds[0])
        what = f"the AMD GPU at {amds[0]} does not compute: KFD ({_KFD}) lists none"
        why = f"its driver is {driver or 'missing'}; containers that ask for amd.com/gpu fail"
        remedy = "load amdgpu with KFD (CONFIG_HSA_AMD), if containers are to have it"
        yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=remedy)


def _mixed(host: Host) -> Iterator[Finding]:
    kinds = presence.meant_by_count(host.config)
    default = host.config.allocation_default_kind
    if default and kinds and not _is_there(default, host.config):
        what = f"[allocation] default-kind is {default}, and this host has GPUs of {', '.join(kinds)} only"
        why = "containers that ask for a number of GPUs without a kind fail"
        remedy = f'set default-kind = "{kinds[0]}" in config.toml, or write the specification of {default}'
        yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=remedy)
    elif len(kinds) > 1 and not default:
        what = f"this host has GPUs of {', '.join(kinds)}, and [allocation] default-kind is not set"
        why = "containers that ask for a number of GPUs without a kind fail, since the kind is ambiguous"
        remedy = f'set default-kind = "{kinds[0]}" in config.toml, or set OCI_GPU_KIND in the container'
        yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=remedy)
    elif len(kinds) > 1:
        yield Finding(check=_NAME, severity=OK, what=f"counts without a kind mean {default}")


def _is_there(kind: str, config: Config) -> bool:
    """Tell whether the host may have devices of a kind: a specification that cannot be read may describe some."""
    try:
        return kind in presence.of_host(config) or kind in vendors.in_files(config)
    except HookError:
        return True

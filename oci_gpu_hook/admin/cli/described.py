"""Devices that CDI specifications describe, in words and in JSON, for the commands that show what there is."""

from __future__ import annotations

from oci_gpu_hook.admin.cli.picture import memory
from oci_gpu_hook.admin.metering.look import is_other
from oci_gpu_hook.base.errors import one_line
from oci_gpu_hook.devices import listing, vendors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.everything import Listed
    from oci_gpu_hook.devices.edits import ContainerEdits
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.plan.plan import Plan


def of_host(config: Config) -> tuple[tuple[Listed, ...], str]:
    """Return the devices of other vendors than NVIDIA, and why there may be more that could not be seen."""
    found, trouble = listing.of_host(config, is_other)
    return found, str(trouble) if trouble else ""


def to_json(listed: Listed) -> dict[str, object]:
    """Return what `oci-gpu info --json` shows of a device."""
    device = listed.device
    return {
        "kind": device.kind,
        "name": device.name,
        "id": device.uuid,
        "names": list(listed.names),
        "nodes": list(listed.nodes),
        "file": listed.file,
        "product": listed.product or None,
        "memory": device.memory or None,
        "numaNode": device.numa_node,
        "fault": device.fault or None,
    }


def lines(listed: tuple[Listed, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a table of devices: name, other names, nodes or what is wrong, and what the kernel says."""
    for each in listed:
        others = ", ".join(name for name in each.names if name != each.device.name)
        device = each.device
        memory = f"{device.memory / (1 << 30):g} GiB" if device.memory else ""
        numa = f"NUMA {device.numa_node}" if device.numa_node is not None else ""
        more = ", ".join(filter(None, (each.product, memory, numa)))
        yield device.label, others, device.fault or ", ".join(each.nodes), more


def in_words(devices: Sequence[Device], config: Config) -> Iterator[str]:
    """Yield what is said of devices that are given: name, what each is, its memory."""
    known = {each.device.uuid: each for each in of_host(config)[0]}
    for device in devices:
        listed = known.get(device.uuid)
        more = (listed.product, memory(listed.device.memory)) if listed else ()
        yield one_line("  ".join(filter(None, (device.label, *more))))


def native_part(made: Plan, described: ContainerEdits) -> Plan:
    """Return the part of a plan that CDI specifications do not describe."""
    edits = made.edits
    return made.replace(
        devices=tuple(device for device in made.devices if device.kind in vendors.KINDS),
        edits=edits.replace(
            device_nodes=tuple(node for node in edits.device_nodes if node not in described.device_nodes),
            mounts=tuple(mount for mount in edits.mounts if mount not in described.mounts),
        ),
    )


def edits_in_words(edits: ContainerEdits) -> Iterator[tuple[str, str]]:
    """Yield what is given and what that is, a row for each edit."""
    for node in edits.device_nodes:
        numbers = f"{node.major}:{node.minor}" if node.type != "p" else "FIFO"
        yield node.path, f"node {node.type} {numbers}, {node.permissions}"
    for mount in edits.mounts:
        yield mount.container_path, f"{mount.type or 'bind'} of {mount.host_path}, {','.join(mount.options)}"
    for entry in edits.env:
        yield entry.partition("=")[0], f"variable {entry.partition('=')[2]!r}"
    for hook in edits.hooks:
        yield hook.path, f"hook of the stage {hook.hook_name}"
    for net in edits.net_devices:
        yield net.name, f"network interface {net.host_interface_name} of the host"
    for gid in edits.additional_gids:
        yield str(gid), "group of the process"
    if edits.intel_rdt is not None:
        yield "intelRdt", f"class of service {edits.intel_rdt.clos_id or 'one for this container alone'}"

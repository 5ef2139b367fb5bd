"""Verifies that a running container still has what it was given, and says what to do if not.

The journal entry says what the container was given. `apply.status` inspects the container; this module, the driver.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply import status
from oci_gpu_hook.apply.operations.inspection import Finding
from oci_gpu_hook.apply.process import Process
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.base import apart, limits
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import HookError, described_bug, quoted, reason
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.edits import DeviceNode, numbers_of, restricted
from oci_gpu_hook.devices.model import PIPE_OF_MPS, is_sick
from oci_gpu_hook.lifecycle import identity
from oci_gpu_hook.request.model import DEFAULT_KIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config

# Kinds of findings in addition to those of `status` and of the kinds of edits; `oci-gpu repair` cannot mend these.
DRIVER: Final = "driver"
UNKNOWN: Final = "unknown"
GPU: Final = "gpu"
SICK: Final = "sick"  # nothing was lost: the GPU is marked, and no other container gets it
LIMITS: Final = "limits"
CHANGING: Final = "changing"
ACCESS: Final = "access"  # nothing was lost: the nodes belong to a group that the container's process is not in


def verify(entry: Entry, config: Config, *, overused: bool = True) -> tuple[Finding, ...]:
    """Return what the container of an entry has lost; that it cannot be inspected is a finding too.

    overused: whether the driver is asked if the container uses more than it was given.

    A separate process inspects it, because a container may have a volume that never answers, and others are next.
    """
    try:
        data = apart.answer(lambda: dump([each.__dict__ for each in _look(entry, config)]), limits.LOOK_SECONDS)
    except HookError as error:
        return (_not_seen(entry, error.why, error.remedy),)
    try:
        if data:
            found = tuple([Finding(**each) for each in parse(data, "findings")])
            return (*found, *_overuse(entry, config)) if overused and any(entry.share) else found
    except HookError:
        data = b""
    why = f"a file system in it has not answered for {limits.LOOK_SECONDS:.0f} s"
    if data is not None:
        why = "the process that inspected it ended without a readable answer"
    return (_not_seen(entry, why, "check its FUSE and NFS volumes"),)


def _not_seen(entry: Entry, why: str, remedy: str) -> Finding:
    what = f"cannot look into container {quoted(entry.id)}"
    return Finding(kind=UNKNOWN, what=what, why=why, remedy=remedy, repairable=False)


def _overuse(entry: Entry, config: Config) -> tuple[Finding, ...]:
    from oci_gpu_hook.lifecycle import overuse  # few containers have parts of GPUs

    return tuple(overuse.of(entry, config))


def _look(entry: Entry, config: Config) -> tuple[Finding, ...]:
    try:
        with Process(entry.pid) as process:
            identity.check_alive(entry)  # its /proc directory is held open from here on, so a reused pid does no harm
            with Rootfs(process.open_rootfs(entry.rootfs)) as rootfs:
                identity.check_root(entry, rootfs)
                return (*_changing(entry), *lost(entry, process, rootfs, config), *_denied(entry, rootfs))
    except HookError as error:
        return (Finding(kind=UNKNOWN, what=error.what, why=error.why, remedy=error.remedy, repairable=False),)
    except OSError as error:
        what = f"cannot look into container {quoted(entry.id)}"
        remedy = "run this as root, in the host's namespaces; if the container was just ending, run it again"
        return (Finding(kind=UNKNOWN, what=what, why=reason(error), remedy=remedy, repairable=False),)
    except Exception as error:  # noqa: BLE001  one container must not end a look at all of them
        what = f"cannot look into container {quoted(entry.id)}"
        remedy = "please report this with the container's config.json"
        return (Finding(kind=UNKNOWN, what=what, why=described_bug(error), remedy=remedy, repairable=False),)


def _changing(entry: Entry) -> Iterator[Finding]:
    """Yield a finding while devices are attached or detached, which only an interruption makes last."""
    if entry.changing:
        what = f"a change of the GPUs of container {quoted(entry.id)}"
        why = f"was interrupted, and it is not known whether it has {', '.join(entry.changing)}"
        remedy = "if no `oci-gpu attach` or `detach` runs, `oci-gpu repair` settles it"
        yield Finding(kind=CHANGING, what=what, why=why, remedy=remedy)


def lost(entry: Entry, process: Process, rootfs: Rootfs, config: Config) -> tuple[Finding, ...]:
    """Inspect a container and return what it has lost. Raises HookError, OSError."""
    running = vendors.of(DEFAULT_KIND).running_driver(config) if entry.driver else ""
    found = (*_driver(entry, running), *_gone(entry, config), *status.look(entry, process, rootfs, config))
    return (*found, *_unlimited(entry)) if any(entry.share) else found


def _denied(entry: Entry, rootfs: Rootfs) -> Iterator[Finding]:
    """Yield findings for nodes whose owner and mode forbid the container's first process to open them."""
    from oci_gpu_hook.lifecycle import container_user
    from oci_gpu_hook.plan import node_access

    found = [node for path in entry.node_paths if (node := _node_in(rootfs, path))]
    nodes = restricted(node for node, _ in found)
    if not nodes:
        return
    user = container_user.of_running(entry.pid, frozenset(node.path for node, opens in found if opens))
    for guarded in node_access.refused(user, nodes):
        what, why = node_access.what(guarded, user), node_access.why(guarded, user)
        remedy = node_access.remedy(guarded, user)
        yield Finding(kind=ACCESS, what=what, why=why, remedy=remedy, repairable=False)


def _node_in(rootfs: Rootfs, path: str) -> tuple[DeviceNode, bool] | None:
    """Return a device node of the container, and whether this process could open it; None if it does not exist."""
    try:
        fd = rootfs.resolve(path)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        opens = os.access(f"/proc/self/fd/{fd}", os.R_OK | os.W_OK)
    finally:
        os.close(fd)
    if numbers_of(status) is None:
        return None
    node = DeviceNode(path=path, file_mode=stat.S_IMODE(status.st_mode), uid=status.st_uid, gid=status.st_gid)
    return node, opens


def _gone(entry: Entry, config: Config) -> Iterator[Finding]:
    """Yield findings for devices that the host no longer has, or cannot use."""
    of_kinds: dict[str, list[str]] = {}
    for uuid in entry.gpus:
        of_kinds.setdefault(vendors.kind_of(uuid), []).append(uuid)
    for kind, uuids in of_kinds.items():
        for uuid, why in vendors.of(kind).lost(uuids, config).items():
            name = "GPU" if kind in vendors.KINDS else "device"
            found = SICK if is_sick(why) else GPU
            remedy = f"restart the container: with another {name}, or when this one works again (see dmesg)"
            yield Finding(kind=found, what=f"{name} {quoted(uuid)}", why=why, remedy=remedy, repairable=False)


def _unlimited(entry: Entry) -> Iterator[Finding]:
    """Yield a finding if the daemon that held the container to its parts of GPUs has ended."""
    from oci_gpu_hook.apply.mps import ending, place

    name = place.name_of(entry.pid)
    if PIPE_OF_MPS in entry.mounts and not ending.is_alive(name):
        what = f"the MPS daemon of container {quoted(entry.id)}"
        why = "has ended: programs that it served fail, and those that start now have the whole GPU, without limits"
        yield Finding(kind=LIMITS, what=what, why=why, remedy="restart the container", repairable=False)


def _driver(entry: Entry, running: str) -> Iterator[Finding]:
    """Yield a finding if the kernel's driver differs from that of the container's files. running: "" for none."""
    if not entry.driver or entry.driver == running:
        return
    why = f"the kernel now runs driver {running}" if running else "no NVIDIA driver is loaded now"
    what = f"container {quoted(entry.id)} holds the files of driver {entry.driver}"
    yield Finding(kind=DRIVER, what=what, why=why, remedy="restart the container", repairable=False)

"""Whether a running container still has what it was given, and what to do where it has not.

What it was given is in its journal entry; what it has, `apply.condition` looks up; what is said about the difference is
`judge`, which is pure.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply import status as condition
from oci_gpu_hook.apply.process import Process
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.base.errors import HookError, InvalidInput, described_bug, quoted, reason
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.request.model import DEFAULT_KIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.status import Condition
    from oci_gpu_hook.base.config.model import Config

    Node = tuple[int, int]  # major, minor of a character device

# Kinds of findings. All but the first three are what `oci-gpu repair` puts back.
DRIVER: Final = "driver"
UNKNOWN: Final = "unknown"
GPU: Final = "gpu"
NODE: Final = "node"
RIGHTS: Final = "rights"
DROP_IN: Final = "drop-in"
MOUNT: Final = "mount"
LINK: Final = "link"
LD_CACHE: Final = "ld-cache"


class Host(Record):
    """What the host has now of what containers were given.

    driver: the version of the running kernel driver, "" where none is loaded. nodes: path in containers → numbers of
    the host's node, None where it has none. lost: (UUID, why) of GPUs that the host has no
    more or cannot use.
    """

    driver: str
    nodes: Mapping[str, Node | None]
    lost: tuple[tuple[str, str], ...] = ()


class Finding(Record):
    """Something that a container has lost, in the three parts of an error. repairable: by `oci-gpu repair`."""

    kind: str
    what: str
    why: str
    remedy: str
    repairable: bool = True

    def __str__(self) -> str:
        return str(HookError(self.what, self.why, self.remedy))


def verify(entry: Entry, config: Config) -> tuple[Finding, ...]:
    """Return what the container of an entry has lost; what keeps this process from looking is a finding too."""
    try:
        with Process(entry.pid) as process:
            check_alive(entry)  # from here on its /proc directory is held, so a number used again leads nowhere
            with Rootfs(process.open_rootfs(entry.rootfs)) as rootfs:
                check_root(entry, rootfs)
                found = condition.look(entry, process, rootfs)
        return tuple(judge(entry, found, look_at_host(entry, config)))
    except HookError as error:
        return (Finding(kind=UNKNOWN, what=error.what, why=error.why, remedy=error.remedy, repairable=False),)
    except OSError as error:
        what = f"cannot look into container {quoted(entry.id)}"
        remedy = "run this as root, in the host's namespaces; a container that is just ending is gone at the next look"
        return (Finding(kind=UNKNOWN, what=what, why=reason(error), remedy=remedy, repairable=False),)
    except Exception as error:  # noqa: BLE001  one container must not end a look at all of them
        what = f"cannot look into container {quoted(entry.id)}"
        remedy = "please report this with the container's config.json"
        return (Finding(kind=UNKNOWN, what=what, why=described_bug(error), remedy=remedy, repairable=False),)


def check_alive(entry: Entry) -> None:
    """Raise InvalidInput unless the container's first process lives."""
    if not entry.is_alive():
        raise InvalidInput(f"container {quoted(entry.id)}", "has ended", "name a container that runs")


def check_root(entry: Entry, rootfs: Rootfs) -> None:
    """Raise InvalidInput unless the root of the container's first process is the directory that its GPUs were put into.

    A process may change its root to a volume of the host; seen from there, the volume would be the container's rootfs.
    """
    found = os.fstat(rootfs.fd)
    if (found.st_dev, found.st_ino) != entry.rootfs_identity:
        why = "has another root directory than the one its GPUs were put into"
        raise InvalidInput(f"first process of container {quoted(entry.id)}", why, "restart the container")


def look_at_host(entry: Entry, config: Config) -> Host:
    """Return what the host has of what the container was given."""
    vendor = vendors.of(DEFAULT_KIND)
    dev_root = config.dev_root.rstrip("/")
    return Host(
        driver=vendor.running_driver(config),
        nodes={path: _numbers(f"{dev_root}{path}") for path in entry.node_paths},
        lost=tuple(vendor.lost(entry.gpus, config).items()),
    )


def judge(entry: Entry, found: Condition, host: Host) -> Iterator[Finding]:
    """Say what a container has lost, by what it was given and what it and the host have now."""
    yield from _driver(entry, host)
    for uuid, why in host.lost:
        remedy = "restart the container: with another GPU, or when this one works again (dmesg tells of it)"
        yield Finding(kind=GPU, what=f"GPU {quoted(uuid)}", why=why, remedy=remedy, repairable=False)
    yield from _nodes(entry, found, host)
    repair = f"run `oci-gpu repair {entry.id}`"
    paths = dict(zip(entry.nodes, entry.node_paths, strict=False))
    if found.refused:
        names = ", ".join(f"{paths.get(node, 'a device')} ({node[0]}:{node[1]})" for node in found.refused)
        why = "its rules were rewritten since: by a reload of systemd, or an update of the container by its engine"
        yield Finding(kind=RIGHTS, what=f"the device cgroup refuses {names}", why=why, remedy=repair)
    if found.unit and not found.covered:
        why = "systemd restricts its devices, and its next reload may take the GPUs away"
        yield Finding(kind=DROP_IN, what=f"{found.unit} has no drop-in for its GPUs", why=why, remedy=repair)
    for path in found.unmounted:
        why = "it was unmounted since"
        yield Finding(kind=MOUNT, what=f"{quoted(path)} is not mounted", why=why, remedy=repair)
    for path in found.stale:
        why = "shows what the host has deleted or replaced"
        # Without the journal's proof it could be anybody's mount, and is not the hook's to take away.
        proven = path in [proof[0] for proof in entry.mounted]
        remedy = repair if proven else "restart the container"
        yield Finding(kind=MOUNT, what=quoted(path), why=why, remedy=remedy, repairable=proven)
    for path in found.links:
        yield Finding(kind=LINK, what=f"link {quoted(path)}", why="is gone, or leads elsewhere", remedy=repair)
    if found.uncached:
        yield _ld_cache(found, repair)


def _driver(entry: Entry, host: Host) -> Iterator[Finding]:
    if not entry.driver or entry.driver == host.driver:
        return
    running = f"the kernel now runs driver {host.driver}" if host.driver else "no NVIDIA driver is loaded now"
    what = f"container {quoted(entry.id)} holds the files of driver {entry.driver}"
    yield Finding(kind=DRIVER, what=what, why=running, remedy="restart the container", repairable=False)


def _nodes(entry: Entry, found: Condition, host: Host) -> Iterator[Finding]:
    for path, given in zip(entry.node_paths, entry.nodes, strict=False):
        of_host, here = host.nodes.get(path), found.nodes.get(path)
        name = f"{given[0]}:{given[1]}"
        if of_host != given:
            why = f"the host's is {of_host[0]}:{of_host[1]} now" if of_host else "the host has it no more"
            what = f"device {quoted(path)}, given as {name}"
            remedy = "restart the container; without the host's node, run nvidia-modprobe or nvidia-smi there first"
            yield Finding(kind=NODE, what=what, why=why, remedy=remedy, repairable=False)
        elif here != given:
            why = f"is device {here[0]}:{here[1]} instead of {name}" if here else "is not there"
            remedy = f"run `oci-gpu repair {entry.id}`"
            yield Finding(kind=NODE, what=f"device {quoted(path)}", why=why, remedy=remedy)


def _ld_cache(found: Condition, repair: str) -> Finding:
    more = f" and {len(found.uncached) - 1} more" if len(found.uncached) > 1 else ""
    what = f"the ld cache does not list {quoted(found.uncached[0])}{more}"
    why = "it was written anew since" if found.has_cache else "there is none any more"
    return Finding(kind=LD_CACHE, what=what, why=why, remedy=repair)


def _numbers(path: str) -> Node | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (os.major(status.st_rdev), os.minor(status.st_rdev)) if stat.S_ISCHR(status.st_mode) else None

"""Takes the access to devices from a running container, for good or not at all. No file of the container is touched.

The order makes it safe. The journal says which devices are going: if this process is killed, whoever comes next goes by
that (`settling`). After the cgroup refuses the nodes nothing can be opened. Whoever has one open by then is found, and
last systemd is told. On an error everything is undone.
"""

from __future__ import annotations

import time

from oci_gpu_hook.apply.device_access import cgroup
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import ApplyError, quoted
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.edits import shown
from oci_gpu_hook.lifecycle import busy, descriptors, in_use
from oci_gpu_hook.lifecycle.freezing import Frozen
from oci_gpu_hook.lifecycle.members import Members
from oci_gpu_hook.oci import runtime_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Final

    from oci_gpu_hook.apply.device_access.model import DeviceCgroup
    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.edits import Numbers as Node
    from oci_gpu_hook.lifecycle.in_use import User
    from oci_gpu_hook.lifecycle.parting import Going
    from oci_gpu_hook.oci.container import Container

_LOOKS: Final = 10  # after which what is under way between processes is taken for something that stays so
_LOOK_AGAIN: Final = 0.1  # seconds
_PASSING: Final = (descriptors.UNDER_WAY, descriptors.IN_A_RING)


def take(  # noqa: PLR0913
    container: Container,
    entry: Entry,
    going: Going,
    config: Config,
    *,
    grace: float | None,
    check: Callable[[], None],
) -> tuple[User, ...]:
    """Take access, and leave noted in the journal that the devices are going; return the processes that were ended.

    grace: seconds between the request to end and the kill, None to end no process. check: raises to stop while
    processes are waited for. Raises Busy, HookError, OSError; then the container has what it had.
    """
    kept = [node for node in entry.nodes if node not in going.nodes]
    with cgroup.find(container.pid, container.cgroups_path) as devices:
        journal.write(config, entry.replace(changing=going.uuids))
        try:
            grant = cgroup.refuse(devices, [*going.nodes], container.device_rules)
            try:
                _check_refused(devices, going.nodes, entry)
                ended = _let_go(container, devices, going.nodes, config, grace, check)
                _tell_after_reload(entry.unit, kept)
            except BaseException:
                grant.undo()
                raise
            grant.close()
        except BaseException:
            _tell_after_reload(entry.unit, entry.nodes)
            journal.write(config, entry)
            raise
        _tell_systemd(entry.unit, kept, going.nodes)
        _refuse_again(devices, going, container)
    return ended


def give_back(container: Container, entry: Entry, config: Config) -> None:
    """Let a container use all nodes of its entry again, and note that nothing is going. Raises HookError, OSError."""
    with cgroup.find(container.pid, container.cgroups_path) as devices:
        cgroup.allow(devices, entry.nodes, container.device_rules).close()
    _tell_after_reload(entry.unit, entry.nodes)
    journal.write(config, entry.replace(changing=()))


def _check_refused(devices: DeviceCgroup, nodes: dict[Node, str], entry: Entry) -> None:
    """Raise ApplyError for a container that can open a node by a rule that is not this project's to take."""
    for node in _allowed(devices, nodes):
        what = f"{vendors.called(entry.gpus)} of container {quoted(entry.id)}"
        where = f"{nodes[node]} ({shown(node)})"
        why = f"its own device rules let it open {where}, as those of a privileged container do"
        raise ApplyError(what, why, "restart it with other device rules", "OGH1910")


def _allowed(devices: DeviceCgroup, nodes: Collection[Node]) -> list[Node]:
    """Return the nodes that the container may open. Call it after `cgroup.refuse`.

    That has failed for a device program which the kernel withholds and which is not known for certain. What is withheld
    here (None) was made by it.
    """
    return [node for node in nodes if cgroup.allows(devices, *node) is True]


def _let_go(  # noqa: PLR0913, PLR0917
    container: Container,
    devices: DeviceCgroup,
    nodes: Collection[Node],
    config: Config,
    grace: float | None,
    check: Callable[[], None],
) -> tuple[User, ...]:
    """Return the processes that were ended because they had a node open. Raises Busy for those that have it still.

    Only those are ended that are the container's for certain, and that have it open for certain.
    """
    members = Members(container.pid, devices, lambda: [each.pid for each in runtime_states.everything()])
    found = _found(members, container, devices, nodes, config)
    if found and grace is not None and not any(user.doubt for user in found):
        in_use.end(found, grace, check)
        if left := _found(members, container, devices, nodes, config):
            raise busy.Busy(left)
    elif found:
        raise busy.Busy(found)
    return found


def _found(
    members: Members, container: Container, devices: DeviceCgroup, nodes: Collection[Node], config: Config
) -> tuple[User, ...]:
    """Return those who have a node open; what only passes by between processes is given the time to.

    Where none of the container's own processes seems to have one, all are looked at while it is frozen, and nothing can
    pass by. Not before, because nobody can start a program in it for that moment. A look in which it did not stand
    still does not count. Raises AllocationError where none counts.
    """
    found: tuple[User, ...] = ()
    fault = ""
    for number in range(_LOOKS):
        if number:
            time.sleep(_LOOK_AGAIN)
        alone = members.is_alone()
        found, fault = (), ""
        if not alone or in_use.users(members, nodes, _own_processes(devices)):
            found = in_use.users(members, nodes)
        if not found and alone:
            with Frozen(container.pid, container.id, devices, config) as frozen:
                found = in_use.users(members, nodes)
                fault = frozen.fault()
        if any(user.doubt not in _PASSING for user in found) or not (fault or found):
            break
    if fault and not found:
        raise in_use.not_looked_at(members.pid, fault)
    return found


def _own_processes(devices: DeviceCgroup) -> list[int]:
    """Return the processes in the cgroups of the container, but for those below that of its first process."""
    found: list[int] = []
    for level in devices.levels:
        try:
            found += map(int, read_file("cgroup.procs", dir_fd=level).split())
        except OSError:
            continue
    return found


def _refuse_again(devices: DeviceCgroup, going: Going, container: Container) -> None:
    """Refuse the nodes once more if systemd, on cgroup v1, has written its own rules since."""
    if _allowed(devices, going.nodes):
        cgroup.refuse(devices, [*going.nodes], container.device_rules).close()


def _tell_after_reload(unit: str, nodes: Sequence[Node]) -> None:
    """Have systemd permit the unit these nodes from its next reload on. Raises ApplyError."""
    if not unit:
        return
    from oci_gpu_hook.apply.systemd import drop_in

    if nodes:
        drop_in.drop_in(unit, nodes)
    else:
        drop_in.remove(unit)


def _tell_systemd(unit: str, nodes: Sequence[Node], gone: Collection[Node]) -> None:
    """Have systemd permit the unit these nodes now, beside what is not this project's.

    gone: nodes that it must not permit any more, although it was told so once, at the start or by the runtime.
    """
    if not unit.endswith(".scope"):
        return
    from oci_gpu_hook.apply.systemd import drop_in, private_bus
    from oci_gpu_hook.apply.systemd.units import device_path

    ours = {device_path(node): "rw" for node in nodes}
    try:
        taken = {device_path(node) for node in gone}
        others = {path: access for path, access in drop_in.others(unit).items() if path not in taken}
        private_bus.allow_only(unit, {**others, **ours})
    except ApplyError as error:  # access is taken already, and the drop-in holds from the next reload on
        log.warning("warning", text=str(error))

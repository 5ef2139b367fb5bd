"""Finds the running container that a person names by name, id, beginning of an id, bundle, or a process in it."""

from __future__ import annotations

import os

from oci_gpu_hook.apply.journal import reader as entries
from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.oci import container as containers
from oci_gpu_hook.oci import runtime_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.oci.runtime_states import Running


def everything(config: Config) -> list[Entry]:
    """Return the entries, by id, of all running containers that were given something."""
    return [entry for entry in entries.read_all(config) if entry.is_alive()]


def named(name: str, config: Config) -> Entry:
    """Return the entry of the named container. Raises InvalidInput if the name fits no container, or several."""
    entries = everything(config)
    found = [entry for entry in entries if entry.id == name]
    found = found or [entry for entry in entries if name and _name_of(entry) == name]
    if not found and name.isdecimal():
        found = [entry for entry in entries if str(entry.pid) == name] or _around(name, entries)
    if not found and name.startswith("/"):
        found = [entry for entry in entries if os.path.normpath(entry.bundle) == os.path.normpath(name)]
    found = found or [entry for entry in entries if name and entry.id.startswith(name)]
    found = found or [entry for entry in entries if name and entry.id.endswith(f".{name}")]  # nested, under Mesos
    if len(found) == 1:
        return found[0]
    what = f"container {quoted(name)}"
    if len({entry.id for entry in found}) == 1:
        several = ", ".join(f"pid {entry.pid} (bundle {quoted(entry.bundle)})" for entry in found)
        remedy = "give its pid or its bundle"
        raise InvalidInput(what, f"is {len(found)} running containers: {several}", remedy, "OGH1901")
    if found:
        raise InvalidInput(what, "is the beginning of several ids", "give more of the id", "OGH1901")
    raise InvalidInput(
        what, "is not a running container that was given GPUs", "see `oci-gpu leases` for those that were", "OGH1901"
    )


def of_process(pid: int, config: Config) -> Entry:
    """Return the entry of the container that a process is in. Raises InvalidInput.

    Ids and names are no part of this: whoever chooses them could have another container taken for the one meant.
    """
    entries = everything(config)
    found = [entry for entry in entries if entry.pid == pid] or _around(str(pid), entries)
    if len(found) != 1:
        why = "is in no container that was given GPUs" if not found else "is in several containers"
        raise InvalidInput(f"process {pid}", why, "see `oci-gpu leases` for those that were", "OGH1901")
    return found[0]


def anyone(name: str, runtime_root: str = "") -> Running:
    """Return the running container meant, of any engine, whether it was given GPUs or not.

    name: its name or id, the start of its id, or the pid of a process in it. runtime_root: of a runtime whose state is
    at no usual place. Raises InvalidInput when it is none, or several.
    """
    found = meant(name, runtime_root)
    if found is None:
        what, why = f"container {quoted(name)}", "is not a running container of runc or crun"
        if os.geteuid() != 0:
            raise InvalidInput(what, f"{why} that this user may see", "run this as root", "OGH1901")
        remedy = "name one that `docker ps`, `podman ps` or `crictl ps` shows, or the pid of a process in it"
        raise InvalidInput(what, why, remedy, "OGH1901")
    return found


def meant(name: str, runtime_root: str = "") -> Running | None:
    """Do what `anyone` does, but return None when it is none."""
    living = list(runtime_states.everything(more=(runtime_root,) if runtime_root else ()))
    found = [one for one in living if one.id == name]
    found = found or [one for one in living if name and _name_of(one) == name]
    if not found and name.isdecimal():
        namespace = _mount_namespace(name)
        found = [one for one in living if namespace and _mount_namespace(str(one.pid)) == namespace]
    found = found or [one for one in living if name and one.id.startswith(name)]
    if len(found) > 1:
        why = f"is {len(found)} running containers"
        remedy = "give the whole id, or the pid of a process in it"
        raise InvalidInput(f"container {quoted(name)}", why, remedy, "OGH1901")
    return found[0] if found else None


def of_bundle(bundle: str, runtime_root: str = "") -> Running | None:
    """Return the running container of a bundle, None if it has none."""
    wanted = os.path.realpath(bundle)
    more = (runtime_root,) if runtime_root else ()
    return next((one for one in runtime_states.everything(more=more) if os.path.realpath(one.bundle) == wanted), None)


def container_of(running: Running | Entry) -> Container:
    """Return a running container as its bundle describes it. Raises InvalidInput."""
    state = containers.State(
        id=running.id, pid=running.pid, bundle=running.bundle, root=running.rootfs, annotations={}, status="running"
    )
    return containers.parse_config(containers.read_config(running.bundle), state)


def _name_of(running: Running | Entry) -> str:
    from oci_gpu_hook.oci import engine_records  # not for who names a container by its id

    return engine_records.name_of(running.id, running.rootfs)


def _around(pid: str, entries: list[Entry]) -> list[Entry]:
    """Return the entries of the containers whose mount namespace the process is in."""
    namespace = _mount_namespace(pid)
    return [entry for entry in entries if namespace and _mount_namespace(str(entry.pid)) == namespace]


def _mount_namespace(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""

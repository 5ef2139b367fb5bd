"""The user namespace in which a step's container is made, as rootless engines make one.

slurmstepd calls a runtime as the job's user. Who is root of a user namespace may mount in the mount namespaces that
belong to it, so the hook works there as it does under rootless Podman. The namespace has the ids that the bundle
maps, which is then taken out of the bundle: the container's own would be below it, where those ids have other numbers.
Root's containers are made so, too: in a user namespace a runtime leaves device rules alone, and those are Slurm's.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.document import member
from oci_gpu_hook.base.errors import ApplyError, InvalidInput, quoted, reason
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_WHAT: Final = "config.json"
_KINDS: Final = ("uid", "gid")


class Ids(Record):
    """The ids of a user namespace: rows of first id inside, first id outside and how many, of users and of groups."""

    uid: tuple[tuple[int, int, int], ...]
    gid: tuple[tuple[int, int, int], ...]


def own() -> Ids:
    """Return ids with this process's user and group alone, as root."""
    return Ids(uid=((0, os.geteuid(), 1),), gid=((0, os.getegid(), 1),))


def taken_from(config: dict[str, Any]) -> Ids:
    """Return the ids that a config.json maps, and take them out of it; this user's alone where it maps none.

    Raises InvalidInput.
    """
    linux = member(config, "linux", dict, _WHAT, {})
    found = {kind: _rows(linux.pop(f"{kind}Mappings", None), f"{kind}Mappings") for kind in _KINDS}
    spaces = member(linux, "namespaces", list, _WHAT, [])
    linux["namespaces"] = [each for each in spaces if member(each, "type", str, _WHAT) != "user"]
    return own().replace(**{kind: rows for kind, rows in found.items() if rows})


def enter(ids: Ids) -> None:
    """Become root of a new user namespace with these ids, and of a mount namespace that belongs to it.

    Raises ApplyError.
    """
    mine = own()
    try:
        if ids == mine:
            syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
            _write("setgroups", "deny")
            for kind in _KINDS:
                _write(f"{kind}_map", _text(getattr(ids, kind)))
        else:
            _enter_mapped(ids)
    except OSError as error:
        what = "cannot make a user namespace for the container"
        raise ApplyError(what, reason(error), _remedy(ids, mine), "OGH1713") from None


def _enter_mapped(ids: Ids) -> None:
    """Do it by a child outside, which has newuidmap and newgidmap write what /etc/subuid and /etc/subgid allow."""
    inside, outside = os.pipe()
    target = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(outside)
        os.read(inside, 1)  # the end of the file: the namespace is there
        os._exit(_map(target, ids))
    os.close(inside)
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    finally:
        os.close(outside)
        _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status):
        raise ApplyError("newuidmap", "does not map the ids of the bundle", _remedy(ids, own()), "OGH1713")


def _map(target: int, ids: Ids) -> int:
    for kind in _KINDS:
        words = [str(number) for row in getattr(ids, kind) for number in row]
        program = f"new{kind}map"
        if os.spawnvp(os.P_WAIT, program, [program, str(target), *words]):  # noqa: S606
            return 1
    return 0


def _remedy(ids: Ids, mine: Ids) -> str:
    if ids == mine:
        return "let users make user namespaces (sysctl user.max_user_namespaces), as rootless runc needs too"
    return "install uidmap, and give the user those ids in /etc/subuid and /etc/subgid, or map the user's own id alone"


def _write(name: str, text: str) -> None:
    fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _text(rows: tuple[tuple[int, int, int], ...]) -> str:
    return "".join(f"{inside} {outside} {size}\n" for inside, outside, size in rows)


def _rows(mappings: object, what: str) -> tuple[tuple[int, int, int], ...]:
    if mappings is None:
        return ()
    if type(mappings) is not list:
        raise InvalidInput(
            f"{_WHAT}: {what}", f"is not an array: {quoted(mappings)}", "see the OCI runtime specification", "OGH1002"
        )
    names = ("containerID", "hostID", "size")
    rows = [tuple(member(each, name, int, f"{_WHAT}: {what}", -1) for name in names) for each in mappings]
    if any(number < 0 for row in rows for number in row):
        raise InvalidInput(f"{_WHAT}: {what}", "lacks a number", "see the OCI runtime specification", "OGH1002")
    return tuple((row[0], row[1], row[2]) for row in rows)


def become(user: str) -> None:
    """Give up root for good, and be the job's user. Raises ApplyError.

    Slurm cleans up as root, with a runtime's state that the user could have written.
    """
    import pwd

    try:
        entry = pwd.getpwnam(user)
        os.initgroups(user, entry.pw_gid)
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        syscalls.be_dumpable()  # to write its own id maps; its memory has nothing of root
    except (KeyError, OSError) as error:
        why = reason(error) if isinstance(error, OSError) else "is not known on this node"
        raise ApplyError(
            f"user {quoted(user)}", why, "check that the node knows the cluster's users", "OGH1713"
        ) from None

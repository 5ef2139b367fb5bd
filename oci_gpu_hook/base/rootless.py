"""Rootless engines run the hook as root of a user namespace, which owns no directory of the host's root.

There the state is the user's own, so leases count among the containers of that user alone: those of other users cannot
be seen, nor can their processes.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.files import read_start
from oci_gpu_hook.base.trust import is_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

_MAP_SIZE: Final = 4096
_WHOLE: Final = b"4294967295"  # user_namespaces(7): the first one maps every id to itself


def in_first_user_namespace(uid_map: str = "/proc/self/uid_map") -> bool:
    """Tell whether this process is in the user namespace of the host, where uid 0 is the host's root."""
    return _WHOLE in read_start(uid_map, _MAP_SIZE)


def state_directory(configured: str, uid_map: str = "/proc/self/uid_map", runtime_root: str = "/run/user") -> str:
    """Return the state directory that this process can use: the configured one, or the user's own in a user namespace.

    The user's own is in /run/user/UID (what logind makes, XDG_RUNTIME_DIR), or in /tmp where there is none.
    """
    ids = read_start(uid_map, _MAP_SIZE)
    if _WHOLE in ids:
        return configured
    try:
        found = os.lstat(configured)
        if is_trusted(found) and os.access(configured, os.W_OK | os.X_OK):
            return configured  # root of this namespace made it: a container in a container
    except OSError:
        pass
    uid = host_id_of_root(_rows(ids), os.geteuid())
    directory = f"{runtime_root}/{uid}"
    if _is_own(directory):
        return f"{directory}/oci-gpu-hook"
    return f"/tmp/oci-gpu-hook-{uid}"  # noqa: S108  its owner and mode are checked at every use (state.directory)


def _rows(ids: bytes) -> Iterator[tuple[int, int]]:
    """Yield the first id of each range inside, and outside. The kernel aligns its numbers with spaces."""
    for row in ids.split(b"\n"):
        fields = row.split()
        if len(fields) == 3:
            yield int(fields[0]), int(fields[1])


def host_id_of_root(mappings: Iterable[tuple[int, int]], default: int) -> int:
    """Return the id outside of a user namespace that its id 0 stands for; `default` where it is not mapped.

    mappings: the first id of each range inside, and outside (user_namespaces(7)).
    """
    return next((outside for inside, outside in mappings if inside == 0), default)


def _is_own(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_uid == os.geteuid() and is_trusted(found)

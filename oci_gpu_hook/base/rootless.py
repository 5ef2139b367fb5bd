"""Rootless engines run the hook as root of a user namespace, which owns none of the directories of the host's root.

There the state directory is the user's own, so leases count only among the containers of that user: neither the
containers of other users nor their processes can be seen.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.files import read_start
from oci_gpu_hook.base.trust import is_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

OVERFLOW: Final = 65534  # the kernel shows this id for one that a user namespace does not map (user_namespaces(7))
_MAP_SIZE: Final = 4096
_WHOLE: Final = b"4294967295"  # user_namespaces(7): the initial one maps every id to itself


def in_first_user_namespace(uid_map: str = "/proc/self/uid_map") -> bool:
    """Tell whether this process is in the host's user namespace, where uid 0 is the host's root."""
    return _WHOLE in read_start(uid_map, _MAP_SIZE)


def is_hosts_root(root: str = "/") -> bool:
    """Tell whether this process is the root whose files the host's are, and not that of a user's namespace."""
    return os.geteuid() == 0 and os.stat(root).st_uid == 0


def state_directory(configured: str, uid_map: str = "/proc/self/uid_map", runtime_root: str = "/run/user") -> str:
    """Return the state directory that this process can use: the configured one or, in a user namespace, the user's.

    The user's is in /run/user/UID (made by logind, XDG_RUNTIME_DIR), or in /tmp if that does not exist.
    """
    ids = read_start(uid_map, _MAP_SIZE)
    if _WHOLE in ids:
        return configured
    try:
        found = os.lstat(configured)
        if is_trusted(found) and os.access(configured, os.W_OK | os.X_OK):
            return configured  # this namespace's root made it: a container in a container
    except OSError:
        pass
    uid = host_id_of_root(_rows(ids), os.geteuid())
    directory = f"{runtime_root}/{uid}"
    if _is_own(directory):
        return f"{directory}/oci-gpu-hook"
    return f"/tmp/oci-gpu-hook-{uid}"  # noqa: S108  its owner and mode are checked at every use (state.directory)


def _rows(ids: bytes) -> Iterator[tuple[int, int]]:
    """Yield the first id of each range, inside and outside. The kernel pads its numbers with spaces."""
    for row in ids.split(b"\n"):
        fields = row.split()
        if len(fields) == 3:
            yield int(fields[0]), int(fields[1])


def host_id_of_root(mappings: Iterable[tuple[int, int]], default: int) -> int:
    """Return the id outside a user namespace that its id 0 maps to, `default` if it is not mapped.

    mappings: the first id of each range, inside and outside (user_namespaces(7)).
    """
    return next((outside for inside, outside in mappings if inside == 0), default)


def _is_own(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_uid == os.geteuid() and is_trusted(found)

"""Rootless engines run the hook as root of a user namespace, which owns no directory of the host's root.

Then state is the user's own, so leases are kept among the containers of that user: another user's are out of sight, as
their processes are.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.state import is_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_WHOLE: Final = b"4294967295"  # user_namespaces(7): the first one maps every id to itself


def in_first_user_namespace(uid_map: str = "/proc/self/uid_map") -> bool:
    """Tell whether this process is in the user namespace of the host, where uid 0 is the host's root."""
    return _WHOLE in _read(uid_map)


def state_directory(configured: str, uid_map: str = "/proc/self/uid_map", runtime_root: str = "/run/user") -> str:
    """Return the state directory that this process can use: the configured one, or the user's own in a user namespace.

    The user's own is in /run/user/UID (what logind makes, XDG_RUNTIME_DIR), or in /tmp where there is none.
    """
    ids = _read(uid_map)
    if _WHOLE in ids:
        return configured
    try:
        found = os.lstat(configured)
        if is_trusted(found) and os.access(configured, os.W_OK | os.X_OK):
            return configured  # root of this namespace made it: a container in a container
    except OSError:
        pass
    uid = _host_id(ids)
    directory = f"{runtime_root}/{uid}"
    if _is_own(directory):
        return f"{directory}/oci-gpu-hook"
    return f"/tmp/oci-gpu-hook-{uid}"  # noqa: S108  its owner and mode are checked at every use (state.directory)


def _host_id(ids: bytes) -> int:
    """Return what root of this namespace is called in the one above (user_namespaces(7): inside, outside, count)."""
    for row in ids.split(b"\n"):
        fields = row.split()  # numbers, which the kernel aligns with spaces
        if len(fields) == 3 and fields[0] == b"0":
            return int(fields[1])
    return os.geteuid()


def _is_own(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_uid == os.geteuid() and is_trusted(found)


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)

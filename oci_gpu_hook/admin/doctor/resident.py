"""The resident, where it is installed: whether it listens, answers, and is of this version."""

from __future__ import annotations

import os

from oci_gpu_hook.admin.doctor.model import NOTE, OK, WARNING, Finding, Host
from oci_gpu_hook.admin.engines import resident
from oci_gpu_hook.admin.install import place
from oci_gpu_hook.admin.install.front_file import read_front
from oci_gpu_hook.base.errors import reason
from oci_gpu_hook.entrypoints.resident import SOCKET, asking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_NAME: Final = "resident"
_WITHOUT: Final = "containers start as without it"
_RESTART: Final = f"systemctl restart {resident.SOCKET_UNIT}; journalctl -u {resident.SERVICE_UNIT} says why it ended"


def check(host: Host, address: str = SOCKET) -> Iterator[Finding]:
    """Ask it as a hook's front does."""
    path = host.path(address)
    if not os.path.exists(path):
        if resident.is_installed(host.root):
            what = "the resident is installed, but nothing listens on its socket"
            remedy = (
                f"systemctl daemon-reload && systemctl reset-failed {resident.SOCKET_UNIT} {resident.SERVICE_UNIT}"
                f" && systemctl start {resident.SOCKET_UNIT}"
            )
            yield Finding(check=_NAME, severity=WARNING, what=what, why=_WITHOUT, remedy=remedy)
        return
    hook = host.path(os.path.join(place.installed_directory(), "oci-gpu-hook"))
    front = read_front(hook) if os.path.exists(hook) else None
    if front is None or front.resident != address:
        what = "the resident's socket is there, but no front uses it"
        yield Finding(check=_NAME, severity=NOTE, what=what, why=_WITHOUT, remedy="run `oci-gpu hook-path` as root")
        return
    if os.geteuid():
        raise PermissionError(0, "only root may ask the resident", path)
    try:
        is_ready = asking.is_ready(path, front.stub)
    except OSError as error:
        what = f"the resident does not answer ({reason(error)})"
        why = f"{_WITHOUT}, 50 ms later"
        yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=_RESTART)
        return
    if is_ready:
        yield Finding(check=_NAME, severity=OK, what="the resident answers, and is of this version")
        return
    what = "the resident refuses hooks of this installation, in these namespaces and with these rights"
    yield Finding(check=_NAME, severity=WARNING, what=what, why=_WITHOUT, remedy=_RESTART)

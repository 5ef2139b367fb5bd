"""The resident's units of systemd. It is no engine, but `oci-gpu install resident` makes files as for one."""

from __future__ import annotations

import os

from oci_gpu_hook.admin.engines import files
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.model import Change, Steps
from oci_gpu_hook.admin.install.front_file import read_front
from oci_gpu_hook.admin.install.programs import INTERPRETER_OPTIONS
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.entrypoints.resident import SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.admin.engines.model import Target

DIRECTORY: Final = "/etc/systemd/system"
PACKAGED: Final = "/usr/lib/systemd/system"
SOCKET_UNIT: Final = "oci-gpu-hook.socket"
SERVICE_UNIT: Final = "oci-gpu-hook.service"
_WANTED: Final = f"{DIRECTORY}/sockets.target.wants/{SOCKET_UNIT}"
_STUB: Final = "oci-gpu-resident.py"
# Those of package/ have the same text, and the paths of the package.
SOCKET_TEXT: Final = f"""\
[Unit]
Description=Where containers' hooks find the resident of oci-gpu-hook
Documentation=man:oci-gpu-hook(8)

[Socket]
ListenSequentialPacket={SOCKET}
SocketMode=0600
# That of the state directory: only root may enter it.
DirectoryMode=0700
Backlog=128
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""
SERVICE_TEXT: Final = """\
[Unit]
Description=Serve containers' hooks without a new interpreter
Documentation=man:oci-gpu-hook(8)
Requires=oci-gpu-hook.socket

[Service]
Type=exec
ExecStart={interpreter} {options} {stub}
# A worker that has begun finishes, as a hook does. A limit of memory would fail containers that start without this.
KillMode=process
OOMPolicy=continue
OOMScoreAdjust=-500
"""


def install(target: Target) -> Steps:
    """Return the units, enabled at boot. Raises EngineFileError."""
    packaged = f"{PACKAGED}/{SOCKET_UNIT}"
    changes: list[Change] = []
    at = PACKAGED
    if not os.path.exists(target.path(packaged)):
        at = DIRECTORY
        for name, text in ((SOCKET_UNIT, SOCKET_TEXT), (SERVICE_UNIT, _service(target))):
            path = target.path(f"{DIRECTORY}/{name}")
            before = files.read(path)
            if before != text.encode():
                changes.append(Change(path=path, before=before, after=text.encode()))
    changes += _link(target, f"{at}/{SOCKET_UNIT}")
    start = f"systemctl daemon-reload && systemctl start {SOCKET_UNIT}"
    return Steps(changes=tuple(changes), notes=(f"containers start without it until: {start}",) if changes else ())


def uninstall(target: Target) -> Steps:
    """Return the removal of the units that `install` has made, and of the link by which they are enabled."""
    changes: list[Change] = []
    wanted = target.path(_WANTED)
    if linked := files.read_link(wanted):
        changes.append(Change(path=wanted, before=linked.encode(), after=None, link=True))
    for name in (SOCKET_UNIT, SERVICE_UNIT):
        path = target.path(f"{DIRECTORY}/{name}")
        before = files.read(path)
        if before is not None:
            changes.append(Change(path=path, before=before, after=None))
    stop = f"systemctl stop {SOCKET_UNIT} {SERVICE_UNIT}; systemctl daemon-reload"
    return Steps(changes=tuple(changes), notes=(f"it serves hooks until: {stop}",) if changes else ())


def is_installed(root: str) -> bool:
    """Tell whether the socket is enabled at boot."""
    return os.path.lexists(os.path.join(root, _WANTED.lstrip("/")))


def _service(target: Target) -> str:
    """Return the service for the interpreter that the front starts, the distribution's in an image being built."""
    interpreter = "/usr/bin/python3"
    if target.root == "/" and os.path.exists(target.hook):
        front = read_front(target.hook)
        if front is None:
            why = "is not the static front, and only that asks the resident"
            raise EngineFileError(
                quoted(target.hook), why, "install a C compiler, and reinstall oci-gpu-hook", "OGH1819"
            )
        interpreter = front.interpreter
    stub = os.path.join(os.path.dirname(target.hook), _STUB)
    for path in (interpreter, stub):
        if any(c.isspace() or c in "%\"'\\$" for c in path):
            raise EngineFileError(
                quoted(path), "cannot be in a systemd unit", "install the executables below /usr", "OGH1819"
            )
    return SERVICE_TEXT.format(interpreter=interpreter, options=INTERPRETER_OPTIONS, stub=stub)


def _link(target: Target, unit: str) -> list[Change]:
    wanted = target.path(_WANTED)
    linked = files.read_link(wanted)
    if linked == unit:
        return []
    if linked == "":
        raise EngineFileError(quoted(wanted), "is not a link", "move it away", "OGH1816")
    return [Change(path=wanted, before=None if linked is None else linked.encode(), after=unit.encode(), link=True)]

"""The executables: whether they are installed, are of this version, start an existing Python, and belong to root."""

from __future__ import annotations

import os
import subprocess  # noqa: TID253

from oci_gpu_hook.admin.doctor.model import ERROR, NOTE, OK, WARNING, Finding, Host
from oci_gpu_hook.admin.install import bytecode, executables, place, trusted_files
from oci_gpu_hook.admin.install.front_file import read_front
from oci_gpu_hook.base.errors import HookError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_NAME: Final = "executables"
_LAY: Final = "run `oci-gpu hook-path` as root"
_NO_STAGE: Final = "doctor"  # Python answers with the usage; what it refuses of a real stage is logged as a container's


def check(host: Host) -> Iterator[Finding]:
    """Check both executables, and start the hook as an engine would."""
    directory = place.installed_directory() if host.root == "/" else place.SYSTEM_DIRECTORY
    hook = host.path(os.path.join(directory, "oci-gpu-hook"))
    if not os.path.exists(hook):
        what = f"{hook} is not installed"
        why = "engines have nothing to call"
        yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=f"{_LAY}, or `oci-gpu install ENGINE`")
        return
    yield from _owners(hook)
    for path in (hook, os.path.join(directory, "oci-gpu-runtime")):
        if os.path.exists(path):
            yield from _front(path)
    yield from _start(hook)
    is_checkout = executables.is_checkout()
    stale = bytecode.stale(executables.PACKAGE, is_checkout=is_checkout)
    if stale:
        what = f"the byte code of {len(stale)} modules is not that of their source, as {quoted(stale[0])}"
        why = "starts are slower" if is_checkout else "what runs is the old code, not the edited source"
        severity = NOTE if is_checkout else WARNING
        yield Finding(check=_NAME, severity=severity, what=what, why=why, remedy=_LAY)


def _owners(hook: str) -> Iterator[Finding]:
    for path, tree in ((hook, False), (executables.PACKAGE, True)):
        try:
            warnings = trusted_files.check_owners(path, tree=tree)
        except HookError as error:
            yield Finding(check=_NAME, severity=ERROR, what=error.what, why=error.why, remedy=error.remedy)
            continue
        for text in warnings:
            yield Finding(check=_NAME, severity=WARNING, what=text, remedy="install it as root, below /usr")


def _front(path: str) -> Iterator[Finding]:
    front = read_front(path)
    if front is None:
        what = f"{path} is a script: the static front was not built"
        why = "containers that ask for nothing start some milliseconds later, and Python sees the engine's environment"
        remedy = "install a C compiler, reinstall oci-gpu-hook, and run `oci-gpu hook-path`"
        yield Finding(check=_NAME, severity=NOTE, what=what, why=why, remedy=remedy)
        return
    if not front.is_current:
        what = f"{path} is of another version of this package"
        why = "it may not understand what this version expects of it"
        yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=_LAY)
    for needed in filter(None, (front.interpreter, front.stub, front.program)):
        if not os.path.exists(needed):
            what = f"{path} starts {quoted(needed)}, which is gone"
            why = (
                "containers that ask for a GPU fail to start"
                if needed != front.program
                else "no container starts with it"
            )
            yield Finding(
                check=_NAME, severity=ERROR, what=what, why=why, remedy=f"{_LAY}; after each upgrade of Python"
            )


def _start(hook: str) -> Iterator[Finding]:
    """Start the hook in a hostile environment for a stage that does not exist, and expect its usage."""
    environment = {"PYTHONPATH": "/nonexistent", "PYTHONHOME": "/nonexistent", "LD_LIBRARY_PATH": "/nonexistent"}
    try:
        done = subprocess.run(
            [hook, _NO_STAGE], input=b"", env=environment, capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding(check=_NAME, severity=ERROR, what=f"{hook} does not run", why=str(error), remedy=_LAY)
        return
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode == 2 and said.startswith("usage: oci-gpu-hook"):
        front = read_front(hook)
        by = f" by {front.interpreter}" if front else ""
        yield Finding(check=_NAME, severity=OK, what=f"{hook} runs{by}")
    else:
        why = f"exit status {done.returncode}, {quoted(said)}"
        yield Finding(check=_NAME, severity=ERROR, what=f"{hook} does not answer as it should", why=why, remedy=_LAY)

"""Runs the hooks of a container's config.json that come before its own command, as an OCI runtime does.

Those of `createContainer` run in the container's mount namespace before it pivots, where the host is still `/`; those
of `prestart` and `createRuntime` in a copy of that. All are programs of the host, which a CDI specification names.
Source: OCI runtime specification 1.2, config.md ("POSIX-platform Hooks").
"""

from __future__ import annotations

import os

from oci_gpu_hook.apply.process import Process
from oci_gpu_hook.base import limits, syscalls
from oci_gpu_hook.base.cpython import signals
from oci_gpu_hook.base.document import dump, member
from oci_gpu_hook.base.errors import ApplyError, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn

    from oci_gpu_hook.oci.container import Container

STAGES: Final = ("prestart", "createRuntime", "createContainer")
_INSIDE: Final = "createContainer"
_PATH: Final = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_STARTED: Final = 127
_SAID: Final = 400  # characters of what a hook has said that a message shows


def run(document: dict[str, Any], container: Container) -> None:
    """Run the hooks in order. Raises ApplyError for one that fails."""
    hooks = member(document, "hooks", dict, "config.json", {})
    state = {
        "ociVersion": member(document, "ociVersion", str, "config.json", ""),
        "id": container.id,
        "status": "creating",
        "pid": container.pid,
        "bundle": container.bundle,
        "annotations": container.annotations,
    }
    with Process(container.pid) as process:
        for stage in STAGES:
            for hook in member(hooks, stage, list, "config.json", []):
                _run(stage, hook, dump(state), process)


def _run(stage: str, hook: dict[str, Any], state: bytes, process: Process) -> None:
    from select import select

    seconds = hook.get("timeout") or limits.MESOS_HOOK_SECONDS
    given, said = os.memfd_create("state"), os.memfd_create("said")
    try:
        os.write(given, state)
        os.lseek(given, 0, os.SEEK_SET)
        child = os.fork()
        if child == 0:
            _become(hook, given, said, process if stage == _INSIDE else None)
        handle = os.pidfd_open(child)
        try:
            ended = bool(select([handle], [], [], seconds)[0])
        finally:
            os.close(handle)
        if not ended:
            _kill(child)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        text = os.pread(said, _SAID, 0).decode("utf-8", "replace").strip()
    finally:
        os.close(given)
        os.close(said)
    if ended and status == 0:
        return
    how = f"ended with status {status}" if ended else f"has not ended within {seconds:g} s"
    remedy = "see what the author of the specification says of that hook, or ask for a device without it"
    what = f"CDI hook {quoted(hook['path'])} ({stage})"
    raise ApplyError(what, f"{how}, and said {quoted(text)}" if text else how, remedy, "OGH1519")


def _kill(child: int) -> None:
    """Kill a hook and what it has started, as far as that has stayed in its process group."""
    for kill, number in ((os.killpg, child), (os.kill, child)):  # it has no group before it has made one
        try:
            kill(number, syscalls.SIGKILL)
        except ProcessLookupError:
            continue


def _become(hook: dict[str, Any], given: int, said: int, inside: Process | None) -> NoReturn:
    """Become the hook, in this child process. inside: whose mount namespace it runs in, None for this one."""
    try:
        os.setpgid(0, 0)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for standard, fd in enumerate((given, null, said)):
            os.dup2(fd, standard)
        syscalls.die_with_parent()
        signals.restore()
        path = os.fsencode(hook["path"])
        arguments = [os.fsencode(each) for each in hook.get("args") or (hook["path"],)]
        environment = [os.fsencode(each) for each in hook.get("env") or (_PATH,)]
        if inside:
            inside.enter()
        syscalls.execve(path, arguments, environment)
    except (ApplyError, OSError) as error:
        os.write(2, os.fsencode(error.why if isinstance(error, ApplyError) else reason(error)))
    finally:
        os._exit(_NOT_STARTED)

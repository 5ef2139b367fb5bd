"""The helper that Mesos agents start: `mesos-containerizer …`, which adds GPUs and leaves all else to the real helper.

If a container with an image asks for GPUs, a command is added to its launch that runs before the container's own:
`attach`. Every other call, and every launch that is not understood, reaches the real helper byte for byte: arguments,
environment, descriptors, working directory, signals. The front (front/mesos.c) passes only launches on to Python. Exit
status: the real helper's, or 1 with one line on stderr, which is the task's.
"""

from __future__ import annotations

import gc
import os

from oci_gpu_hook.base import streams
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.cpython import signals
from oci_gpu_hook.base.document import dump
from oci_gpu_hook.base.errors import BUG, ApplyError, HookError, InvalidInput, quoted, reason
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.entrypoints.hook import describe_bug
from oci_gpu_hook.entrypoints.mesos import accounting, bundle, cgroups, launch_info, resources
from oci_gpu_hook.entrypoints.mesos.complaint import complain
from oci_gpu_hook.entrypoints.mesos.launch_info import Call
from oci_gpu_hook.request.prefilter import may_ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final, NoReturn

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.entrypoints.mesos.cgroups import Cgroup
    from oci_gpu_hook.entrypoints.mesos.launch_info import Member, Place

ATTACH: Final = "attach-gpus"  # front/mesos.c
# include/linux/binfmts.h, MAX_ARG_STRLEN: 32 pages, with the NUL
_LONGEST_TEXT: Final = 32 * os.sysconf("SC_PAGESIZE") - 1


class Launch(Record):
    """A launch that asks for GPUs: the place of its launch information, and the config.json of its container."""

    place: Place
    text: str
    members: dict[str, Member]
    document: dict[str, Any]
    container: str
    config: Config


def main(arguments: Sequence[str], real_helper: str, front: str, config_path: str) -> NoReturn:
    """Handle a call, and end the process. install.executables.write_mesos_front describes `arguments`."""
    gc.disable()
    streams.fill()
    if arguments[0] == ATTACH:
        from oci_gpu_hook.entrypoints.mesos import attach

        os._exit(attach.run(arguments[1:], config_path))
    try:
        ignored, environment = _environment(int(arguments[0]))
        call = Call(arguments=tuple(map(os.fsencode, arguments[1:])), environment=environment)
        launch = _find_or_pass(call, config_path)
        _become(real_helper, with_hook(launch, call, front) if launch else call, ignored)
    except HookError as error:
        complain(str(error), error.code, config_path)
    except Exception as error:  # noqa: BLE001  a bug: the task's stderr shows one line, so it names the place
        complain(describe_bug(error), BUG, config_path)
    os._exit(1)


def find(call: Call, config_path: str) -> Launch | None:
    """Return the launch that asks for GPUs, None if the call is only for the real helper.

    Raises HookError if the container asks for GPUs in a way that cannot be served.
    """
    place = launch_info.place_of(b"launch_info", call)
    text = launch_info.value_at(place, call) if place else ""
    found = launch_info.members(text)
    if place is None or not found or not launch_info.text_of(found, "rootfs").startswith("/"):
        return None
    config, trouble = configs.load_or_defaults(config_path)
    cgroup = gpus = None
    troubles: list[HookError] = [trouble] if trouble else []
    try:
        cgroup = cgroups.of_process(read_file("/proc/self/cgroup"))
        gpus = resources.gpus(_runtime_directory(place, call, cgroup))
    except InvalidInput as error:
        troubles.append(error)
    document = bundle.config_of(found, cgroup)
    if not accounting.asks(document, gpus, config):
        return None
    if troubles or cgroup is None:
        raise troubles[0]
    return Launch(place=place, text=text, members=found, document=document, container=cgroup.name, config=config)


def with_hook(launch: Launch, call: Call, front: str) -> Call:
    """Write the bundle, and return the call with the command that attaches the GPUs. Raises HookError."""
    config = configs.of_this_user(launch.config)
    try:
        bundle.drop_ended(config)
        bundle.add_user(launch.document, launch.members)
        text, members = _with_described(launch, config)
        directory = bundle.write(launch.document, launch.container, config)
    except OSError as error:
        what = f"cannot keep the bundle of container {quoted(launch.container)} in {quoted(config.state_dir)}"
        raise ApplyError(
            what, reason(error), "make room there, or name another directory ([state] dir)", "OGH1506"
        ) from None
    # Mesos shows this line in the task's sandbox, so it must contain no secret.
    command = {"shell": False, "value": front, "arguments": [os.path.basename(front), ATTACH, directory]}
    text = launch_info.with_command(text, members, dump(command).decode("ascii"))
    if len(launch.place.prefix) + len(text.encode("utf-8", "surrogateescape")) > _LONGEST_TEXT:
        why = f"would be longer than {_LONGEST_TEXT} bytes, which is the most that the kernel hands over"
        raise InvalidInput("launch information", why, "make the task's environment or command shorter", "OGH1703")
    return launch_info.with_value(launch.place, text, call)


def _with_described(launch: Launch, config: Config) -> tuple[str, dict[str, Member]]:
    """Return the launch information with what CDI specification files bring, and its members. Raises HookError."""
    if not accounting.names_other_kinds(launch.document, config):
        return launch.text, launch.members
    from oci_gpu_hook.entrypoints.mesos import described

    text = described.added(launch.text, launch.document, launch.container, config)
    return text, launch_info.members(text) or {}


def _find_or_pass(call: Call, config_path: str) -> Launch | None:
    """Do what `find` does. Every container with an image comes here, so a bug may fail only those that may ask."""
    try:
        return find(call, config_path)
    except HookError:
        raise
    except Exception:  # a bug
        if may_ask(b"\0".join((*call.arguments, *call.environment)), b""):
            raise
        return None


def _runtime_directory(place: Place, call: Call, cgroup: Cgroup) -> str:
    """Return the container's runtime directory, in which the agent records what it was given."""
    directory = ""
    if place.by_argument:
        directory = resources.directory_of_ancestors(cgroup.container)
    elif stated := launch_info.place_of(b"runtime_directory", call):
        directory = launch_info.value_at(stated, call)
    return directory or os.path.join("/var/run/mesos/containers", cgroup.container)


def _environment(fd: int) -> tuple[tuple[int, ...], tuple[bytes, ...]]:
    """Return the ignored signals and the environment, which the front passes in a descriptor, and close it."""
    with open(fd, "rb") as file:
        first, *entries = file.read().split(b"\0")[:-1]
    return tuple(map(int, first.split())), tuple(entries)


def _become(real_helper: str, call: Call, ignored: Sequence[int]) -> NoReturn:
    """Become the real helper, in the state in which this process was started. Raises ApplyError."""
    from oci_gpu_hook.base import syscalls

    signals.restore(ignored)
    try:
        syscalls.execve(os.fsencode(real_helper), call.arguments, call.environment)
    except OSError as error:
        why, remedy = reason(error), "install Mesos there, or run `oci-gpu install mesos` for where it is"
        raise ApplyError(
            f"cannot start the real mesos-containerizer {quoted(real_helper)}", why, remedy, "OGH1511"
        ) from None
    raise AssertionError("execve returned")

"""The command that runs in a Mesos container before its own: `mesos-containerizer attach-gpus BUNDLE`.

The real helper starts it as root, in the container's namespaces and cgroups, after all mounts of the container are made
and before it pivots: the host is still `/`, and the container is at launch_info.rootfs. If the GPUs cannot be attached,
it writes one line to the task's stderr and exits with status 1; then the helper fails the launch.
"""

from __future__ import annotations

import os
import time

from oci_gpu_hook.apply.device_access import cgroup as device_cgroups
from oci_gpu_hook.apply.watch import Watch
from oci_gpu_hook.base import mount_table, syscalls
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.document import member
from oci_gpu_hook.base.document import parse as parse_json
from oci_gpu_hook.base.errors import BUG, ApplyError, HookError, InvalidInput, quoted, reason
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.processes import parent
from oci_gpu_hook.entrypoints.mesos import cgroups, proc_of_host
from oci_gpu_hook.entrypoints.mesos.bundle import CONTAINER
from oci_gpu_hook.entrypoints.mesos.complaint import complain
from oci_gpu_hook.oci import container as containers
from oci_gpu_hook.oci.container import State
from oci_gpu_hook.request import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oci_gpu_hook.apply.device_access.model import DeviceCgroup
    from oci_gpu_hook.apply.process import Process
    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.lifecycle.restriction import Restriction
    from oci_gpu_hook.oci.container import Container


def run(arguments: Sequence[str], config_path: str) -> int:
    """Attach the GPUs; return the exit status."""
    from oci_gpu_hook.entrypoints.hook import describe_bug

    try:
        (bundle,) = arguments  # written by `shim.with_hook`
        attach(bundle, config_path)
    except HookError as error:
        complain(str(error), error.code, config_path)
    except Exception as error:  # noqa: BLE001  a bug: the task's stderr shows one line, so it names the place
        complain(describe_bug(error), BUG, config_path)
    else:
        return 0
    return 1


def attach(bundle: str, config_path: str) -> None:
    """Give the container of a bundle the GPUs that it asks for. If this raises HookError, it has none."""
    started = time.perf_counter()
    config = configs.of_this_user(configs.load(config_path))
    proc_of_host.enter()
    pid = parent()  # the helper
    document = parse_json(containers.read_config(bundle), bundle)
    state = State(id=_name(document, bundle), pid=pid, bundle=bundle, root="", annotations={})
    container = containers.of_document(document, state)
    request = parse.parse(container, config)
    if request is None:
        return  # the configuration was changed meanwhile, and no longer lets it ask

    from oci_gpu_hook.lifecycle import start

    with device_cgroups.find(container.pid, container.cgroups_path) as found:
        restriction = _restriction(found)
        _leave(found, container)
    with Watch(container.id, read_file(f"/proc/{container.pid}/mountinfo"), container.rootfs):
        container = _prepared(container, config)
    start.start(container, request, config, started, restriction)
    if member(document, "hooks", dict, bundle, {}):
        from oci_gpu_hook.entrypoints.mesos import stages

        stages.run(document, container)


def _name(document: object, bundle: str) -> str:
    """Return the whole name of the bundle's container; earlier versions have written only its id."""
    annotations = member(document, "annotations", dict, bundle, {})
    return member(annotations, CONTAINER, str, bundle, "") or os.path.basename(bundle)


def _restriction(found: DeviceCgroup) -> Restriction | None:
    """Return the GPUs that the agent's gpu/nvidia isolator has given the container, None if it is not active.

    found: the container's device cgroup. Raises HookError.
    """
    if found.version == 2 and found.path != "/":
        why = "is a cgroup v2, whose device rules the agent replaces at its next change"
        raise InvalidInput(
            f"device cgroup {quoted(found.path)}", why, "run the agent on a host with cgroup v1", "OGH1702"
        )
    minors = cgroups.isolated_gpus(found.levels[0]) if found.version == 1 else None
    if minors is None:
        return None
    from oci_gpu_hook.lifecycle.restriction import Restriction

    remedy = "ask for `all`, which is what it has given; or give the task more `gpus`"
    return Restriction(minors=frozenset(minors), who="the agent's isolator gpu/nvidia", remedy=remedy)


def _leave(found: DeviceCgroup, container: Container) -> None:
    """Go into the cgroup above the container's device cgroup, which keeps this process from the host's GPUs.

    NVML does not count a GPU that it may not open; in a task group, whose cgroup lets some through, the others would
    look lost. The agent ends what is left of a container by its freezer cgroup, in which this process stays.
    """
    if found.version != 1 or found.own_path != container.cgroups_path:
        return  # nothing of the agent's restricts it
    try:
        procs = os.open("../cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=found.levels[0])
        try:
            os.write(procs, b"0")
        finally:
            os.close(procs)
    except OSError:
        return  # NVML is not asked then; where the container's cgroup cannot be written to either, that is said


def _prepared(container: Container, config: Config) -> Container:
    """Undo what unmodified Mesos does to a container with GPUs, and return the resulting container."""
    from oci_gpu_hook.apply.process import Process, open_rootfs
    from oci_gpu_hook.entrypoints.mesos import volume

    with Process(container.pid) as process, open_rootfs(container, process) as rootfs:
        _close_device_cgroup(container, process, rootfs)
        return volume.replace(container, process, rootfs, config)


def _close_device_cgroup(container: Container, process: Process, rootfs: Rootfs) -> None:
    """Make read-only the file in which the container's root could allow itself every device of the host."""
    closed = []
    try:
        for number, _parent, _device, _root, place, rest in mount_table.mounts(process.mountinfo()):
            kind, options = mount_table.file_system(rest)
            point = os.fsdecode(mount_table.unescaped(place))
            is_devices = kind == b"cgroup" and b"devices" in options.split(b",")
            if is_devices and point.startswith(container.rootfs + "/"):
                closed.append(rootfs.resolve(point.removeprefix(container.rootfs)))
                if syscalls.mount_id(closed[-1]) != number:  # covers other file systems as well as cgroups
                    raise ApplyError(quoted(point), "is hidden by another mount", "do not mount over it", "OGH1517")
        process.enter()
        try:
            for fd in closed:
                syscalls.mount_setattr(fd, syscalls.MOUNT_ATTR_RDONLY)
        finally:
            process.leave()
    except OSError as error:
        what = "cannot make the container's device cgroup read-only"
        raise ApplyError(what, reason(error), "use Linux 5.12 or later", "OGH1502") from None
    finally:
        for fd in closed:
            os.close(fd)

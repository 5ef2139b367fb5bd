"""Writes a bundle for a Mesos container: those parts of an OCI config.json that this project reads.

The bundle is kept in its own directory in STATE/mesos while the container lives, for the hook and for `oci-gpu`;
the next container that asks for GPUs removes the bundles of ended containers. No launch writes to another's directory,
whatever its container's name.
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.base import limits, state
from oci_gpu_hook.base.document import dump, has_few_items, parse
from oci_gpu_hook.base.errors import HookError, InvalidInput, quoted
from oci_gpu_hook.base.files import replace_file
from oci_gpu_hook.base.processes import start_time
from oci_gpu_hook.entrypoints.mesos import cgroups, launch_info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.entrypoints.mesos.cgroups import Cgroup
    from oci_gpu_hook.entrypoints.mesos.launch_info import Member

DIRECTORY: Final = "mesos"
ANNOTATIONS: Final = "mesos."
CONTAINER: Final = "mesos.container"
_MS_BIND: Final = 0x1000  # include/uapi/linux/mount.h
_NAMED: Final = ("MESOS_FRAMEWORK_ID", "MESOS_EXECUTOR_ID")  # set by the agent; they show people whose container it is
_LONGEST_NAME: Final = 190  # bytes of a container's name in its directory's name, which has at most 255
_ATTEMPTS: Final = 1000


def config_of(found: dict[str, Member], cgroup: Cgroup | None) -> dict[str, Any]:
    """Return the config.json of a launch with a root directory. cgroup: None if it is not known yet."""
    environment = launch_info.environment(found)
    annotations = {}
    if cgroup is not None:
        annotations = {CONTAINER: cgroup.name, f"{ANNOTATIONS}cgroup": cgroup.path}
    for entry in environment:
        name, _, value = entry.partition("=")
        if name in _NAMED and value:
            annotations[ANNOTATIONS + name.removeprefix("MESOS_").replace("_", "-").lower()] = value
    rootfs = launch_info.text_of(found, "rootfs")
    process = {"env": list(environment), "capabilities": {"bounding": _bounding(found)}}
    return {
        "ociVersion": "1.2.0",
        "process": process,
        "root": {"path": rootfs},
        "mounts": _mounts(found, rootfs),
        "annotations": annotations,
        "linux": {"cgroupsPath": cgroup.top if cgroup else "", "namespaces": [{"type": "mount"}]},
    }


def add_user(document: dict[str, Any], found: dict[str, Member]) -> None:
    """Add to a config.json whom the container's command runs as: the host's account, as the helper looks it up.

    Its groups decide which GPU nodes it may open. Not part of `config_of`, for only containers that ask pay for it.
    """
    name = launch_info.text_of(found, "user")
    if name in ("", "root"):
        return
    import pwd

    try:
        account = pwd.getpwnam(name)
        groups = os.getgrouplist(name, account.pw_gid)
    except (KeyError, OSError, ValueError):
        return  # the helper says so, and starts nothing
    document["process"]["user"] = {"uid": account.pw_uid, "gid": account.pw_gid, "additionalGids": groups}


def write(document: dict[str, Any], container: str, config: Config) -> str:
    """Write a config.json, and return its bundle's directory. Raises HookError, OSError."""
    if container in ("", ".", ".."):
        raise InvalidInput("Mesos container", f"{quoted(container)} cannot name it", "see the agent's log", "OGH1703")
    data = dump(document)
    if len(data) > limits.CONFIG_JSON or not has_few_items(data):
        why = f"would have more than the {limits.CONFIG_JSON} bytes or {limits.JSON_ITEMS} values that can be read back"
        raise InvalidInput(
            f"Mesos container {quoted(container)}", why, "give the task fewer or shorter variables", "OGH1703"
        )
    pid = int(os.readlink("/proc/self"))
    short = os.fsdecode(os.fsencode(container)[:_LONGEST_NAME])
    path = os.path.join(state.directory(config.state_dir, DIRECTORY), f"{short}~{pid}-{start_time(pid)}")
    directory = path
    for number in range(1, _ATTEMPTS):
        try:
            os.mkdir(directory, 0o700)
            break
        except FileExistsError:  # left by an earlier boot, or by a process with that pid in another pid namespace
            directory = f"{path}-{number}"
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    replace_file(os.path.join(directory, "config.json"), data)
    return directory


def drop_ended(config: Config) -> None:
    """Remove the bundles of ended containers."""
    directory = state.existing(config.state_dir, DIRECTORY)
    names = os.listdir(directory) if directory else ()
    for name in names:
        path = f"{directory}/{name}/config.json"
        try:
            document = parse(state.read(path, limits.CONFIG_JSON) or b"", path)
            if cgroups.exists(document["annotations"][f"{ANNOTATIONS}cgroup"]):
                continue
            os.unlink(path)
            os.rmdir(f"{directory}/{name}")
        except (HookError, OSError, KeyError, TypeError, ValueError):
            continue  # another launch is writing or removing it; or it is damaged


def _bounding(found: dict[str, Member]) -> list[str]:
    """Return the container's bounding set, of which only CAP_SYS_ADMIN and CAP_DAC_OVERRIDE are ever used.

    Without its isolator linux/capabilities Mesos removes no capability, and older versions set only the effective set.
    """
    for name in ("bounding_capabilities", "effective_capabilities"):
        value = found[name].value if name in found else None
        if type(value) is dict:
            listed = value.get("capabilities")
            return [f"CAP_{each}" for each in listed if type(each) is str] if type(listed) is list else []
    return ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]


def _mounts(found: dict[str, Member], rootfs: str) -> list[dict[str, Any]]:
    """Return the mounts in the root directory, including /proc, which the first of two launches mounts."""
    operations = [each.get("mount") for each in launch_info.list_of(found, "file_operations") if type(each) is dict]
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc", "options": []}]
    for mount in (*launch_info.list_of(found, "mounts"), *operations):
        target = mount.get("target") if type(mount) is dict else None
        if type(target) is not str or not target.startswith(rootfs + "/"):
            continue
        flags, kind, source = (mount.get(name) for name in ("flags", "type", "source"))
        mounts.append(
            {
                "destination": target.removeprefix(rootfs),
                "type": kind if type(kind) is str else "",
                "source": source if type(source) is str else "",
                "options": ["rbind"] if type(flags) is int and flags & _MS_BIND else [],
            }
        )
    return mounts

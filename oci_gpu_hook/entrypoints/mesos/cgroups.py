"""Reads from a Mesos container's cgroups (v1) its name, and the GPUs that the agent's gpu/nvidia isolator gave it.

Facts of Mesos 1.11. The launcher puts each container into a freezer cgroup before it starts anything in it:
CGROUPS_ROOT/ID, and for nested ones CGROUPS_ROOT/ROOT/mesos/CHILD. The device cgroup is that of the topmost container,
unless a nested one has its own (linux_info.share_cgroups). The isolator gpu/nvidia allows `c 195:N rwm`, and
`c 195:255 rwm` in every topmost container; this project's rules have no `m`.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import mount_table
from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

HIERARCHIES: Final = "/sys/fs/cgroup"
_SEPARATOR: Final = "/mesos/"  # between a container and those nested in it
_NVIDIA: Final = "195"  # Documentation/admin-guide/devices.txt; the isolator assumes this number too
_NO_GPU: Final = (254, 255)  # /dev/nvidia-modeset, /dev/nvidiactl


class Cgroup(Record):
    """A container's id, its freezer cgroup, and the cgroup of the topmost container that it is nested in.

    The id of a nested container is chosen by whoever launches it and may be another task's; `name` is unique.
    """

    container: str
    path: str
    top: str

    @property
    def name(self) -> str:
        """Return the container's whole name as Mesos writes it, PARENT.CHILD; no id has a dot."""
        return os.path.basename(self.top) + self.path.removeprefix(self.top).replace(_SEPARATOR, ".")


def of_process(table: bytes) -> Cgroup:
    """Parse a /proc/PID/cgroup. Raises InvalidInput if it is not that of a Mesos container on v1."""
    for _hierarchy, controllers, name in mount_table.cgroups(table):
        if b"freezer" in controllers and name != b"/":
            path = os.fsdecode(name)
            first, *nested = path.removeprefix(_SEPARATOR).split(_SEPARATOR)
            top = path.removesuffix("".join(_SEPARATOR + name for name in nested))
            return Cgroup(container=(nested or [os.path.basename(first)])[-1], path=path, top=top)
    if os.path.exists(f"{HIERARCHIES}/cgroup.controllers"):
        why = (
            "the agent works with cgroup v2, which no released Mesos does, and whose device rules would be lost at its"
        )
        raise InvalidInput("Mesos container", f"{why} next change", "run the agent on a host with cgroup v1", "OGH1702")
    why = f"is in no freezer cgroup of an agent: {quoted(os.fsdecode(table))}"
    raise InvalidInput("Mesos container", why, "run the agent with --launcher=linux", "OGH1702")


def exists(path: str) -> bool:
    """Tell whether a freezer cgroup exists, and so its container."""
    return os.path.isdir(f"{HIERARCHIES}/freezer{path}")


def isolated_gpus(directory: int) -> frozenset[int] | None:
    """Return the minors of the GPUs that gpu/nvidia has given to the container of a device cgroup.

    None if that isolator is not active. directory: a descriptor of the topmost container's device cgroup.
    """
    return read_isolated_gpus(read_file("devices.list", dir_fd=directory).decode("ascii"))


def read_isolated_gpus(devices_list: str) -> frozenset[int] | None:
    """Do the same for the text of devices.list."""
    minors = set()
    for row in devices_list.split("\n"):
        kind, _, rest = row.partition(" ")
        numbers, _, access = rest.partition(" ")
        major, _, minor = numbers.partition(":")
        if kind == "c" and major == _NVIDIA and minor.isdecimal() and "m" in access:
            minors.add(int(minor))
    return frozenset(minors.difference(_NO_GPU)) if minors else None

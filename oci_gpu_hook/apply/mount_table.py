"""Which mounts of a container are its own and which show files of the host, by the text of mountinfo (proc(5)). Pure.

What the engine's config.json calls a bind is not enough: a recursive bind brings mounts that it does not name, a
symbolic link leads into one under another path, and engines have other words for what comes from the host.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def own_mounts(container: bytes, rootfs: int, host: Callable[[], bytes]) -> frozenset[int]:
    """Return the ids of the mounts in the rootfs whose file systems are mounted nowhere else, and of the rootfs itself.

    container, host: mountinfo of the container's process and of this one. Until the runtime has pivoted the container's
    own shows the host's mounts too; the host's is asked for only after that.
    """
    parents: dict[int, int] = {}
    devices: dict[int, bytes] = {}
    for line in container.splitlines():
        number, parent, device, _ = line.split(b" ", 3)
        parents[int(number)] = int(parent)
        devices[int(number)] = device
    inside = {number for number in parents if _is_below(number, rootfs, parents)}
    elsewhere = {device for number, device in devices.items() if number not in inside}
    if not elsewhere:
        elsewhere = {line.split(b" ", 3)[2] for line in host().splitlines()}
    return frozenset({rootfs, *(number for number in inside if devices[number] not in elsewhere)})


def shared_mounts(container: bytes) -> frozenset[int]:
    """Return the ids of the mounts that pass what is mounted in them on to others."""
    if b" shared:" not in container:
        return frozenset()
    lines = (line.split(b" - ")[0] for line in container.splitlines() if b" shared:" in line)
    return frozenset(int(line.split(b" ", 1)[0]) for line in lines if b" shared:" in line)


def _is_below(number: int, rootfs: int, parents: dict[int, int]) -> bool:
    for _ in range(len(parents)):
        if number == rootfs:
            return True
        above = parents.get(number)
        if above is None or above == number:
            return False
        number = above
    return False

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
    rows = [line.split(b" ", 3)[:3] for line in container.splitlines()]
    inside = {b"%d" % rootfs}
    size = 0
    while size < len(inside):  # twice, as parents mostly stand first
        size = len(inside)
        inside.update([number for number, parent, _device in rows if parent in inside])
    elsewhere = {device for number, _parent, device in rows if number not in inside}
    if not elsewhere:
        elsewhere = {line.split(b" ", 3)[2] for line in host().splitlines()}
    own = [int(number) for number, _parent, device in rows if number in inside and device not in elsewhere]
    return frozenset((rootfs, *own))


def shared_mounts(container: bytes) -> frozenset[int]:
    """Return the ids of the mounts that pass what is mounted in them on to others."""
    if b" shared:" not in container:
        return frozenset()
    lines = (line.split(b" - ")[0] for line in container.splitlines() if b" shared:" in line)
    return frozenset(int(line.split(b" ", 1)[0]) for line in lines if b" shared:" in line)

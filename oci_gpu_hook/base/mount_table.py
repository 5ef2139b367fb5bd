r"""Parses tables of the kernel: /proc/PID/mountinfo and /proc/PID/cgroup (proc(5)). Pure.

Both are bytes. A row ends at a newline and nowhere else, and a field at a space or colon and nowhere else: in names,
which anybody may have chosen, the kernel escapes exactly these characters and backslashes (fs/proc_namespace.c,
show_mountinfo), and it refuses newlines in names of cgroups (kernel/cgroup/cgroup.c). Python's splitlines also splits
at \r, \x0b, \x1c, \x85 and \u2028, so that the name of a directory could forge a row.

A row that lacks a field is skipped. Its mount then counts as one of the host's, never as the container's own; so does a
mount whose id occurs twice.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # id, parent's id, device ("253:0"), root, mount point, rest of the row
    Mount = tuple[int, int, bytes, bytes, bytes, bytes]

_FIELDS = 6
_SERVED = (b"fuse", b"nfs", b"9p", b"ceph", b"cifs", b"smb", b"lustre", b"afs", b"glusterfs", b"virtiofs")
_BLOCK = 1 << 20  # bytes whose rows are in memory at once
_LONGEST_NUMBER = 10  # digits; Python refuses to read thousands


def mounts(mountinfo: bytes) -> Iterator[Mount]:
    """Yield the mounts in a mountinfo; root and mount point are escaped as the kernel writes them (see `unescaped`)."""
    for row in _rows(mountinfo):
        fields = row.split(b" ", _FIELDS - 1)
        if _is_row(fields):
            yield int(fields[0]), int(fields[1]), fields[2], fields[3], fields[4], fields[5]


def file_system(rest: bytes) -> tuple[bytes, bytes]:
    """Return a mount's type and super options from the rest of its row; (b"", b"") if the row lacks them."""
    fields = rest.split(b" ")
    if b"-" not in fields:
        return b"", b""
    at = fields.index(b"-")  # no optional field is a lone hyphen
    if len(fields) - at != 4:
        return b"", b""
    return fields[at + 1], fields[at + 3]


def unescaped(name: bytes) -> bytes:
    """Undo the kernel's escapes in a name: three octal digits for a space, tab, newline or backslash."""
    if b"\\" not in name:
        return name
    for escape, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        name = name.replace(escape, character)
    return name


def own_mounts(container: bytes, rootfs: int, host: Callable[[], bytes]) -> frozenset[int]:
    """Return the ids of the rootfs's mount and of those mounts in it whose file systems are mounted nowhere else.

    A mount of the rootfs's own file system is not among them: where the rootfs is a directory of it and no mount by
    itself, a volume is another directory of it.

    The binds in config.json are not enough to go by: a recursive bind brings mounts that it does not name, a symbolic
    link can lead into a mount under another path, and engines have other mount types for files of the host.

    container, host: mountinfo of the container's process and of this one. Until the runtime has pivoted, the
    container's mountinfo shows the host's mounts too; `host` is called only after that.
    """
    rows = list(_places(container))
    inside = {b"%d" % rootfs}
    size = 0
    while size < len(inside):  # usually twice, as parents usually come first
        size = len(inside)
        inside.update([number for number, parent, _device in rows if parent in inside])
    elsewhere = {device for number, _parent, device in rows if number not in inside}
    if not elsewhere:
        elsewhere = {device for _number, _parent, device in _places(host())}
    elsewhere.update([device for number, _parent, device in rows if number == b"%d" % rootfs])
    own = [int(number) for number, _parent, device in rows if number in inside and device not in elsewhere]
    found = frozenset((rootfs, *own))
    numbers = [number for number, _parent, _device in rows]
    if len(frozenset(numbers)) != len(numbers):  # the kernel never repeats an id, so one of the two rows is false
        return frozenset((rootfs, *(number for number in found if numbers.count(b"%d" % number) == 1)))
    return found


def shared_mounts(container: bytes) -> frozenset[int]:
    """Return the ids of shared mounts: what is mounted in them also appears in other namespaces."""
    if b" shared:" not in container:
        return frozenset()
    shared = []
    for number, _parent, _device, _root, _point, rest in mounts(container):
        optional = rest.partition(b" - ")[0].split(b" ")[1:]  # after the mount's options
        if any(field.startswith(b"shared:") for field in optional):
            shared.append(number)
    return frozenset(shared)


def may_never_answer(mountinfo: bytes, below: bytes) -> bool:
    """Tell whether a file system at or below a directory is served by another process or machine.

    If nothing is mounted at the directory, the process has pivoted, and all of its mounts are below it. Cheap if there
    is no such file system on the whole host.
    """
    if not any(b" - " + kind in mountinfo for kind in _SERVED):
        return False
    prefix = below.rstrip(b"/") + b"/"
    found: set[bool] = set()  # whether each mount is at or below the directory
    served: set[bool] = set()
    for _number, _parent, _device, _root, point, rest in mounts(mountinfo):
        is_below = (unescaped(point) + b"/").startswith(prefix)
        found.add(is_below)
        kind, _options = file_system(rest)
        if kind.startswith(_SERVED) and kind != b"fusectl":
            served.add(is_below)
    return True in served or (bool(served) and True not in found)


def roots(mountinfo: bytes) -> dict[int, bytes]:
    """Return for each mount id the root of the mount in its file system, escaped as the kernel writes it."""
    return {number: root for number, _parent, _device, root, _point, _rest in mounts(mountinfo)}


def cgroups(table: bytes) -> Iterator[tuple[bytes, tuple[bytes, ...], bytes]]:
    """Yield the hierarchy, controllers and path in each row of a /proc/PID/cgroup (cgroups(7))."""
    for row in table.split(b"\n"):
        fields = row.split(b":", 2)
        if len(fields) == 3 and fields[0].isdigit():
            yield fields[0], tuple(fields[1].split(b",")), fields[2]


def _places(mountinfo: bytes) -> Iterator[list[bytes]]:
    """Yield the id, parent's id and device of each mount as bytes, because a start only compares them."""
    return (fields[:3] for row in _rows(mountinfo) if _is_row(fields := row.split(b" ", _FIELDS - 1)))


def _rows(table: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(table):
        end = table.find(b"\n", start + _BLOCK) + 1 or len(table)
        yield from table[start:end].split(b"\n")
        start = end


def _is_row(fields: list[bytes]) -> bool:
    if len(fields) != _FIELDS or not fields[0].isdigit() or not fields[1].isdigit():
        return False
    return len(fields[0]) <= _LONGEST_NUMBER >= len(fields[1])

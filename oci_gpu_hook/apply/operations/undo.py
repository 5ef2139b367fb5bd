"""Undoes each kind of change in the journal. Kinds of edits share these: a bind may create directories and files.

They are in one module because this is all that the end of a container needs: importing the four modules that make the
changes would cost each `poststop` a millisecond.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply.journal.changes import BLOCK, DIRECTORY, FIFO, FILE, LINK, NODE
from oci_gpu_hook.base import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final, TypeAlias

    from oci_gpu_hook.apply.journal.changes import Change

    Found: TypeAlias = tuple[int, int, int, int]  # from syscalls.look: mode, size, device number, mount id


def take_back(change: Change, name: str, parent: int, mount: int) -> None:
    """Remove what is recognisably the hook's from the directory `parent`, and restore a link that it replaced.

    mount: the id of the directory's mount. Raises OSError for what cannot be removed.
    """
    kind, _path, _target, _device, was, _passing = change
    found = syscalls.look(parent, name)
    if found is not None:
        if found[3] != mount:
            return  # a mount is on it; removing what is below would remove that mount in every namespace
        is_own, remove = UNDO.get(kind, _UNKNOWN)
        if not is_own(found, change, name, parent):
            return
        remove(name, dir_fd=parent)
    if was:  # the old link was removed, and nothing replaced it or that is removed by now
        os.symlink(was, name, dir_fd=parent)


def _is_directory(found: Found, _change: Change, _name: str, _parent: int) -> bool:
    return stat.S_ISDIR(found[0])


def _is_empty_file(found: Found, _change: Change, _name: str, _parent: int) -> bool:
    return stat.S_ISREG(found[0]) and found[1] == 0


def _is_link(found: Found, change: Change, name: str, parent: int) -> bool:
    return stat.S_ISLNK(found[0]) and os.readlink(name, dir_fd=parent) == change[2]


def _is_node(found: Found, change: Change, _name: str, _parent: int) -> bool:
    return stat.S_ISCHR(found[0]) and found[2] == change[3]


def _is_block(found: Found, change: Change, _name: str, _parent: int) -> bool:
    return stat.S_ISBLK(found[0]) and found[2] == change[3]


def _is_fifo(found: Found, _change: Change, _name: str, _parent: int) -> bool:
    return stat.S_ISFIFO(found[0])


def _is_unknown(_found: Found, _change: Change, _name: str, _parent: int) -> bool:
    return False


# Kind of change → a test whether it is still the hook's, and a function that removes it. rmdir fails unless empty.
UNDO: Final[Mapping[str, tuple[Callable[[Found, Change, str, int], bool], Callable[..., None]]]] = {
    DIRECTORY: (_is_directory, os.rmdir),
    FILE: (_is_empty_file, os.unlink),
    LINK: (_is_link, os.unlink),
    NODE: (_is_node, os.unlink),
    BLOCK: (_is_block, os.unlink),
    FIFO: (_is_fifo, os.unlink),
}
_UNKNOWN: Final = (_is_unknown, os.unlink)  # in a damaged entry, or one of a later version

"""What takes back each kind of change in the journal. Kinds of edits share them: a bind may make directories and files.

They stand together, and not with the kinds that make them, because this is all that the end of a container needs of
those: to load four modules more would cost each `poststop` a millisecond.
"""

from __future__ import annotations

import os
import stat

from oci_gpu_hook.apply.journal.changes import DIRECTORY, FILE, LINK, NODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final

    from oci_gpu_hook.apply.journal.changes import Change


def take_back(change: Change, name: str, parent: int) -> None:
    """Remove what is recognisably the hook's under a name in the directory `parent`, and put back what made way for it.

    Raises OSError for what is not to be had, and leaves everything else.
    """
    kind, _path, _target, _device, was, _passing = change
    undo = UNDO.get(kind)
    if undo is None:
        return  # a damaged entry
    try:
        is_gone = undo(change, name, parent)
    except FileNotFoundError:
        is_gone = True
    if is_gone and was:  # nothing came in its place, or that is taken back by now
        os.symlink(was, name, dir_fd=parent)


def _directory(_change: Change, name: str, parent: int) -> bool:
    """Remove an empty directory."""
    os.rmdir(name, dir_fd=parent)
    return True


def _file(_change: Change, name: str, parent: int) -> bool:
    """Remove an empty file. Tell whether it was one; FileNotFoundError, here and below, tells that nothing is there."""
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return _unlinked(name, parent, is_own=stat.S_ISREG(found.st_mode) and found.st_size == 0)


def _link(change: Change, name: str, parent: int) -> bool:
    """Remove a link that leads where the hook's did."""
    return _unlinked(name, parent, is_own=os.readlink(name, dir_fd=parent) == change[2])


def _node(change: Change, name: str, parent: int) -> bool:
    """Remove a character device node of the numbers that the hook's had."""
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return _unlinked(name, parent, is_own=stat.S_ISCHR(found.st_mode) and found.st_rdev == change[3])


def _unlinked(name: str, parent: int, *, is_own: bool) -> bool:
    if is_own:
        os.unlink(name, dir_fd=parent)
    return is_own


UNDO: Final[Mapping[str, Callable[[Change, str, int], bool]]] = {
    DIRECTORY: _directory,
    FILE: _file,
    LINK: _link,
    NODE: _node,
}

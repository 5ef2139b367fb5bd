"""The changes that the hook makes in a rootfs, in the form in which the journal records them for their undoing.

Every change is recorded before it is made, so undoing looks at what is there, and removes only what is recognisably the
hook's: an empty file, a link with that target, a node with those numbers, an empty directory.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypeAlias

    # kind, path, target, device, was, passing: the arguments of `change`, and an array in the journal. Not a Record,
    # because a start makes hundreds of them, and only writes them.
    Change: TypeAlias = tuple[str, str, str, int, str, bool]

DIRECTORY: Final = "directory"
FILE: Final = "file"
LINK: Final = "link"
NODE: Final = "node"
BLOCK: Final = "block"
FIFO: Final = "fifo"
_OF_TYPES: Final = {"b": BLOCK, "p": FIFO}

# `passing` says that the change is made in one of the container's own mounts, which ends with the container; what the
# rootfs has below that mount belongs to the image.


def directory(path: str, passing: bool) -> Change:  # noqa: FBT001
    """Return the creation of a directory at `path` of the container."""
    return DIRECTORY, path, "", 0, "", passing


def file(path: str, passing: bool) -> Change:  # noqa: FBT001
    """Return the creation of an empty file at `path`."""
    return FILE, path, "", 0, "", passing


def link(path: str, target: str, was: str, passing: bool) -> Change:  # noqa: FBT001
    """Return the creation of a symbolic link at `path`; with target "" only `was` is removed.

    was: the target of a link that was there before and is restored, "" if there was none.
    """
    return LINK, path, target, 0, was, passing


def node(path: str, device: int, passing: bool, of_type: str = "c") -> Change:  # noqa: FBT001
    """Return the creation of a device node of type c, b or p at `path`; device: 0 for a FIFO."""
    return _OF_TYPES.get(of_type, NODE), path, "", device, "", passing


def change(kind: str, path: str, *, target: str = "", device: int = 0, was: str = "", passing: bool = False) -> Change:  # noqa: PLR0913
    """Return a change of any kind; for reading the journal."""
    return kind, path, target, device, was, passing

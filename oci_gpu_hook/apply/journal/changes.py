"""What the hook makes in a rootfs, as the journal keeps it for rollback, for `poststop`, for the time after a crash.

Every change is written down before it is made, so taking back looks at what is there and removes only what is
recognisably the hook's own: an empty file, a link with its target, a node with its numbers, an empty directory.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypeAlias

    # kind, path, target, device, was, passing, as the arguments of `change`; the journal keeps it as an array of these.
    # No Record: a start makes hundreds, writes them down and looks at none.
    Change: TypeAlias = tuple[str, str, str, int, str, bool]

DIRECTORY: Final = "directory"
FILE: Final = "file"
LINK: Final = "link"
NODE: Final = "node"

# In all of these, `passing` tells whether it is made in a mount of the container's, which ends with it; what the rootfs
# has there below is the image's.


def directory(path: str, passing: bool) -> Change:  # noqa: FBT001
    """Return a directory made at `path` of the container."""
    return DIRECTORY, path, "", 0, "", passing


def file(path: str, passing: bool) -> Change:  # noqa: FBT001
    """Return an empty file made at `path`."""
    return FILE, path, "", 0, "", passing


def link(path: str, target: str, was: str, passing: bool) -> Change:  # noqa: FBT001
    """Return a symbolic link made at `path`, "" as its target for none.

    was: the target of a link that stood there and comes back, "" for none.
    """
    return LINK, path, target, 0, was, passing


def node(path: str, device: int, passing: bool) -> Change:  # noqa: FBT001
    """Return a device node made at `path`."""
    return NODE, path, "", device, "", passing


def change(kind: str, path: str, *, target: str = "", device: int = 0, was: str = "", passing: bool = False) -> Change:  # noqa: PLR0913
    """Return a change of any kind, with all that one may have: for those that are read."""
    return kind, path, target, device, was, passing

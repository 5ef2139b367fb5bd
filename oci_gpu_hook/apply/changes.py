"""What the hook made in a rootfs, and how it is taken back: for rollback, for `poststop`, after a crash.

Every change is written down before it is made, so taking back looks at what is there and removes only what is
recognisably the hook's own: an empty file, a link with its target, a node with its numbers, an empty directory.
"""

from __future__ import annotations

from oci_gpu_hook.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


DIRECTORY: Final = "directory"
FILE: Final = "file"
LINK: Final = "link"
NODE: Final = "node"


class Change(Record):
    """Something made at `path` of the container.

    target: of a link. device: of a node. was: the target of a symbolic link that stood there and comes back.
    passing: made in a mount of the container's, which ends with it; what the rootfs has there below is the image's.
    """

    kind: str
    path: str
    target: str = ""
    device: int = 0
    was: str = ""
    passing: bool = False


def to_json(change: Change) -> dict[str, object]:
    """Return the form that the journal keeps; members that say nothing are left out."""
    return {name: value for name, value in change.__dict__.items() if value}

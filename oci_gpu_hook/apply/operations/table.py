"""The kinds of edits, in the order in which they are made: file systems of the hook's own, then what goes into them."""

from __future__ import annotations

from oci_gpu_hook.apply.operations import bind, device_node, ld_cache, symlink, tmpfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.apply.operations.operation import Operation

KINDS: Final[tuple[Operation, ...]] = (tmpfs, bind, symlink, device_node, ld_cache)

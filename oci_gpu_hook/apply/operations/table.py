"""The kinds of edits, in the order in which they are made: first the hook's own file systems, then their contents."""

from __future__ import annotations

from oci_gpu_hook.apply.operations import bind, device_node, ld_cache, symlink, tmpfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from oci_gpu_hook.apply.operations.operation import Operation
    from oci_gpu_hook.apply.operations.preflight import Preflight
    from oci_gpu_hook.plan.plan import Plan

KINDS: Final[tuple[Operation, ...]] = (tmpfs, bind, symlink, device_node, ld_cache)


def look(
    plan: Plan, prepared: Sequence[Any], seen: Preflight, kinds: Sequence[Operation] = KINDS
) -> tuple[Plan, list[Any]]:
    """Inspect where a plan's edits go; return the plan without those that have no place, and each `make`'s argument.

    prepared: the results of each kind's `prepare`. Raises UnsafeRootfs, OSError.
    """
    looked = [kind.preflight(plan, own, seen) for kind, own in zip(kinds, prepared, strict=True)]
    if seen.left_out:
        for kind in kinds:
            plan = kind.without(plan, seen.left_out)
    return plan, looked


def warnings(seen: Preflight) -> tuple[str, ...]:
    """Return the warnings about edits that were left out."""
    if not seen.left_out:
        return ()
    from oci_gpu_hook.apply.operations import left_out

    return left_out.warnings(seen.left_out)

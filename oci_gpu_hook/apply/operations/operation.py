"""What a kind of edit has to offer: what it will change, make, check and show. `table` has the kinds.

A kind is a module. What it makes in a rootfs stands in the journal as changes of a few kinds, and `undo` takes those
back. For type checkers and readers: no start imports this module.
"""

from __future__ import annotations

from typing import Any, Protocol  # noqa: TID253  imported by type checkers only

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.operations.inspection import Finding, Inspection
    from oci_gpu_hook.apply.operations.place import Descriptors, Materializing, Preflight
    from oci_gpu_hook.apply.process import Site
    from oci_gpu_hook.apply.rootfs.directory import Directories
    from oci_gpu_hook.plan.plan import Plan


class Operation(Protocol):
    """A kind's module. A transaction takes the steps in this order, each for all kinds before the next.

    What `prepare` returns is of a type of the kind's own: `preflight` and `make` are given it.
    """

    @property
    def NAME(self) -> str:  # noqa: N802  a constant of the module
        """What a finding of `check` is called; kinds that look alike from outside share one."""

    def prepare(self, plan: Plan, site: Site, directories: Directories, opened: Descriptors) -> Any:
        """Do what can fail before anything is changed, such as holding the host's files. Raises HookError."""

    def preflight(self, plan: Plan, prepared: Any, seen: Preflight) -> None:
        """Look at the rootfs, and add to `seen` what `make` will change: it goes into the journal first.

        It may name more than is made in the end, when something else makes it meanwhile; undoing looks again. Raises
        UnsafeRootfs, OSError.
        """

    def make(self, plan: Plan, prepared: Any, making: Materializing) -> None:
        """Make it, all but the mounts, which are handed to `making`. Raises HookError, OSError."""

    def check(self, entry: Entry, inspection: Inspection) -> Iterator[Finding]:
        """Yield what a running container does not have any more of what the entry says it was given."""

    def lost(self, plan: Plan, entry: Entry, paths: Collection[str]) -> Plan:
        """Return the plan with only those of its edits of this kind that were given and are at these paths.

        paths: those of the kind's findings. All else of the plan stays.
        """

    def show(self, plan: Plan) -> dict[str, object]:
        """Return the kind's members of a plan's JSON form, where it is no word of CDI (devices.json_form has those)."""

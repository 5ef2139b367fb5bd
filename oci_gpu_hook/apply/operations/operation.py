"""The interface of a kind of edit: say what it will change, make it, check it, show it. `table` has the kinds.

A kind is a module. What it makes in a rootfs is recorded in the journal as changes of a few kinds, which `undo` undoes.
This module is for type checkers and readers: no start imports it.
"""

from __future__ import annotations

from typing import Any, Protocol  # noqa: TID253  imported by type checkers only

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.operations.inspection import Finding, Inspection
    from oci_gpu_hook.apply.operations.place import Descriptors, Materializing
    from oci_gpu_hook.apply.operations.preflight import Preflight
    from oci_gpu_hook.apply.process import Site
    from oci_gpu_hook.plan.plan import Plan


class Operation(Protocol):
    """A kind's module. A transaction performs each step for all kinds before the next step, in this order.

    `prepare` and `preflight` return values of the kind's own types, which are passed to the next step.
    """

    @property
    def NAME(self) -> str:  # noqa: N802  a constant of the module
        """The kind of the findings of `check`; kinds of edits that look alike from outside share one."""

    def prepare(self, plan: Plan, site: Site, opened: Descriptors) -> Any:
        """Do what can fail before anything is changed, such as opening the host's files. Raises HookError."""

    def preflight(self, plan: Plan, prepared: Any, seen: Preflight) -> Any:
        """Inspect the rootfs, add what `make` will change to `seen`, and return the argument for `make`.

        It raises what `make` would raise, as far as that can be known: UnsafeRootfs, or OSError. An optional edit that
        has no place (NoPlace) is noted as left out. It may name more changes than are made in the end, if something
        else makes them meanwhile; undoing inspects the rootfs again. prepared: None if nothing will be made, as for
        `oci-gpu plan`.
        """

    def without(self, plan: Plan, paths: Collection[str]) -> Plan:
        """Return the plan without the edits of this kind at these paths, which were left out."""

    def make(self, plan: Plan, seen: Any, making: Materializing) -> None:
        """Make the edits, except mounts, which are passed to `making`. Raises HookError, OSError."""

    def check(self, entry: Entry, inspection: Inspection) -> Iterator[Finding]:
        """Yield findings for what a running container has lost of what its entry says it was given."""

    def lost(self, plan: Plan, entry: Entry, paths: Collection[str]) -> Plan:
        """Return the plan with, of its edits of this kind, only those at these paths that the container was given.

        paths: from the kind's findings. Edits of other kinds stay.
        """

    def show(self, plan: Plan) -> dict[str, object]:
        """Return the kind's members of a plan's JSON form, unless they are part of CDI's (devices.json_form)."""

"""The interface of a vendor's words, by which containers ask for its devices.

A vendor's words are a package with one interface module that is a `Words`; `vendors` has the table. This module is for
type checkers and readers: no start imports it.
"""

from __future__ import annotations

from typing import Any, Protocol  # noqa: TID253  imported by type checkers only

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import BundleMount, Container
    from oci_gpu_hook.request.ask import Ask, Said
    from oci_gpu_hook.request.qualified_name import QualifiedName


class Words(Protocol):
    """A vendor's words. Functions add their warnings to the list that they are given."""

    def serves(self, name: QualifiedName) -> bool:
        """Tell whether a CDI name of this vendor is known here."""

    def is_applied(self, variables: Mapping[str, str], warnings: list[str]) -> bool:
        """Tell whether the environment shows that the engine has applied a CDI specification of this vendor."""

    def read_list(self, source: str, what: str, listed: Sequence[str], warnings: list[str]) -> Ask | None:
        """Read a list of this vendor's devices by plain or CDI-qualified names. Raises InvalidInput."""

    def from_mounts(self, mounts: Sequence[BundleMount], warnings: list[str]) -> Ask | None:
        """Read the mounts that ask for devices; None if there are none. Raises InvalidInput."""

    def said(self, variables: Mapping[str, str], config: Config) -> Said:
        """Return what the variables say about devices."""

    def options(
        self, ask: Ask, container: Container, config: Config, variables: Mapping[str, str], warnings: list[str]
    ) -> dict[str, Any]:
        """Return the fields of Request that belong to this vendor. Raises InvalidInput."""

"""The seam: what the words of a vendor have to offer, so that containers can ask for its devices.

A vendor's words are a package with one interface module that is a `Words`; `vendors` has the table. For type checkers
and readers: no start imports this module.
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
    """A vendor's words. Warnings are added to the list that a function is given."""

    def serves(self, name: QualifiedName) -> bool:
        """Tell whether a CDI name of this vendor's is one that is known here."""

    def is_applied(self, variables: Mapping[str, str], warnings: list[str]) -> bool:
        """Tell whether the environment shows that the engine has applied a CDI specification of this vendor's."""

    def read_list(self, source: str, what: str, listed: Sequence[str], warnings: list[str]) -> Ask | None:
        """Read a list of devices: names of this vendor's, plain or CDI-qualified. Raises InvalidInput."""

    def from_mounts(self, mounts: Sequence[BundleMount], warnings: list[str]) -> Ask | None:
        """Read the mounts by which devices are asked for, None where there are none. Raises InvalidInput."""

    def said(self, variables: Mapping[str, str], config: Config) -> Said:
        """Return what the variables say of devices."""

    def options(
        self, ask: Ask, container: Container, config: Config, variables: Mapping[str, str], warnings: list[str]
    ) -> dict[str, Any]:
        """Return the fields of Request that are this vendor's own. Raises InvalidInput."""

"""The warnings for one container: no duplicates, and only the first ones if there are many."""

from __future__ import annotations

from oci_gpu_hook.base import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self


class Notices(list[str]):
    """A list of warnings that stays short, however many an image or an engine causes."""

    def __init__(self) -> None:
        super().__init__()
        self._left_out = 0

    def append(self, text: str) -> None:
        """Add a warning, unless the list has it already or is full."""
        if text in self:
            return
        if len(self) < limits.WARNINGS:
            super().append(text)
        else:
            self._left_out += 1

    def __iadd__(self, texts: Iterable[str]) -> Self:  # type: ignore[misc, override]
        for text in texts:
            self.append(text)
        return self

    def told(self) -> tuple[str, ...]:
        """Return the warnings; the last one says how many were left out."""
        if not self._left_out:
            return tuple(self)
        return (*self, f"and {self._left_out} more warnings, which are left out")

"""Suggests corrections of misspelt words. Imported only for an error message: difflib costs as much as the hook."""

from __future__ import annotations

from difflib import get_close_matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

_LONGEST: Final = 256  # characters; longer texts are not misspellings


def word(text: str, allowed: Iterable[str]) -> str:
    """Return the allowed word that is most similar to a text, "" if none is similar."""
    if len(text) > _LONGEST:
        return ""
    spelt = {name.lower(): name for name in allowed}
    matches = get_close_matches(text.strip().lower(), list(spelt), n=1, cutoff=0.6)
    return spelt[matches[0]] if matches else ""

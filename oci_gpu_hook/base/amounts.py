"""Amounts of memory: reads `40GiB` (an annotation, a variable, a key of the configuration), and shows one to people."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_UNITS: Final = {
    "": 1,
    "B": 1,
    "Ki": 1 << 10,  # the units of Kubernetes
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_DIGITS: Final = 9
FORM: Final = "a whole number and a unit (KiB, MiB, GiB, TiB, KB, MB, GB, TB), such as 40GiB"


def size(text: str) -> int | None:
    """Return the bytes, None for a text that is no amount."""
    trimmed = text.strip()
    unit = trimmed.lstrip("0123456789")
    number = trimmed[: len(trimmed) - len(unit)]
    scale = _UNITS.get(unit.strip())
    if not number or len(number) > _DIGITS or scale is None:
        return None
    return int(number) * scale


def shown(size: int) -> str:
    """Return bytes as people read them: `2.0 GiB`, below one GiB `512 MiB`."""
    return f"{size / _UNITS['GiB']:.1f} GiB" if size >= _UNITS["GiB"] else f"{size // _UNITS['MiB']} MiB"

"""Words the warnings about optional parts of the driver that have no place in a container."""

from __future__ import annotations

from oci_gpu_hook.base.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from oci_gpu_hook.apply.rootfs.directory import NoPlace

_NAMED: Final = 3


def warnings(left_out: Mapping[str, NoPlace]) -> tuple[str, ...]:
    """Return a sentence for each reason, such as one volume in which several parts have no place. left_out: by path."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for path, error in left_out.items():
        by_reason.setdefault((error.why, error.remedy), []).append(path)
    return tuple(_sentence(paths, why, remedy) for (why, remedy), paths in by_reason.items())


def _sentence(paths: list[str], why: str, remedy: str) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    names = ", ".join(map(quoted, paths[:_NAMED]))
    return f"left out: {names}{more}, because {why}; to have {'them' if len(paths) > 1 else 'it'}, {remedy}"

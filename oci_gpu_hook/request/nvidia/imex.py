"""Reads requests for IMEX channels, by which processes on different hosts of an NVLink domain share memory."""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.request.values import check_number, digits, items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

VARIABLE: Final = "NVIDIA_IMEX_CHANNELS"
LARGEST_CHANNEL: Final = (1 << 20) - 1  # the number is the node's minor, which has 20 bits


def channels(
    named: Sequence[str], variables: Mapping[str, str], warnings: list[str], *, variables_count: bool
) -> tuple[int, ...]:
    """Return the channel numbers. Mounts and CDI names take precedence over the variable.

    variables_count: whether policy lets the container ask by variables. `all`, `none` and `void` in the variable
    give no channel, as in NVIDIA's implementation. Raises InvalidInput for what is not a channel.
    """
    if named:
        check_number(len(named), "IMEX channels")
        return _numbers(named, "IMEX channels")
    listed = items(variables.get(VARIABLE, ""))
    if not listed or "void" in listed or "none" in listed or "all" in listed:
        if "all" in listed and not {"void", "none"}.intersection(listed):
            warnings.append(f"{VARIABLE}={quoted(variables[VARIABLE])}: 'all' gives no channel; name them")
        return ()
    if not variables_count:
        warnings.append(f"{VARIABLE} is not read: the container is unprivileged (see config.toml)")
        return ()
    what = f"{VARIABLE}={quoted(variables[VARIABLE])}"
    check_number(len(listed), what)
    return _numbers(listed, what)


def _numbers(names: Sequence[str], what: str) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for name in names:
        number = digits(name.removeprefix("channel"))
        if number is None or number > LARGEST_CHANNEL:
            remedy = f"write a number or channelN; it must be in the range [0, {LARGEST_CHANNEL}]"
            raise InvalidInput(what, f"{quoted(name)} is not an IMEX channel", remedy, "OGH1213")
        found[number] = None
        if len(found) > limits.IMEX_CHANNELS:
            why = f"names more than {limits.IMEX_CHANNELS} IMEX channels, which is all that a driver has"
            raise InvalidInput(what, why, "name those that the container needs", "OGH1213")
    return tuple(found)

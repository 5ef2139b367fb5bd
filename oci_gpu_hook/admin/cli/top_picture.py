"""The picture of `oci-gpu top`: a line for each GPU, below it its containers, below them their processes.

Where a terminal is narrow, the less important parts of a line are left out; the GPU's number and the name of the
container never are.
"""

from __future__ import annotations

import os

from oci_gpu_hook.admin.metering.look import product_of
from oci_gpu_hook.allocation.messages import part, wanted
from oci_gpu_hook.base import amounts
from oci_gpu_hook.base.errors import one_line
from oci_gpu_hook.oci.naming import short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from rich.text import Text

    from oci_gpu_hook.admin.metering.look import Look
    from oci_gpu_hook.allocation.shares import Standing
    from oci_gpu_hook.lifecycle.usage import DeviceView, Holder, Working

    # How important a part of a line is (0: it is never left out), its text, and its style.
    Part = tuple[int, str, str]

_GIB: Final = 1 << 30
_SERVER: Final = "MPS server"
_KINDS: Final = {"graphics": "graphics", "mps": "by MPS"}
_WARM: Final = 50  # percent
_HOT: Final = 90


def of(look: Look, width: int) -> Text:
    """Return the picture for a terminal of that width."""
    from rich.text import Text

    lines: list[Text] = []
    for view in look.views:
        lines.append(_line(0, _device(view), width))
        if view.standing and view.standing.is_shared:
            lines.append(_line(2, _standing(view.standing), width))
        lines += _below(view, width, knows_holders=look.whole)
    for place, waiter in enumerate(look.table.queue if look.table else (), 1):
        text = one_line(f"waiting, {place}: {short(waiter.container)}")
        lines.append(_line(0, [(0, text, "yellow"), (1, one_line(f"for {wanted(waiter.request)}"), "")], width))
    lines += [Text(one_line(f"warning: {text}"), style="yellow") for text in look.warnings]
    return Text("\n").join(lines)


def _below(view: DeviceView, width: int, *, knows_holders: bool) -> Iterator[Text]:
    for holder in view.holders:
        yield _line(2, _holder(holder), width)
        for process in holder.processes:
            yield _line(4, _process(process), width)
    for process in view.outside:
        mark = f"{_SERVER} of {_owner(process.pid)}" if process.server else "outside any container"
        yield _line(2, [(0, mark, "" if process.server else "red"), *_process(process)], width)
    if not (view.holders or view.outside or view.device.parts or view.device.fault):
        yield _line(2, [(0, "free", "green") if knows_holders else (0, "not in use", "")], width)


def _device(view: DeviceView) -> list[Part]:
    device, use = view.device, view.use
    parts: list[Part] = [(0, one_line(device.label), "bold")]
    product = device.profile if device.whole else product_of(device).removeprefix("NVIDIA ")
    parts.append((5, one_line(product), ""))
    if device.fault:
        return [*parts, (1, one_line(device.fault), "red")]
    if use is None:
        return parts
    if use.utilization is not None:
        parts.append((1, f"{use.utilization:3d}%", _heat(use.utilization)))
    if use.memory_used is not None and use.memory_total:
        parts.append((2, f"{_gib(use.memory_used)}/{_gib(use.memory_total)} GiB", ""))
    if use.power is not None:
        limit = f"/{use.power_limit:.0f}" if use.power_limit else ""
        parts.append((4, f"{use.power:.0f}{limit} W", ""))
    if use.temperature is not None:
        parts.append((3, f"{use.temperature} °C", ""))
    return parts


def _standing(standing: Standing) -> list[Part]:
    left = part(standing.memory_left, standing.cores_left) or "nothing"
    reserved = part(standing.memory_reserved, standing.cores_reserved)
    return [(0, f"{left} free", ""), (1, f"{reserved} reserved", "")]


def _holder(holder: Holder) -> list[Part]:
    container = holder.container
    parts: list[Part] = [(0, one_line(container.called), "bold")]
    if container.beside:
        parts.append((4, one_line(container.beside), "dim"))
    if not holder.leased:
        parts.append((1, "no lease", "red"))
    if holder.exclusive:
        parts.append((5, "exclusive", ""))
    if holder.is_share:
        text = f"has {part(holder.reserved_memory, holder.reserved_cores)}"
        parts.append((1, f"{text}, uses more", "red") if holder.is_over else (1, text, ""))
    return parts + (_figures(holder.memory, holder.utilization) if holder.processes else [(3, "idle", "dim")])


def _process(process: Working) -> list[Part]:
    parts: list[Part] = [(0, str(process.pid), ""), (2, one_line(process.name), "")]
    if process.kind in _KINDS and not process.server:
        parts.append((3, _KINDS[process.kind], ""))
    return parts + _figures(process.memory, process.utilization)


def _owner(pid: int) -> str:
    """Return the name of the user that a process runs as, its number where it has none."""
    import pwd

    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return "a process that has ended"
    try:
        return one_line(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return str(uid)


def _figures(memory: int | None, utilization: int | None) -> list[Part]:
    parts: list[Part] = []
    if memory is not None:
        parts.append((2, amounts.shown(memory), ""))
    if utilization is not None:
        parts.append((1, f"{utilization}%", _heat(utilization)))
    return parts


def _line(indent: int, parts: Sequence[Part], width: int) -> Text:
    """Return a line, without its least important parts where it would be too long."""
    from rich.cells import cell_len
    from rich.text import Text

    kept = [part for part in parts if part[1]]
    while indent + sum(cell_len(text) + 2 for _, text, _ in kept) - 2 > width:
        least = max(rank for rank, _, _ in kept)
        if least == 0:
            break  # the terminal wraps it
        kept = [part for part in kept if part[0] != least]
    text = Text(" " * indent)
    return text.append_text(Text("  ").join([Text(each, style=style) for _, each, style in kept]))


def _heat(percent: int) -> str:
    return "red" if percent >= _HOT else "yellow" if percent >= _WARM else "green"


def _gib(number: int) -> str:
    return f"{number / _GIB:.1f}"

"""GPUs that are marked sick, STATE/sick.json: the driver still has them, and has reported what only a reset ends.

`oci-gpu watch` marks them, by Xid errors in the kernel's log; `oci-gpu gpus heal` takes the mark away, and so does a
boot. A start reads the file only if there is one. A GPU is known by its place on the bus, since a GPU that was lost may
have no UUID.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits, state
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import HookError, StateError, quoted, reason
from oci_gpu_hook.base.processes import boot_id
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.model import MARKED_SICK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.model import Gpu

NAME: Final = "sick.json"
_LOCK: Final = "sick.lock"


class Mark(Record):
    """Why a GPU is marked: the number and the text of the driver's error, and when it was seen (RFC 3339, UTC)."""

    xid: int
    text: str
    since: str


def marked(gpus: tuple[Gpu, ...], config: Config) -> tuple[Gpu, ...]:
    """Return the GPUs, those that are marked with a fault."""
    found = marks(config)
    if not found:
        return gpus
    return tuple([gpu.replace(fault=_fault(found[gpu.bus_id])) if _is_in(gpu, found) else gpu for gpu in gpus])


def marks(config: Config) -> dict[str, Mark]:
    """Return the marks of this boot by bus id; none if the file cannot be used."""
    try:
        directory = state.existing(config.state_dir)
        data = state.read(os.path.join(directory, NAME), limits.SICK) if directory else None
        document: Any = parse(data, NAME) if data else {}
        if document.get("bootId") != boot_id():
            return {}
        return {
            str(place): Mark(xid=int(found["xid"]), text=str(found["text"]), since=str(found["since"]))
            for place, found in document["gpus"].items()
        }
    except (HookError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def mark(bus_id: str, found: Mark, config: Config) -> bool:
    """Mark a GPU, unless it is marked already; tell whether it was not. Raises StateError."""

    def add(known: dict[str, Mark]) -> bool:
        if bus_id in known:
            return False
        known[bus_id] = found
        return True

    return _change(add, config)


def heal(bus_ids: Iterable[str], config: Config) -> bool:
    """Take the marks of GPUs away; tell whether there were any. Raises StateError."""
    places = frozenset(bus_ids)

    def take(known: dict[str, Mark]) -> bool:
        found = places & known.keys()
        for bus_id in found:
            del known[bus_id]
        return bool(found)

    return _change(take, config)


def _change(change: Callable[[dict[str, Mark]], bool], config: Config) -> bool:
    """Change the marks under their lock. Raises StateError."""
    from oci_gpu_hook.base.files import replace_file  # a start only reads
    from oci_gpu_hook.base.locks import acquire

    directory = state.directory(config.state_dir)
    path = os.path.join(directory, NAME)
    remedy = f"check that root can write to {quoted(directory)}"
    try:
        lock = acquire(os.path.join(directory, _LOCK), limits.LEASES_LOCK_SECONDS)
        if lock is None:
            raise StateError(quoted(path), "is locked by another process", "try again", "OGH1114")
        try:
            known = marks(config)
            if not change(known):
                return False
            if known:
                gpus = {place: dict(each.__dict__) for place, each in known.items()}
                replace_file(path, dump({"version": 1, "bootId": boot_id(), "gpus": gpus}))
            else:
                os.unlink(path)
            return True
        finally:
            os.close(lock)
    except PermissionError as error:
        raise state.unusable(directory, error) from None
    except OSError as error:
        raise StateError(quoted(path), reason(error), remedy, "OGH1506") from None


def _is_in(gpu: Gpu, found: dict[str, Mark]) -> bool:
    return not gpu.fault and gpu.bus_id in found


def _fault(found: Mark) -> str:
    text = f", {quoted(found.text)}" if found.text else ""  # which has the name of a process in it
    return f"{MARKED_SICK} since {found.since}: Xid {found.xid}{text}"

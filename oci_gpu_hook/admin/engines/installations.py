"""The record of what was installed into which engine, in a file that outlives a restart of the host.

By it `oci-gpu uninstall` leaves what another engine still uses, and `uninstall --all` finds files at unusual places.
"""

from __future__ import annotations

import json  # noqa: TID253
import os

from oci_gpu_hook.admin.engines import files
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.model import Change, Installation
from oci_gpu_hook.base.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.admin.engines.model import Target

PATH: Final = "/var/lib/oci-gpu-hook/installations.json"
_MEMBERS: Final = {
    "engine": "engine",
    "directory": "directory",
    "file": "file",
    "hooksDirectory": "hooks_directory",
    "output": "output",
    "alsoAs": "also_as",
}


def path_of(target: Target) -> str:
    """Return the path of the record: of the file system at `root`, or of a user who is not root."""
    if target.root == "/" and os.geteuid():
        home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
        return os.path.join(home, "oci-gpu-hook", os.path.basename(PATH))
    return target.path(PATH)


def read(target: Target) -> tuple[Installation, ...]:
    """Return the recorded installations. Raises EngineFileError."""
    path = path_of(target)
    contents = files.read(path)
    if contents is None:
        return ()
    try:
        entries = json.loads(contents)
        found = tuple(Installation(**{_MEMBERS[name]: value for name, value in each.items()}) for each in entries)
        if all(type(value) is str for each in found for value in each.__dict__.values()):
            return found
        why = "has values that are not strings"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        why = "is not a record of installations"
    raise EngineFileError(quoted(path), why, "remove it; `oci-gpu install ENGINE` writes a new one", "OGH1805")


def of(target: Target, engine: str) -> Installation:
    """Return the installation that a target describes."""
    return Installation(
        engine=engine,
        directory=os.path.dirname(target.hook),
        file=target.file,
        hooks_directory=target.hooks_directory,
        output=target.output,
        also_as=target.also_as,
    )


def informed(target: Target, engine: str) -> Target:
    """Return the target with what the record says of it and of others. Raises EngineFileError."""
    place = of(target, engine).place()
    there = read(target)
    recorded = next((each for each in there if each.place() == place), None)
    return target.replace(recorded=recorded, others=tuple(each for each in there if each.place() != place))


def added(target: Target, engine: str) -> Change | None:
    """Return the change that records the installation of an informed target, None if it is recorded."""
    one = of(target, engine)
    if target.recorded and not one.also_as:
        one = one.replace(also_as=target.recorded.also_as)
    return None if one == target.recorded else _change(target, (*target.others, one))


def removed(target: Target) -> Change | None:
    """Return the change that takes the installation of an informed target out of the record, None if it has none."""
    return _change(target, target.others) if target.recorded else None


def emptied(target: Target) -> Change | None:
    """Return the change that removes the record, None if there is none."""
    return _change(target, ())


def _change(target: Target, entries: Sequence[Installation]) -> Change | None:
    path = path_of(target)
    before = files.read(path)
    if before is None and not entries:
        return None
    rows = [{name: value for name, of in _MEMBERS.items() if (value := getattr(each, of))} for each in entries]
    after = json.dumps(rows, indent=2).encode() + b"\n" if entries else None
    return Change(path=path, before=before, after=after)

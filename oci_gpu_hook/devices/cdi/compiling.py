"""The compiled form of the specification files: read and checked once after a change, by a process apart.

YAML costs a start more than all else, and a file may be of any size and form. So a separate process reads the files
within limits of time and memory; what it says is all that this one believes. What is compiled is CDI's JSON form of
what the files have, by kind.
"""

from __future__ import annotations

import os
import sys

import oci_gpu_hook
from oci_gpu_hook.base import apart, limits
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import DriverError, HookError, described_bug, quoted
from oci_gpu_hook.devices.cdi import facts
from oci_gpu_hook.devices.json_form import edits_to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

    from oci_gpu_hook.devices.cdi.spec_files.directories import Provided, Registry

_WHAT: Final = "CDI specifications"
_REMEDY: Final = "look at them with `oci-gpu cdi list`"
_YAML: Final = "yaml"
_LISTED: Final = 256  # conflicts, and broken files, that are reported


def compiled(directories: Sequence[str]) -> dict[str, Any]:
    """Return what the directories have. Raises DriverError where that cannot be read in time."""
    modules = _module_directories()

    def work() -> bytes:
        try:
            _limit_memory()
            sys.path += modules
            return dump(_read(directories))
        except HookError as error:
            return dump({"refused": error.why})
        except MemoryError:
            return dump({"refused": "they need too much memory"})
        except Exception as error:  # noqa: BLE001  a bug, which the other process reports
            return dump({"refused": described_bug(error)})

    data = apart.answer(work, limits.CDI_SECONDS)
    if not data:
        why = "the process that read them ended without an answer"
        if data is None:
            why = f"they could not be read within {limits.CDI_SECONDS:g} s"
        raise DriverError(_WHAT, why, _REMEDY, "OGH1407")
    if len(data) > limits.CDI_COMPILED:
        why = f"they are larger than {limits.CDI_COMPILED} bytes together"
        raise DriverError(_WHAT, why, "remove those that are not needed from the directories", "OGH1407")
    document: dict[str, Any] = parse(data, _WHAT)
    if "refused" in document:
        raise DriverError(_WHAT, document["refused"], _REMEDY, "OGH1407")
    return document


def _read(directories: Sequence[str]) -> dict[str, Any]:
    from oci_gpu_hook.devices.cdi.spec_files import directories as reading

    files = reading.files(directories)
    above = facts.above([*files, *(os.path.join(directory, "x") for directory in directories)])
    above += [path for path in reading.passed_by_all(files) if path not in above]
    # Before the files are read: what changes meanwhile differs from its facts, and is read again by the next.
    gathered = facts.gather(directories, files, above)
    found = to_json(reading.read(directories))
    return found | {"paths": files, "above": above, "facts": gathered}


def to_json(found: Registry) -> dict[str, Any]:
    """Return the members of the compiled form that do not depend on when it was made.

    What together is more than can be read back is left out, the largest files first.
    """
    of_files: dict[str, list[Provided]] = {}
    for provided in found.devices.values():
        of_files.setdefault(provided.path, []).append(provided)
    made = {path: _of_file(provided) for path, provided in of_files.items()}
    left_out = _left_out({path: dump(content) for path, content in made.items()})
    kinds: dict[str, dict[str, Any]] = {}
    for path, (name, edits, devices) in made.items():
        if path not in left_out:
            kind = kinds.setdefault(name, {"files": [], "edits": [], "devices": []})
            kind["devices"] += [[device, len(kind["files"]), own] for device, own in devices]
            kind["files"].append(path)
            kind["edits"].append(edits)
    broken = [*found.problems, *(file.problems[0] for file in found.files if file.problems)]
    broken += [f"{quoted(path)} is left out: all files have too much in them together" for path in left_out]
    return {
        "kinds": kinds,
        "conflicts": [[name, list(paths)] for name, paths in found.conflicts.items()][:_LISTED],
        "broken": broken[:_LISTED],
    }


def _of_file(provided: Sequence[Provided]) -> tuple[str, dict[str, object], list[tuple[str, dict[str, object]]]]:
    """Return kind, the edits of all devices, and each device's own, of one file."""
    specification = provided[0].specification
    devices = [(each.device.name, edits_to_json(each.device.edits)) for each in provided]
    return specification.kind, edits_to_json(specification.edits), devices


def _left_out(contents: Mapping[str, bytes]) -> list[str]:
    sizes = {path: (len(data), sum(map(data.count, (b",", b"[", b"{")))) for path, data in contents.items()}
    left_out: list[str] = []
    for path in sorted(sizes, key=lambda path: (-sizes[path][0], path)):
        kept = [size for each, size in sizes.items() if each not in left_out]
        if (
            sum(size for size, _ in kept) <= limits.CDI_COMPILED // 2
            and sum(items for _, items in kept) <= limits.JSON_ITEMS // 2
        ):
            break
        left_out.append(path)
    return left_out


def _limit_memory() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = min(limit for limit in (limits.CDI_MEMORY, soft, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _module_directories() -> list[str]:
    """Return where PyYAML is: beside this package, or where Python keeps modules. Raises DriverError."""
    import site

    beside = os.path.dirname(os.path.dirname(os.path.abspath(oci_gpu_hook.__file__)))
    for directory in (beside, *sys.path, *site.getsitepackages()):
        if directory.startswith("/") and os.path.isdir(os.path.join(directory, _YAML)):
            return [directory]
    raise DriverError(
        _WHAT, f"{sys.executable} has no module yaml", "install PyYAML for the Python that runs the hook", "OGH1407"
    )

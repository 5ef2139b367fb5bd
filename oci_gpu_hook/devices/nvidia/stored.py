"""The inventory on paper: JSON for the state directory, in rows, since names of fields would cost every start.

What is read back is this project's own (base.state answers for that), so fields go into records as they are.
`capabilities` and `options` of a row are indices into `words`, so that what few rows bring is passed over at once.
"""

from __future__ import annotations

from oci_gpu_hook.devices.nvidia.model import DriverFile, Gpu, Inventory, Library, Link, MigDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Final, TypeVar

    from oci_gpu_hook.base.record import Record
    from oci_gpu_hook.devices.nvidia.model import DeviceNode

    R = TypeVar("R", bound=Record)

# What a row holds.
LIBRARY: Final = ("capabilities", "host_path", "name", "soname", "links", "directory", "bits", "cached")
FILE: Final = ("capabilities", "options", "host_path", "container_path", "directory")
LINK: Final = ("capabilities", "path", "target", "bits")


def from_json(
    document: Mapping[str, Any],
    wanted: frozenset[str] | None = None,
    nodes: Sequence[DeviceNode] = (),
    missing_nodes: Sequence[tuple[str, tuple[str, ...]]] = (),
) -> Inventory:
    """Return the inventory with these nodes and, of libraries, files and links, what `wanted` brings; None is all.

    Raises LookupError, TypeError, ValueError or AttributeError for another form.
    """
    words = [tuple(listed) for listed in document["words"]]
    brought = [wanted is None or not listed or not wanted.isdisjoint(listed) for listed in words]
    libraries = _records(Library, LIBRARY, document["libraries"], words, brought)
    for library in libraries:
        library.__dict__["links"] = tuple(map(tuple, library.links))
    files = _records(DriverFile, FILE, document["files"], words, brought)
    for file in files:
        file.__dict__["options"] = words[file.options]  # type: ignore[call-overload]
    return Inventory(
        driver_version=document["driver_version"],
        cuda_version=document["cuda_version"],
        gpus=tuple(map(_gpu, document["gpus"])),
        libraries=libraries,
        files=files,
        links=_records(Link, LINK, document["links"], words, brought),
        nodes=tuple(nodes),
        missing_nodes=tuple(missing_nodes),
        imex_major=document["imex_major"],
        proc_files=tuple(map(tuple, document["proc_files"])),
        detailed=document["detailed"],
        unclaimed=tuple(document["unclaimed"]),
        warnings=tuple(document["warnings"]),
    )


def _records(
    kind: type[R],
    names: Sequence[str],
    rows: Iterable[Sequence[Any]],
    words: Sequence[tuple[str, ...]],
    brought: Sequence[bool],
) -> tuple[R, ...]:
    made = []
    for row in rows:
        at = row[0]
        if brought[at]:
            fields = dict(zip(names, row, strict=True))
            fields["capabilities"] = words[at]
            made.append(kind.of(fields))
    return tuple(made)


def _gpu(fields: dict[str, Any]) -> Gpu:
    fields["drm"] = tuple(fields["drm"])
    fields["links"] = tuple(map(tuple, fields["links"]))
    fields["mig_devices"] = tuple([MigDevice(**mig) for mig in fields["mig_devices"]])
    return Gpu.of(fields)

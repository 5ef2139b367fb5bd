"""Devices of other kinds than those with their own words: by CDI-qualified names, and by count with a kind. Pure.

Imported for containers that name such a device or a kind. What the names stand for, the specification files of the host
say (devices.cdi).
"""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.request import qualified_name, vendors
from oci_gpu_hook.request.ask import Ask
from oci_gpu_hook.request.model import DEFAULT_KIND
from oci_gpu_hook.request.values import check_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.request.qualified_name import QualifiedName

_NOTHING: Final = ("none", "void")


def checked_kind(text: str, what: str) -> str:
    """Return the kind of devices that a text names. Raises InvalidInput for what can be none. what: where it stands."""
    kind = text.strip()
    name = qualified_name.parse(f"{kind}=0")
    if name is None:
        raise InvalidInput(
            f"{what}={quoted(text)}", "is not a kind of devices", "write vendor/class, such as amd.com/gpu", "OGH1210"
        )
    served = qualified_name.kind_of(name.vendor)
    if served and kind != served and vendors.of(served).serves(name):
        why = f"such devices are counted as {served}"
        raise InvalidInput(
            f"{what}={quoted(text)}", why, f"write {served}, and name a MIG profile for MIG devices", "OGH1210"
        )
    return kind


def is_other(name: QualifiedName) -> bool:
    """Tell whether a name is of a kind that no vendor's own words serve."""
    served = qualified_name.kind_of(name.vendor)
    return not (served and vendors.of(served).serves(name))


def split(listed: Sequence[str], what: str, kind: str) -> tuple[list[str], list[QualifiedName]]:
    """Return the items that are for the words of DEFAULT_KIND, and the names of other kinds. Raises InvalidInput.

    kind: of names without one.
    """
    check_number(len(listed), what)
    plain: list[str] = []
    others = []
    for item in listed:
        name = qualified_name.parse(item)
        if name is None and kind != DEFAULT_KIND:
            if item in _NOTHING:
                continue
            name = qualified_name.parse(f"{kind}={item}")
            if name is None:
                remedy = f"write a device's name, or {kind}=NAME"
                raise InvalidInput(what, f"{quoted(item)} cannot be a device of {kind}", remedy, "OGH1211")
        if name is None or not is_other(name):
            plain.append(item)
        else:
            others.append(name)
    return plain, others


def asks(
    names: Iterable[QualifiedName],
    source: str,
    what: str,
    *,
    variables: tuple[str, ...] = (),
    engine_serves: bool = False,
) -> list[Ask]:
    """Return what is asked for by names, an ask for each kind, in the order of the names."""
    found: dict[str, dict[str, None]] = {}
    for name in names:
        found.setdefault(f"{name.vendor}/{name.device_class}", {})[name.name] = None
    return [
        Ask(
            kind=kind,
            source=source,
            what=what,
            devices=tuple(devices),
            variables=variables,
            engine_serves=engine_serves,
        )
        for kind, devices in found.items()
    ]


def joined(asks: Iterable[Ask]) -> list[Ask]:
    """Return the asks with those of one kind as one: what two sources name is given together."""
    found: dict[str, Ask] = {}
    for ask in asks:
        known = found.get(ask.kind)
        if known is None or known.devices is None:
            found.setdefault(ask.kind, ask)
        else:
            devices = tuple(dict.fromkeys((*known.devices, *(ask.devices or ()))))
            engine_serves = known.engine_serves and ask.engine_serves
            found[ask.kind] = known.replace(devices=devices, engine_serves=engine_serves)
    return list(found.values())


def said_kind(annotation: str, annotations: Mapping[str, str], variable: str, variables: Mapping[str, str]) -> str:
    """Return the kind that the annotation says, else the variable, "" for none. Raises InvalidInput."""
    for key, values in ((annotation, annotations), (variable, variables)):
        if values.get(key, "").strip():
            return checked_kind(values[key], key)
    return ""

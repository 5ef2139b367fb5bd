"""AMD_VISIBLE_DEVICES, by AMD's rules. Pure; imported for containers that have the variable.

Source: ROCm/container-toolkit, internal/oci/oci.go (getAMDEnv) and internal/gpu-tracker (parseGPUsList): `all`, or a
list of indices, ranges of them (0-3) and unique ids in hexadecimal. AMD's runtime passes over what it cannot read, so
that a container with a slip of the pen starts without its GPUs; here that is an error. `none` and `void`, which ask for
nothing there by being unknown, ask for nothing here by their meaning.
"""

from __future__ import annotations

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.request import qualified_name
from oci_gpu_hook.request.ask import Ask, Said
from oci_gpu_hook.request.values import check_number, digits, items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import BundleMount, Container
    from oci_gpu_hook.request.qualified_name import QualifiedName

KIND: Final = "amd.com/gpu"
VISIBLE_DEVICES: Final = "AMD_VISIBLE_DEVICES"
_NOTHING: Final = ("none", "void")
_HEX: Final = frozenset("0123456789abcdef")
_MARKED_BELOW: Final = 9  # digits of a unique id without 0x: eight decimal digits are an index
_DIGITS_OF_ID: Final = 16
_OF_ROCM: Final = "gpu-"  # as rocminfo and ROCR_VISIBLE_DEVICES write a unique id


def serves(name: QualifiedName) -> bool:
    """Tell whether a name means an AMD GPU."""
    return f"{name.vendor}/{name.device_class}" == KIND


def is_applied(_variables: Mapping[str, str], _warnings: list[str]) -> bool:
    """Return no: AMD's CDI specifications set no variable."""
    return False


def from_mounts(_mounts: Sequence[BundleMount], _warnings: list[str]) -> Ask | None:
    """Return nothing: AMD's device plugin mounts nothing that asks."""
    return None


def said(variables: Mapping[str, str], _config: Config) -> Said:
    """Return what the variable says."""
    listed = items(variables.get(VISIBLE_DEVICES, ""))
    present = (VISIBLE_DEVICES,) if VISIBLE_DEVICES in variables else ()
    declines = any(item in _NOTHING for item in listed)
    return Said(source="environment", variables=present, items=tuple(listed), declines=declines)


def options(
    _ask: Ask, _container: Container, _config: Config, _variables: Mapping[str, str], _warnings: list[str]
) -> dict[str, Any]:
    """Return that no libraries are asked for: ROCm's are the image's own."""
    return {"driver_capabilities": ()}


def read_list(source: str, what: str, listed: Sequence[str], warnings: list[str]) -> Ask | None:
    """Read a list of devices. Raises InvalidInput for an item that no device can be called."""
    check_number(len(listed), what)
    listed = [_own_name(item) for item in listed]
    for item in listed:
        if item in _NOTHING or item.lower() == "all":
            unread = [other for other in listed if other != item]
            if unread:
                warnings.append(f"{what}: {quoted(item)} decides; {quoted(','.join(unread))} beside it is not read")
            return Ask(kind=KIND, source=source, what=what, devices=None if item in _NOTHING else ("all",))
    found: dict[str, None] = {}
    number = 0
    for item in listed:
        names = _names(item, what)
        number += len(names)
        check_number(number, what)  # of repetitions, too: a short list of ranges can have millions
        found.update(dict.fromkeys(names))
    return Ask(kind=KIND, source=source, what=what, devices=tuple(found) or None)


def _own_name(item: str) -> str:
    """Return what follows `amd.com/gpu=`, any other item as it is."""
    name = qualified_name.parse(item)
    return name.name if name is not None and serves(name) else item


def _names(item: str, what: str) -> list[str]:
    """Return the names of the devices that an item means. Raises InvalidInput."""
    if unique_id := _unique_id(item):
        return [unique_id]
    number = digits(item)
    if number is not None:
        return [str(number)]
    first, dash, last = item.partition("-")
    start, end = digits(first), digits(last)
    if dash and start is not None and end is not None:
        return _range(start, end, item, what)
    if _is_address(item):
        return [item.lower()]
    raise InvalidInput(
        what,
        f"{quoted(item)} is not the name of an AMD GPU",
        "write indices, ranges (0-3), unique ids (0x…) or all",
        "OGH1211",
    )


def _range(start: int, end: int, item: str, what: str) -> list[str]:
    if start > end:
        raise InvalidInput(
            what, f"the range {quoted(item)} ends before it begins", "write the smaller index first", "OGH1211"
        )
    if end - start >= limits.LISTED:
        why = f"the range {quoted(item)} has more than {limits.LISTED} devices"
        raise InvalidInput(what, why, "write a smaller one", "OGH1211")
    return [str(index) for index in range(start, end + 1)]


def _unique_id(text: str) -> str:
    """Return a unique id as the host's devices have it, `0x…`, with the number of a part; "" for other texts."""
    text = text.lower()
    name, colon, part = text.partition(":")
    bare = name.removeprefix("0x").removeprefix(_OF_ROCM)
    is_marked = bare != name
    if not (0 < len(bare) <= _DIGITS_OF_ID and _HEX.issuperset(bare)) or (colon and digits(part) is None):
        return ""
    if not is_marked and len(bare) < _MARKED_BELOW:
        return ""
    return f"0x{int(bare, 16):x}{colon}{part}"


def _is_address(text: str) -> bool:
    """Tell whether a text is a PCI address, 0000:05:00.0, which may have the number of a part."""
    parts = text.lower().split(":")
    device, dot, function = parts[2].partition(".") if len(parts) in {3, 4} else ("", "", "")
    known = [*parts[:2], device, function]
    is_part = all(digits(part) is not None for part in parts[3:])
    return bool(dot) and is_part and all(part and _HEX.issuperset(part) for part in known)

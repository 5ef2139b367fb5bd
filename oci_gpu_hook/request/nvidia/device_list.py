"""Reads a list of devices by NVIDIA's rules. Pure."""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.request import qualified_name
from oci_gpu_hook.request.ask import Ask
from oci_gpu_hook.request.model import DEFAULT_KIND
from oci_gpu_hook.request.nvidia import cdi_names
from oci_gpu_hook.request.nvidia.names import is_opaque, is_profile, normal
from oci_gpu_hook.request.values import check_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def read_list(source: str, what: str, listed: Sequence[str], warnings: list[str]) -> Ask | None:
    """Read a list of devices in the form of NVIDIA_VISIBLE_DEVICES: items trimmed, empty ones removed.

    An empty list, or `void` anywhere in it, asks for nothing. Otherwise the first of `all` and `none` decides.
    Otherwise the result is the names, without duplicates. None if the list has IMEX channels or features but no device,
    since they are useless without one. Raises InvalidInput for a name that no device can have.
    """
    check_number(len(listed), what)
    if not listed:
        return Ask(kind=DEFAULT_KIND, source=source, what=what, devices=None)
    if "void" in listed:
        _tell_unread("void", listed, what, "no GPU", warnings)
        return Ask(kind=DEFAULT_KIND, source=source, what=what, devices=None)
    names, channels, features = _unqualified(listed, what)
    for name in names:
        if name.lower() == "all":
            _tell_unread(name, names, what, "every GPU", warnings)
            if name != "all":
                warnings.append(f"{what}: {quoted(name)} is read as 'all', which NVIDIA's CDI mode does not do")
            return Ask(
                kind=DEFAULT_KIND, source=source, what=what, devices=("all",), imex_channels=channels, features=features
            )
        if name == "none":
            _tell_unread(name, names, what, "no GPU", warnings)
            return Ask(
                kind=DEFAULT_KIND, source=source, what=what, devices=(), imex_channels=channels, features=features
            )
    if not names:
        warnings.append(f"{what}: names no GPU, and nothing is given without one")
        return None
    devices = _devices(names, what, warnings)
    return Ask(
        kind=DEFAULT_KIND,
        source=source,
        what=what,
        devices=devices,
        is_profile=len(devices) == 1 and is_profile(devices[0]),
        imex_channels=channels,
        features=features,
    )


def _tell_unread(word: str, listed: Sequence[str], what: str, meaning: str, warnings: list[str]) -> None:
    unread = [item for item in listed if item != word]
    if unread:
        warnings.append(f"{what}: {quoted(word)} means {meaning}; {quoted(','.join(unread))} beside it is not read")


def _unqualified(listed: Sequence[str], what: str) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """Split a list into plain device names, IMEX channels and features. Raises InvalidInput."""
    names, channels, features = [], [], []
    for item in listed:
        qualified = qualified_name.parse(item)
        if qualified is None:
            names.append(item)
            continue
        is_nvidias = qualified_name.kind_of(qualified.vendor) == DEFAULT_KIND
        if is_nvidias and cdi_names.device(qualified):
            names.append(_device_of(qualified, item, what))
        elif is_nvidias and (channel := cdi_names.imex_channel(qualified)):
            channels.append(channel)
        elif is_nvidias and (feature := cdi_names.feature(qualified)):
            features.append(feature)
        else:
            remedy = "leave CDI devices of other kinds to the engine's own option (--device, cdi.k8s.io annotations)"
            raise InvalidInput(
                what, f"{quoted(item)} is not a CDI device of nvidia.com that is known here", remedy, "OGH1211"
            )
    return names, tuple(channels), tuple(features)


def _device_of(qualified: qualified_name.QualifiedName, item: str, what: str) -> str:
    device = cdi_names.device(qualified)
    if device == "void":
        raise InvalidInput(
            what, f"{quoted(item)} is not a CDI device", "write 'void' alone to ask for nothing", "OGH1211"
        )
    return device


def _devices(names: Sequence[str], what: str, warnings: list[str]) -> tuple[str, ...]:
    """Return the names in normal form, without duplicates. Raises InvalidInput."""
    found: dict[str, str] = {}
    for name in names:
        known = normal(name)
        if not known and not is_opaque(name):
            from oci_gpu_hook.request.nvidia import suggestions

            raise suggestions.refused(name, what)
        if not known:
            warnings.append(
                f"{what}: {quoted(name)} is in no form that drivers name devices by; names are compared whole, so the "
                "container is refused unless a device is called exactly so"
            )
        if is_profile(known) and len(names) > 1:
            why = f"the MIG profile {quoted(name)} is asked for together with other devices"
            raise InvalidInput(
                what, why, "name one profile, and say how many by io.oci-gpu-hook.count or OCI_GPU_COUNT", "OGH1212"
            )
        found.setdefault((known or name).lower(), known or name)
    return tuple(found.values())

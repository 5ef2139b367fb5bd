"""The sources of a request, in order of precedence: annotations, volume mounts, environment.

Each function returns its source's request, or None if the source makes none and the next one is to be read. `vendors`
leads to the meaning of a vendor's words.
"""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput, quoted
from oci_gpu_hook.oci import pod
from oci_gpu_hook.request import qualified_name, vendors
from oci_gpu_hook.request.ask import Ask
from oci_gpu_hook.request.model import ANNOTATION_PREFIX, DEFAULT_KIND
from oci_gpu_hook.request.values import check_number, items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import BundleMount, Container

CDI_ANNOTATION_PREFIX: Final = "cdi.k8s.io/"
# The annotations that select devices: one of the container's own takes precedence over all of the pod's.
WHICH: Final = tuple(ANNOTATION_PREFIX + name for name in ("devices", "count", "memory"))
_COUNT: Final = "OCI_GPU_COUNT"


def environment(entries: Sequence[str], warnings: list[str]) -> dict[str, str]:
    """Return the variables; of several with one name the last counts. Entries without `=` cause a warning."""
    variables = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if equals:
            variables[name] = value
        else:
            warnings.append(f"the environment entry {quoted(entry)} has no '=' and sets nothing")
    return variables


def check_entries(entries: Sequence[str]) -> None:
    """Raise InvalidInput for an entry without `=`, because nobody can know what the container asks for by it."""
    for entry in entries:
        if "=" not in entry:
            what = f"process.env: the entry {quoted(entry)}"
            raise InvalidInput(what, "has no '='", "write NAME=VALUE, or remove it from the image")


def from_annotations(container: Container, variables: Mapping[str, str], warnings: list[str]) -> Ask | None:
    """Read io.oci-gpu-hook.devices, io.oci-gpu-hook.count and cdi.k8s.io/*. Raises InvalidInput."""
    by_name, by_count = (pod.own_key(container.annotations, key) for key in WHICH[:2])
    own = container.annotations.get(by_name)
    count = container.annotations.get(by_count, "").strip()
    qualified = _cdi_devices(container.annotations, warnings)
    words = vendors.of(DEFAULT_KIND)
    if qualified and own is None and not count and words.is_applied(variables, warnings):
        return Ask(kind=DEFAULT_KIND, source="annotations", what=CDI_ANNOTATION_PREFIX + "*", devices=None)
    if own is None and not qualified:
        what = f"{by_count}={quoted(count)}"
        ask = Ask(kind=DEFAULT_KIND, source="annotations", what=what, devices=None, count_decides=True)
        return ask if count else None
    what = CDI_ANNOTATION_PREFIX + "*" if own is None else f"{by_name}={quoted(own)}"
    return words.read_list("annotations", what, items(own or "") + qualified, warnings)


def container_declines(
    ask: Ask, container: Container, config: Config, variables: Mapping[str, str], warnings: list[str]
) -> bool:
    """Tell whether a container declines its pod's request by annotations: its variables say `void`, or nothing.

    It cannot decline its own annotations, which all are if it is not in a pod.
    """
    if ask.devices is None and not ask.count_decides:
        return False
    annotations = container.annotations
    if not pod.is_in_pod(annotations) or any(pod.own_key(annotations, key) != key for key in WHICH):
        return False
    said = vendors.of(ask.kind).said(variables, config)
    if not said.variables or (said.items and not said.declines):
        return False
    by = ", ".join(f"{name}={quoted(variables[name])}" for name in said.variables)
    warnings.append(f"{ask.what} is of the pod and is not read: the container says {by}")
    return True


def without_devices(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations without those that select devices."""
    return {key: text for key, text in annotations.items() if key not in WHICH}


def from_mounts(mounts: Sequence[BundleMount], warnings: list[str]) -> Ask | None:
    """Read the mounts in which a vendor's device plugin requests devices. Raises InvalidInput."""
    for kind in vendors.KINDS:
        ask = vendors.of(kind).from_mounts(mounts, warnings)
        if ask is not None:
            return ask
    return None


def tell_unread_mounts(mounts: Sequence[BundleMount], warnings: list[str]) -> None:
    """Warn of a container that asks only by mounts if the configuration does not accept those, and name the key."""
    if all(mount.source != "/dev/null" for mount in mounts):
        return  # checked first, because the words of vendors would have to be imported
    try:
        asks = from_mounts(mounts, [])
    except InvalidInput:
        asks = None  # these mounts would be refused if they were read
    if asks and asks.devices is not None:
        key = "accept-nvidia-visible-devices-as-volume-mounts"
        warnings.append(f"{asks.what} are not read: {key} is false in config.toml")


def from_environment(
    container: Container, config: Config, variables: Mapping[str, str], warnings: list[str]
) -> Ask | None:
    """Read the variables of each vendor, otherwise what an old image implies. Raises InvalidInput.

    Return None, with a warning, also if policy forbids an unprivileged container to ask by variables.
    """
    for kind in vendors.KINDS:
        ask = _from_variables(kind, container, config, variables, warnings)
        if ask is not None:
            return ask
    return None


def _from_variables(
    kind: str, container: Container, config: Config, variables: Mapping[str, str], warnings: list[str]
) -> Ask | None:
    words = vendors.of(kind)
    said = words.said(variables, config)
    count = variables.get(_COUNT, "").strip()
    by_count = bool(count) and not said.outranks_count and not said.items
    if not (said.items or by_count or said.implied):
        return None
    if not (container.privileged or config.accept_envvar_when_unprivileged):
        if not said.declines:
            implied = [said.implied.what] if said.implied else []
            by = ", ".join(said.variables if said.items else [_COUNT] if by_count else implied)
            warnings.append(f"GPUs asked for by {by} are not given: the container is unprivileged (see config.toml)")
        return None
    if by_count:
        what = f"{_COUNT}={quoted(count)}"
        asked: Ask | None = Ask(
            kind=kind, source="environment", what=what, devices=None, count_decides=True, variables=(_COUNT,)
        )
    elif said.implied:
        asked = said.implied
    else:
        what = ", ".join(f"{name}={quoted(variables[name])}" for name in said.variables)
        asked = words.read_list(said.source, what, said.items, warnings)
        asked = asked and asked.replace(variables=said.variables)
    if asked is None or said.declines or config.image_may_ask == "yes":
        return asked
    from oci_gpu_hook.request import image_asks

    return image_asks.heard(asked, container, config.image_may_ask, warnings)


def _cdi_devices(annotations: Mapping[str, str], warnings: list[str]) -> list[str]:
    """Return those CDI names in the cdi.k8s.io/* annotations that are served here, and not by the engine.

    Raises InvalidInput for an entry that begins like a name of a vendor that is served but is not a CDI name: passed
    over, it would give the container fewer devices than it asks for.
    """
    found: list[str] = []
    looked_at = 0
    for key in sorted(key for key in annotations if key.startswith(CDI_ANNOTATION_PREFIX)):
        listed = items(annotations[key])
        looked_at += len(listed)
        check_number(looked_at, CDI_ANNOTATION_PREFIX + "*")
        for item in listed:
            name = qualified_name.parse(item)
            vendor = name.vendor if name else item.replace("=", "/").partition("/")[0]
            kind = qualified_name.kind_of(vendor)
            if name and kind and vendors.of(kind).serves(name):
                found.append(item)
            elif name is None and kind:
                what = f"{key}={quoted(annotations[key])}"
                raise InvalidInput(
                    what, f"{quoted(item)} is not a CDI name", "write vendor/class=name: nvidia.com/gpu=0"
                )
            else:
                warnings.append(f"annotation {quoted(key)}: {quoted(item)} is not served here; the engine may serve it")
    return found

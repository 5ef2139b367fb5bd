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
    from oci_gpu_hook.request.vendor import Words

CDI_ANNOTATION_PREFIX: Final = "cdi.k8s.io/"
# The annotations that select devices: one of the container's own takes precedence over all of the pod's.
WHICH: Final = tuple(ANNOTATION_PREFIX + name for name in ("devices", "count", "memory"))
_KIND_ANNOTATION: Final = ANNOTATION_PREFIX + "kind"
_COUNT: Final = "OCI_GPU_COUNT"
_DEVICES: Final = "OCI_GPU_DEVICES"
_KIND: Final = "OCI_GPU_KIND"


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
            raise InvalidInput(what, "has no '='", "write NAME=VALUE, or remove it from the image", "OGH1206")


def from_annotations(
    container: Container, kind: str, variables: Mapping[str, str], warnings: list[str]
) -> tuple[list[Ask], list[Ask]]:
    """Read io.oci-gpu-hook.devices, io.oci-gpu-hook.count and cdi.k8s.io/*. Raises InvalidInput.

    kind: that is said, "" for none. Return what this decides, so that no other source is read, and what is asked for
    beside whatever others ask: devices of other kinds, by cdi.k8s.io/*.
    """
    annotations = container.annotations
    by_name, by_count = (pod.own_key(annotations, key) for key in WHICH[:2])
    own = annotations.get(by_name)
    count = annotations.get(by_count, "").strip()
    qualified, beside = _cdi_devices(annotations, warnings)
    words = vendors.of(DEFAULT_KIND)
    what = CDI_ANNOTATION_PREFIX + "*" if own is None else f"{by_name}={quoted(own)}"
    plain, decided = items(own or ""), []
    if own is not None and (kind not in ("", DEFAULT_KIND) or "/" in own):
        from oci_gpu_hook.request import other_kinds

        plain, others = other_kinds.split(plain, what, kind or DEFAULT_KIND)
        decided = other_kinds.asks(others, "annotations", what)
        if not decided and not plain and kind not in ("", DEFAULT_KIND):  # none of that kind
            decided = [Ask(kind=kind, source="annotations", what=what, devices=None, count_decides=bool(count))]
    if qualified and own is None and not count and words.is_applied(variables, warnings):
        what = CDI_ANNOTATION_PREFIX + "*"
        return [Ask(kind=DEFAULT_KIND, source="annotations", what=what, devices=None)], beside
    if qualified or plain or (own is not None and not decided):
        of_words = words.read_list("annotations", what, plain + qualified, warnings)
        decided = [of_words, *decided] if of_words else decided
    if count and (not decided or (kind and all(ask.kind != kind for ask in decided))):
        what = f"{by_count}={quoted(count)}"
        counted = Ask(kind=kind or DEFAULT_KIND, source="annotations", what=what, devices=None, count_decides=True)
        decided = [counted, *decided]
    return decided, beside


def kind_said(annotations: Mapping[str, str], variables: Mapping[str, str]) -> str:
    """Return the kind of devices that counts and names without one are of, "" for none said. Raises InvalidInput."""
    annotation = pod.own_key(annotations, _KIND_ANNOTATION)
    if annotation not in annotations and _KIND not in variables:
        return ""
    from oci_gpu_hook.request import other_kinds

    return other_kinds.said_kind(annotation, annotations, _KIND, variables)


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
    said = vendors.of(DEFAULT_KIND).said(variables, config)
    if not said.variables or (said.items and not said.declines):
        return False
    by = ", ".join(f"{name}={quoted(variables[name])}" for name in said.variables)
    warnings.append(f"{ask.what} is set for the pod and is not read: the container sets {by}")
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
    container: Container, kind: str, config: Config, variables: Mapping[str, str], warnings: list[str]
) -> list[Ask]:
    """Read OCI_GPU_DEVICES, otherwise the variables of each vendor, otherwise what an old image implies.

    kind: the one that is said, "" for none. Return nothing, with a warning, also if policy forbids an unprivileged
    container to ask by variables. Raises InvalidInput.
    """
    if variables.get(_DEVICES, "").strip() or kind not in ("", DEFAULT_KIND):
        named = _from_own_variables(container, kind, config, variables, warnings)
        if named is not None:
            return named
    others = [of for variable, of in vendors.BY_VARIABLE.items() if variables.get(variable, "").strip()]
    found = []
    for each in vendors.KINDS:
        words = vendors.of(each)
        found.append(_from_variables(words, each, container, config, variables, warnings, counts=not others))
    for each, words_of in others:
        found.append(_from_variables(words_of(), each, container, config, variables, warnings, counts=False))
    asks = [ask for ask in found if ask is not None]
    wanted = [ask for ask in asks if ask.devices is not None or ask.count_decides]
    if len(wanted) > 1:  # by an image for the hosts of several vendors
        return [ask.replace(any_kind=True) for ask in wanted]
    return wanted or asks[:1]


def _from_own_variables(
    container: Container, kind: str, config: Config, variables: Mapping[str, str], warnings: list[str]
) -> list[Ask] | None:
    """Read OCI_GPU_DEVICES, and OCI_GPU_COUNT of a kind that is said; None where neither decides."""
    text, count = variables.get(_DEVICES, ""), variables.get(_COUNT, "").strip()
    names = bool(text.strip())
    of_kind = bool(count) and kind not in ("", DEFAULT_KIND)
    if not (names or of_kind):
        return None
    what = f"{_DEVICES}={quoted(text)}" if names else f"{_COUNT}={quoted(count)}"
    if not (container.privileged or config.accept_envvar_when_unprivileged):
        by = _DEVICES if names else _COUNT
        warnings.append(f"devices asked for by {by} are not given: the container is unprivileged (see config.toml)")
        return []
    from oci_gpu_hook.request import other_kinds

    plain, others = other_kinds.split(items(text), what, kind or DEFAULT_KIND)
    asked = other_kinds.asks(others, "environment", what, variables=(_DEVICES,))
    if plain:
        of_words = vendors.of(DEFAULT_KIND).read_list("environment", what, plain, warnings)
        asked = [of_words.replace(variables=(_DEVICES,)), *asked] if of_words else asked
    if of_kind and all(ask.kind != kind for ask in asked):
        what = f"{_COUNT}={quoted(count)}"
        of_count = Ask(
            kind=kind, source="environment", what=what, devices=None, count_decides=True, variables=(_COUNT,)
        )
        asked = [of_count, *asked]
    return [ask for each in asked if (ask := heard(each, container, config, warnings))]


def heard(ask: Ask, container: Container, config: Config, warnings: list[str]) -> Ask | None:
    """Return an ask by variables, None where `[request] image-may-ask` keeps it from being one."""
    if config.image_may_ask == "yes":
        return ask
    from oci_gpu_hook.request import image_asks

    return image_asks.heard(ask, container, config.image_may_ask, warnings)


def _from_variables(  # noqa: PLR0913, PLR0917
    words: Words,
    kind: str,
    container: Container,
    config: Config,
    variables: Mapping[str, str],
    warnings: list[str],
    *,
    counts: bool,
) -> Ask | None:
    """Return what a vendor's variables ask for. counts: whether OCI_GPU_COUNT asks where they list nothing."""
    said = words.said(variables, config)
    count = variables.get(_COUNT, "").strip()
    by_count = counts and bool(count) and not said.outranks_count and not said.items
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
    return asked if asked is None or said.declines else heard(asked, container, config, warnings)


def _cdi_devices(annotations: Mapping[str, str], warnings: list[str]) -> tuple[list[str], list[Ask]]:
    """Return the CDI names of the cdi.k8s.io/* annotations that a vendor's own words serve, and asks for all others.

    Raises InvalidInput for an entry that begins like a name of a vendor that is served but is not a CDI name: passed
    over, it would give the container fewer devices than it asks for.
    """
    found: list[str] = []
    others = []
    looked_at = 0
    for key in sorted(key for key in annotations if key.startswith(CDI_ANNOTATION_PREFIX)):
        listed = items(annotations[key])
        looked_at += len(listed)
        check_number(looked_at, CDI_ANNOTATION_PREFIX + "*")
        for item in listed:
            name = qualified_name.parse(item)
            kind = qualified_name.kind_of(name.vendor if name else item.replace("=", "/").partition("/")[0])
            if name and kind and vendors.of(kind).serves(name):
                found.append(item)
            elif name:
                others.append(name)
            elif kind:
                what = f"{key}={quoted(annotations[key])}"
                raise InvalidInput(
                    what, f"{quoted(item)} is not a CDI name", "write vendor/class=name: nvidia.com/gpu=0", "OGH1211"
                )
            else:
                warnings.append(f"annotation {quoted(key)}: {quoted(item)} is not a CDI name and is not read")
    if not others:
        return found, []
    from oci_gpu_hook.request import other_kinds

    what = CDI_ANNOTATION_PREFIX + "*"
    return found, other_kinds.asks(others, "annotations", what, engine_serves=pod.is_in_pod(annotations))

"""Requests that say how much of a device is needed and name none: they are for one device."""

from __future__ import annotations

from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.oci import pod
from oci_gpu_hook.request import by_count, sources, vendors
from oci_gpu_hook.request.ask import Ask
from oci_gpu_hook.request.model import ANNOTATION_PREFIX, DEFAULT_KIND, variable_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.oci.container import Container
_OF_PODS: Final = tuple(ANNOTATION_PREFIX + name for name in by_count.SHARE)


def asks(
    container: Container, kind: str, config: Config, variables: Mapping[str, str], warnings: list[str]
) -> list[Ask]:
    """Return the request for one device, of which a container asks for a part without saying which device.

    kind: that is said, "" for none.
    """
    found = by_count.settings(container.annotations, variables)
    setting = next(found[name] for name in by_count.SHARE if name in found)
    what = f"{setting.what}={quoted(setting.text)}"
    said = vendors.of(DEFAULT_KIND).said(variables, config)
    if setting.what in container.annotations:
        if pod.is_in_pod(container.annotations) and said.variables and setting.what in _OF_PODS:
            by = ", ".join(f"{name}={quoted(variables[name])}" for name in said.variables)
            warnings.append(f"{what} is set for the pod and is not read: the container sets {by}")
            return []
        return [Ask(kind=kind or DEFAULT_KIND, source="annotations", what=what, devices=None, count_decides=True)]
    if not (container.privileged or config.accept_envvar_when_unprivileged):
        name = setting.what
        warnings.append(f"GPUs asked for by {name} are not given: the container is unprivileged (see config.toml)")
        return []
    ask = Ask(
        kind=kind or DEFAULT_KIND,
        source="environment",
        what=what,
        devices=None,
        count_decides=True,
        variables=tuple(variable_of(name) for name in by_count.SHARE if name in found),
    )
    heard = sources.heard(ask, container, config, warnings)
    return [heard] if heard else []

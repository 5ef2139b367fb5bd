"""What the containers of the log are called, those that have ended too as far as their engine still knows them."""

from __future__ import annotations

import math
import time

from oci_gpu_hook.lifecycle.census import Census
from oci_gpu_hook.oci import engine_records, naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.admin.logs.line import Line
    from oci_gpu_hook.base.config.model import Config

_AGAIN: Final = 1.0  # seconds
_HEX: Final = frozenset("0123456789abcdef")
_ID_DIGITS: Final = 64
# A root directory as it would be in the usual stores, by which the engine's records are found.
_STORES: Final = (("docker", "/var/lib/docker/overlay2/-"), ("podman", "/var/lib/containers/storage/overlay/-"))


class Names:
    """Engine and name by a container's id. What is found is kept, since a container may be gone the next time.

    The containers that run are counted once, when the first name is asked for, and again only after `go_on`.
    """

    def __init__(self, config: Config) -> None:
        self._census = Census(config)
        self._found: dict[str, tuple[str, str]] = {}
        self._looked: dict[str, float] = {}
        self._counted = -math.inf
        self._again = math.inf  # seconds after which the running containers, and one not found, are looked for again

    def go_on(self) -> None:
        """Expect lines of containers that start from now on: look again for what is not found, once a second."""
        self._again = _AGAIN

    def of(self, line: Line) -> tuple[str, str]:
        """Return the engine and the name of the container that a line is about; "" where nothing says so."""
        container, said = line.container, line.fields.get("pod")
        if type(said) is str and said:
            self._found[container] = (self._found.get(container, ("", ""))[0], said)
        if container and container not in self._found:
            now = time.monotonic()
            if now - self._looked.get(container, -math.inf) >= self._again:
                self._looked[container] = now
                self._look(container, now)
        return self._found.get(container, ("", ""))

    def means(self, text: str, line: Line) -> bool:
        """Tell whether a person who names a container by this text means the one that a line is about."""
        _, name = self.of(line)
        return bool(text) and (line.container.startswith(text) or name == text or name.endswith(f"/{text}"))

    def _look(self, container: str, now: float) -> None:
        if now - self._counted >= self._again:  # one look at all processes serves all lines that are read by then
            self._count()
            self._counted = time.monotonic()
        if container not in self._found and len(container) == _ID_DIGITS and _HEX.issuperset(container):
            for engine, rootfs in _STORES:
                if name := engine_records.name_of(container, rootfs):
                    self._found[container] = (engine, name)

    def _count(self) -> None:
        for resident in self._census.everyone():
            if resident.engine or resident.called != naming.short(resident.id):
                self._found[resident.id] = (resident.engine, resident.pod or resident.name)

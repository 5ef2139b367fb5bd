"""What is done about containers that use more of a GPU than their part: they are told of, or detached if they go on."""

from __future__ import annotations

from functools import partial
from time import monotonic

from oci_gpu_hook.allocation import query
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.lifecycle import forced, overuse
from oci_gpu_hook.lifecycle.census import Census
from oci_gpu_hook.lifecycle.patience import Patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.lifecycle.overuse import Given, Overuse


class Overdrawn:
    """Knows what was said, and tried, of whom. tell: as that of healing.Healer."""

    def __init__(self, config: Config, tell: Callable[..., object]) -> None:
        self._config = config
        self._tell = tell
        self._census = Census(config)
        self._known: dict[Given, Patience] = {}
        self._driver = Patience()
        self._is_silent = False  # whether it was told that the driver does not say

    def look(self) -> None:
        """Tell of each container that uses too much, once; take the GPU at the next look if it still does."""
        leases = query.readable(self._config).leases
        given = overuse.given_by(leases)
        if not given:
            self._known = {}
            return
        now = monotonic()
        if not self._driver.allows(now):
            return
        self._census.take(leases)
        try:
            found = {each.given: each for each in overuse.beyond(given, self._census, self._config)}
        except HookError as error:  # a driver that hangs costs seconds
            self._driver.note_repair(now)
            if not self._is_silent:
                self._tell("warning", "use of GPUs not known", reason=str(error))
            self._is_silent = True
            return
        self._is_silent = False
        self._judge(found)

    def _judge(self, found: dict[Given, Overuse]) -> None:
        self._known = {given: patience for given, patience in self._known.items() if given in found}
        for given, each in found.items():
            if given not in self._known:
                self._known[given] = Patience()
                self._say(each, "uses more than its part")
            elif self._config.sharing_on_overuse == "detach" and self._known[given].allows(monotonic()):
                self._known[given].note_repair(monotonic())
                uuids = (given.uuid,)
                forced.detach_from(given.id, given.pid, uuids, self._config, partial(self._say, each))

    def _say(self, each: Overuse, event: str, **more: object) -> None:
        given = each.given
        self._tell("warning", event, container=given.id, gpu=given.uuid, used=each.used, given=given.memory, **more)

"""Keeps the stored inventory and this host's CDI files true when the driver, the MIG layout or the set of GPUs changes.

As long as nothing changes, nothing is asked: the facts that an inventory was made from are compared by stat and /proc,
which opens no device and wakes none.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import apart, limits
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import HookError, described_bug, reason
from oci_gpu_hook.base.files import read_text
from oci_gpu_hook.devices.nvidia import facts, for_request, snapshot
from oci_gpu_hook.devices.nvidia.devices import KIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.model import Snapshot


class Keeper:
    """Knows the inventory as it was last. config_path: of config.toml; cdi_directory: of this host's CDI files."""

    def __init__(self, config: Config, config_path: str, cdi_directory: str, tell: Callable[..., object]) -> None:
        self._config = config
        self._config_path = config_path
        self._cdi_directory = cdi_directory
        self._tell = tell
        self._known: Snapshot | None = None
        self._trouble: object = None  # what the host was like when no inventory could be made

    def look(self) -> bool:
        """Make the inventory and the CDI files again if the host has changed; tell whether it has since the last look.

        What NVML knows is asked again only if it was known, or if the CDI files want it.
        """
        if self._known is not None and for_request.is_fresh(self._known, self._config):
            return False
        before, state = self._known, self._outline()
        if before is None and state == self._trouble:
            return False
        detailed = before is not None and (before.inventory.detailed or self._has_cdi_file())
        try:
            self._known, self._trouble = snapshot.get(self._config, detailed=detailed), None
        except HookError as error:
            self._known, self._trouble = None, state
            self._tell("warning", "no inventory", reason=str(error))
            return before is not None
        if before is None:
            return False
        inventory = self._known.inventory
        self._tell("info", "inventory refreshed", driver=inventory.driver_version, gpus=len(inventory.gpus))
        self.refresh_cdi()
        return True

    def _outline(self) -> object:
        """Return what shows, without an inventory, whether it is worthwhile to try again to make one."""
        proc = f"{self._config.proc_root}/driver/nvidia"
        return read_text(f"{proc}/version"), tuple(facts.gather(self._config, (), (), ())[5])

    def _has_cdi_file(self) -> bool:
        """Tell whether this host's CDI files are in use: a host that has none gets none."""
        from oci_gpu_hook.admin.cdi import refresh

        return os.path.exists(refresh.path_of(self._cdi_directory, KIND))

    def refresh_cdi(self) -> None:
        """Write the CDI files again, if there are any, in a process apart, which takes its memory with it."""
        if not self._has_cdi_file():
            return
        try:
            data = apart.answer(self._written, limits.CDI_REFRESH_SECONDS)
        except HookError as error:
            self._tell("warning", "CDI files not refreshed", reason=str(error))
            return
        if not data:
            self._tell("warning", "CDI files not refreshed", reason="it took too long, or ended without an answer")
            return
        said = parse(data, "answer")
        if "refused" in said:
            self._tell("warning", "CDI files not refreshed", reason=said["refused"])
        for path, outcome in said.get("done", ()):
            if outcome != "unchanged":
                self._tell("info", f"CDI file {outcome}", file=path)

    def _written(self) -> bytes:
        from oci_gpu_hook.admin.cdi import generate, refresh
        from oci_gpu_hook.admin.cdi.alone import Alone

        try:
            with Alone(self._config, self._cdi_directory):
                inventory = generate.inventory_of(self._config)
                form = generate.form_of("both", self._config_path)
                capabilities = generate.capabilities_of("all")
                outcomes = refresh.refresh(inventory, self._config, self._cdi_directory, capabilities, form)
        except HookError as error:
            return dump({"refused": str(error)})
        except OSError as error:
            return dump({"refused": reason(error)})
        except Exception as error:  # noqa: BLE001  a bug, which the watch reports
            return dump({"refused": described_bug(error)})
        return dump({"done": [[outcome.path, outcome.outcome] for outcome in outcomes]})

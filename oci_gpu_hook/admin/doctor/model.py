"""The values of the doctor: the host that is checked, and findings."""

from __future__ import annotations

import os

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.base.errors import HookError
    from oci_gpu_hook.devices.nvidia.model import Inventory

OK: Final = "ok"
NOTE: Final = "note"  # useful to know; nothing is wrong
WARNING: Final = "warning"  # containers get their GPUs, but something will disappoint
ERROR: Final = "error"  # containers that ask for GPUs fail, or are less isolated than they should be


class Finding(Record):
    """A finding. what: a sentence; why: why it matters; remedy: what to do; both "" if all is well.

    check: the module that found it.
    """

    check: str
    severity: str
    what: str
    why: str = ""
    remedy: str = ""


class Host(Record):
    """The host that is checked. root: of its files, "/" except in tests; /proc and /sys are below it.

    inventory: what containers can get, None if there is none, for the reason `trouble`. config_trouble: why `config`
    has the defaults instead of the file's settings.
    """

    config: Config
    config_path: str
    config_trouble: HookError | None = None
    inventory: Inventory | None = None
    trouble: HookError | None = None
    root: str = "/"

    def path(self, path: str) -> str:
        """Return this process's path for a path of the host."""
        return os.path.join(self.root, path.lstrip("/"))

    def read_bytes(self, path: str) -> bytes:
        """Return the contents of a file of the host, b"" if there is none."""
        try:
            with open(self.path(path), "rb") as file:
                return file.read()
        except OSError:
            return b""

    def read(self, path: str) -> str:
        """Return the text of a small file of the host without surrounding white space, "" if there is none."""
        try:
            with open(self.path(path), encoding="utf-8", errors="replace") as file:
                return file.read(65536).strip()
        except OSError:
            return ""

"""The values of an examination: the host as it is looked at, and what is found."""

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
NOTE: Final = "note"  # worth knowing; nothing is wrong
WARNING: Final = "warning"  # containers get their GPUs, but something will disappoint
ERROR: Final = "error"  # containers that ask for GPUs fail, or are less isolated than they should be


class Finding(Record):
    """One thing found. what: in a sentence; why: why it matters; remedy: what to do; both "" when all is ok.

    check: the module that found it.
    """

    check: str
    severity: str
    what: str
    why: str = ""
    remedy: str = ""


class Host(Record):
    """What is examined. root: of the files to look at, "/" but in tests; /proc and /sys are below it.

    inventory: what containers can be given, None where `trouble` says why there is none.
    config_trouble: why `config` has the defaults and not what the file says.
    """

    config: Config
    config_path: str
    config_trouble: HookError | None = None
    inventory: Inventory | None = None
    trouble: HookError | None = None
    root: str = "/"

    def path(self, path: str) -> str:
        """Return where a path of the host is for this process."""
        return os.path.join(self.root, path.lstrip("/"))

    def read_bytes(self, path: str) -> bytes:
        """Return a file of the host, b"" where there is none."""
        try:
            with open(self.path(path), "rb") as file:
                return file.read()
        except OSError:
            return b""

    def read(self, path: str) -> str:
        """Return the text of a small file of the host without the white space around it, "" where there is none."""
        try:
            with open(self.path(path), encoding="utf-8", errors="replace") as file:
                return file.read(65536).strip()
        except OSError:
            return ""

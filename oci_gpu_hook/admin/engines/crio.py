"""CRI-O: the hook in hooks.d."""

from __future__ import annotations

from oci_gpu_hook.admin.engines import hooks_d, hooks_directories, programs
from oci_gpu_hook.admin.engines.model import Steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.admin.engines.model import Finding, Target

_OLDEST: Final = (1, 10)
_SHARED: Final = "Podman reads the same directory"


def install(target: Target) -> Steps:
    """Return the changes that register the hook, without making them. Raises HookError."""
    if not target.hooks_directory:
        programs.require(target.root, "crio", _OLDEST, "version 1.0.0 of the hooks' format")
    notes = ("CRI-O watches the directory; nothing is to be restarted", _SHARED)
    return Steps(changes=hooks_d.install(target, [hooks_directories.of_crio(target.root)]), notes=notes)


def uninstall(target: Target) -> Steps:
    """Return the changes that remove the hook, without making them. Raises HookError."""
    changes, notes = hooks_d.uninstall(target, "crio", [hooks_directories.of_crio(target.root)])
    return Steps(changes=changes, notes=notes)


def check(root: str = "/") -> list[Finding]:
    """Return the findings about CRI-O, none if it is not installed."""
    if not programs.find(root, "crio"):
        return []
    return [hooks_d.check(root, "CRI-O", "crio", hooks_directories.of_crio)]

"""Podman, for root and for users: the hook in hooks.d, and oci-gpu-runtime as its runtime on request."""

from __future__ import annotations

from oci_gpu_hook.admin.engines import hooks_d, hooks_directories, podman_runtime, programs
from oci_gpu_hook.admin.engines.model import Steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.admin.engines.hooks_directories import Directories
    from oci_gpu_hook.admin.engines.model import Finding, Target

_OLDEST: Final = (1, 0)
_SHARED: Final = "CRI-O reads the same directory"


def install(target: Target) -> Steps:
    """Return the changes that register the hook, without making them. Raises HookError."""
    if not target.hooks_directory:
        programs.require(target.root, "podman", _OLDEST, "version 1.0.0 of the hooks' format")
    notes: tuple[str, ...] = (
        "nothing is to be restarted; start containers with: podman run -e NVIDIA_VISIBLE_DEVICES=0 …",
        "or by count: podman run --annotation io.oci-gpu-hook.count=1 …",
        _SHARED,
    )
    changes = hooks_d.install(target, _read(target.root))
    if not target.as_runtime:
        return Steps(changes=changes, notes=notes)
    of_runtime, warnings = podman_runtime.install(target)
    notes = (*notes, f"new containers use {target.runtime}; existing ones keep their runtime")
    return Steps(changes=(*changes, *of_runtime), notes=notes, warnings=warnings)


def uninstall(target: Target) -> Steps:
    """Return the changes that remove the hook, without making them. Raises HookError."""
    changes, notes = hooks_d.uninstall(target, "podman", _read(target.root))
    return Steps(changes=(*changes, *podman_runtime.uninstall(target)), notes=notes)


def check(root: str = "/") -> list[Finding]:
    """Return the findings about Podman, none if it is not installed."""
    if not programs.find(root, "podman"):
        return []
    found = [hooks_d.check(root, "Podman", "podman", hooks_directories.of_podman)]
    of_users = hooks_d.check(root, "Podman of users", "podman", hooks_directories.of_rootless_podman)
    if of_users.text.removeprefix("Podman of users") != found[0].text.removeprefix("Podman"):
        found.append(of_users)
    return found + podman_runtime.check(root)


def _read(root: str) -> list[Directories]:
    return [hooks_directories.of_podman(root), hooks_directories.of_rootless_podman(root)]

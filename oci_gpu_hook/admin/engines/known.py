"""The engines by name; each is a module of this package."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Final

# Each has install(target) and uninstall(target), which return Steps, and check(root), which returns Findings.
NAMES: Final = ("docker", "podman", "crio", "containerd", "mesos", "slurm")
RESIDENT: Final = "resident"  # no engine: it has no check, and is installed for all of them
INSTALLABLE: Final = (*NAMES, RESIDENT)
CALLED: Final = {
    "docker": "Docker",
    "podman": "Podman",
    "crio": "CRI-O",
    "containerd": "containerd",
    "mesos": "Mesos",
    "slurm": "Slurm",
}


def module(name: str) -> ModuleType:
    """Return the module of an engine, or of the resident."""
    return import_module(f"oci_gpu_hook.admin.engines.{name}")

"""What is tried on every distribution: each engine, each way of asking, each kind of container, and what is done to it.

Read by the guest too, whose Python has nothing but its standard library.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

COUNT = "io.oci-gpu-hook.count=1"
DOCKER = ("--runtime oci-gpu, variable", "--runtime oci-gpu, count", "--runtime oci-gpu, annotation", "--gpus")
PODMAN = ("variable", "annotation")
ATTACHED = "oci-gpu attach"  # a container that has asked for nothing
DEVICE = "--device nvidia.com/gpu=0"  # by the CDI specification that `oci-gpu cdi refresh` writes


class Cell(NamedTuple):
    """One container: who starts it, how it asks, and of what kind it is."""

    engine: str
    way: str
    kind: str

    @property
    def name(self) -> str:
        """A name that every engine takes."""
        return "-".join("".join(c if c.isalnum() else "-" for c in part).strip("-") for part in self).replace("--", "-")


CELLS = (
    *(Cell("docker", way, kind) for way in DOCKER for kind in ("plain", "read-only", "userns")),
    *(Cell("docker", "compose", kind) for kind in ("plain", "read-only")),
    *(Cell("docker", DEVICE, kind) for kind in ("plain", "read-only", "userns", "rootless")),
    *(Cell("docker", way, "rootless") for way in ("--runtime oci-gpu, variable", "--gpus")),
    *(
        Cell(f"podman, {runtime}", way, kind)
        for runtime in ("crun", "runc")
        for way in PODMAN
        for kind in ("plain", "read-only", "userns", "rootless")
    ),
    *(
        Cell("podman, crun", way, kind)
        for way in ("kube play", "quadlet")
        for kind in ("plain", "read-only", "rootless")
    ),
    *(
        Cell(f"podman, {runtime}", DEVICE, kind)
        for runtime in ("crun", "runc")
        for kind in ("plain", "read-only", "rootless")
    ),
    *(Cell(engine, ATTACHED, "plain") for engine in ("docker", "podman, crun", "podman, runc")),
    *(Cell("containerd", way, kind) for way in PODMAN for kind in ("plain", "read-only")),
    *(Cell("containerd, CRI", way, kind) for way in (*PODMAN, "cdi_devices") for kind in ("plain", "read-only")),
)

# What happens to all of them, in this order: the first change of a property comes before systemd's first reload.
STARTED = "started"
STEPS = (
    STARTED,
    "set-property",
    "update",
    "pause",
    "daemon-reload",
    "set-property after it",
    "daemon-reexec",
    "restart of the daemon",
    "daemon-reload at last",
)
REPAIRED = ", repaired"  # behind the step that took something away

# What opening the granted node gives where the device cgroup lets it through: no driver is behind it.
GRANTED = str(errno.ENXIO)

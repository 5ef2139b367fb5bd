"""The value of a request; request/json_form.py has its JSON form."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

IN_THE_BUNDLE: Final = "bundle"  # the source of devices that somebody else has put into config.json
ATTACHED: Final = "attached"  # the source of devices that were attached while the container ran
DEFAULT_KIND: Final = "nvidia.com/gpu"  # the kind of names without one, and of records without one
ANNOTATION_PREFIX: Final = "io.oci-gpu-hook."
VARIABLE_PREFIX: Final = "OCI_GPU_"
PREPARED: Final = ANNOTATION_PREFIX + "prepared"  # oci-gpu-runtime's note of what it has put into a bundle


def name_of(setting: str, request: Request) -> str:
    """Return the annotation or variable for a setting such as `wait`, in the form in which the request was made."""
    by_annotation = request.source in ("annotations", "mounts")
    if request.share_by:  # the devices may have been named by a variable
        by_annotation = request.share_by[: len(ANNOTATION_PREFIX)] == ANNOTATION_PREFIX
    return ANNOTATION_PREFIX + setting if by_annotation else variable_of(setting)


def variable_of(setting: str) -> str:
    """Return the variable for a setting."""
    return VARIABLE_PREFIX + setting.upper().replace("-", "_")


class Request(Record):
    """What a container asks for, after the host's policy was applied.

    kind: CDI's kind of the devices, vendor/class.
    devices: `("all",)`, `()` for "none" (driver files, no GPU) or names: indices, UUIDs, PCI bus ids, MIG names.
    count: that many GPUs, whichever are free (devices is then `()` or one MIG profile); None if they are named.
    memory: minimum bytes of each counted GPU; 0 for any.
    wait: seconds to wait for counted GPUs to become free.
    memory_limit, cores: the bytes, and the percentage of the computing cores, that it asks for of each device: a share,
    beside which others may have theirs. 0: no limit. share_by: the annotation or variable that it is asked for by.
    spread: whether the host's configuration spreads shares over GPUs instead of filling one after the other.
    requirements: the values of NVIDIA_REQUIRE_* that the driver and the granted GPUs must satisfy, all of them.
    source: `annotations`, `mounts`, `swarm`, `environment` or `legacy-image`; `attached` for devices that were
    attached to a running container; `bundle` for devices that were not asked for and are in the bundle.
    warnings: parts of the request that do less than their author may expect.
    beside: requests for other kinds of devices, one for each kind; these have nothing beside them.
    engine_serves: whether the names are from annotations that the engines of Kubernetes serve themselves, so that a
    name that is unknown here may be the engine's.
    any_kind: whether the devices of another vendor do as well: a count without a kind, or one of several requests by
    the variables of several vendors. `lifecycle.kinds` settles what the host has.
    """

    kind: str = DEFAULT_KIND
    devices: tuple[str, ...] = ()
    count: int | None = None
    memory: int = 0
    exclusive: bool = False
    wait: int = 0
    memory_limit: int = 0
    cores: int = 0
    share_by: str = ""
    spread: bool = False
    driver_capabilities: tuple[str, ...]
    requirements: tuple[str, ...] = ()
    mig_config_devices: str | None = None
    mig_monitor_devices: str | None = None
    imex_channels: tuple[int, ...] = ()
    features: tuple[str, ...] = ()
    source: str
    warnings: tuple[str, ...] = ()
    beside: tuple[Request, ...] = ()
    engine_serves: bool = False
    any_kind: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it leaves open whose devices it means."""
        return self.any_kind or True in [part.any_kind for part in self.beside]

    @property
    def is_share(self) -> bool:
        """Whether it is for a part of each device."""
        return self.memory_limit > 0 or self.cores > 0

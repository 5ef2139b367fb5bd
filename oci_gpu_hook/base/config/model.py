"""The configuration as one value, with the defaults. Pure."""

from __future__ import annotations

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

DRIVER_CAPABILITIES: Final = ("compat32", "compute", "display", "graphics", "ngx", "utility", "video")


class Config(Record):
    """Every key of config.toml with its default; the names are the keys', in snake_case."""

    driver_root: str = "/"
    dev_root: str = "/"
    proc_root: str = "/proc"
    sys_root: str = "/sys"
    library_search_paths: tuple[str, ...] = ()
    driver_volume: str = ""
    mps_pipe_directory: str = ""

    accept_envvar_when_unprivileged: bool = True
    accept_volume_mounts: bool = False
    swarm_resource: tuple[str, ...] = ()
    supported_driver_capabilities: tuple[str, ...] = DRIVER_CAPABILITIES
    disable_require: bool = False
    cuda_compat_mode: str = "ldconfig"
    mps: str = "asked"
    nested_proc: bool = False
    image_may_ask: str = "yes"

    allocation_policy: str = "shared"
    allocation_indices: str = "names"
    allocation_exclude: tuple[str, ...] = ()
    allocation_default_kind: str = ""
    allocation_longest_wait: int | None = None  # seconds
    allocation_longest_hold: int | None = None  # seconds
    allocation_on_overrun: str = "report"
    allocation_placement: str = "pack"
    sharing_enforce: str = "mps"
    sharing_on_overuse: str = "report"
    sharing_reserve: int = 1 << 30  # bytes of each device
    cdi_spec_dirs: tuple[str, ...] = ("/etc/cdi", "/var/run/cdi", "/run/cdi")
    state_dir: str = "/run/oci-gpu-hook"
    log_level: str = "info"
    log_file: str = ""
    log_journal: bool = True
    watch_interval: int = 30  # seconds
    watch_kernel_log: str = "/dev/kmsg"

    warnings: tuple[str, ...] = ()

"""Device cgroups: which version is in force, whether programs can be read back, what systemd would take away."""

from __future__ import annotations

import os

from oci_gpu_hook.admin.doctor.model import ERROR, NOTE, OK, WARNING, Finding, Host
from oci_gpu_hook.apply.device_access.cgroup import cgroup_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_NAME: Final = "cgroups"
_CONTROL: Final = "/run/systemd/system.control"


def check(host: Host) -> Iterator[Finding]:
    """Check the mounts of cgroup file systems, the JIT's hardening, and systemd."""
    versions = {version for version, _, _ in cgroup_mounts(host.read_bytes("/proc/self/mountinfo"))}
    if 1 in versions:
        what = "device access is cgroup v1's (devices.allow)"
        yield Finding(check=_NAME, severity=OK, what=what)
    elif 2 in versions:
        yield Finding(check=_NAME, severity=OK, what="device access is cgroup v2's (BPF programs)")
        if host.read("/proc/sys/net/core/bpf_jit_harden") == "2":
            yield _hardened(host)
    else:
        what = "no cgroup file system with devices is mounted here"
        why = "device access cannot be changed; containers whose runtime restricts devices do not start"
        remedy = "mount cgroup2 at /sys/fs/cgroup, or run the engine where it is mounted"
        yield Finding(check=_NAME, severity=ERROR, what=what, why=why, remedy=remedy)
    if os.path.isdir(host.path("/run/systemd/system")):  # sd_booted(3)
        yield from _systemd(host)


def _hardened(host: Host) -> Finding:
    if host.read("/proc/sys/kernel/kptr_restrict") != "2":
        what = "net.core.bpf_jit_harden=2 obscures device programs; they can still be read"
        return Finding(check=_NAME, severity=NOTE, what=what)
    what = "net.core.bpf_jit_harden=2 and kernel.kptr_restrict=2 hide device programs"
    why = (
        "runc's and crun's own are recognised; a container with another program, such as systemd's, is refused its GPUs"
    )
    return Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy="sysctl kernel.kptr_restrict=1")


def _systemd(host: Host) -> Iterator[Finding]:
    """Check whether drop-ins can be written: systemd rewrites the device rules of its units at every reload."""
    try:
        status = os.stat(host.path(_CONTROL))
    except OSError:
        status = os.stat(host.path("/run/systemd"))
    if status.st_uid != 0 or status.st_mode & 0o022:
        what = f"{_CONTROL} can be written by users other than root"
        why = "the hook writes no drop-ins there, so systemctl daemon-reload takes GPUs from running containers"
        yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=f"chown root {_CONTROL}; chmod go-w it")
        return
    what = "systemd runs here: containers in its scopes get drop-ins, so that daemon-reload takes nothing from them"
    yield Finding(check=_NAME, severity=OK, what=what)

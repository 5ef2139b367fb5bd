"""SELinux and AppArmor: whether they let containers use what the hook gives them."""

from __future__ import annotations

import os

from oci_gpu_hook.admin.doctor.model import NOTE, OK, WARNING, Finding, Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_NAME: Final = "confinement"


def check(host: Host) -> Iterator[Finding]:
    """Check what the kernel says about both."""
    enforcing = host.read("/sys/fs/selinux/enforce")
    if enforcing == "1":
        yield from _selinux(host)
    elif enforcing == "0":
        yield Finding(check=_NAME, severity=OK, what="SELinux is permissive: it refuses nothing")
    if host.read("/sys/module/apparmor/parameters/enabled") == "Y":
        what = "AppArmor is on; the engines' own profiles let containers use devices"
        remedy = "your own profile needs: /dev/nvidia* rw, and mr for the driver's libraries"
        yield Finding(check=_NAME, severity=NOTE, what=what, remedy=remedy)
    if not enforcing and not os.path.isdir(host.path("/sys/module/apparmor")):
        yield Finding(check=_NAME, severity=OK, what="neither SELinux nor AppArmor is in force")


def _selinux(host: Host) -> Iterator[Finding]:
    # container-selinux, container.te: container_use_devices lets container_t use every device node that it is given.
    allowed = host.read("/sys/fs/selinux/booleans/container_use_devices")
    if allowed.startswith("1"):
        yield Finding(check=_NAME, severity=OK, what="SELinux enforces, and lets containers use devices")
        return
    what = "SELinux enforces, and container_use_devices is off"
    why = "containers of type container_t may be refused the GPUs that they were given: see ausearch -m avc"
    remedy = "setsebool -P container_use_devices 1; or run the container with --security-opt label=disable"
    yield Finding(check=_NAME, severity=WARNING, what=what, why=why, remedy=remedy)

"""OCI bundles: config.json as Docker writes it, as far as it matters here, with the options that tests vary."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

# What Docker gives a container that asks for no privilege (moby, oci/caps/defaults.go).
DOCKER_CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The first host id of the tests' user namespaces; they need no entry in /etc/subuid because root makes them.
FIRST_ID = 200000
ID_COUNT = 65536
NO_DEVICES = {"allow": False, "access": "rwm"}


@dataclass
class Bundle:
    """A bundle directory. `config` may be changed until a runtime is given the bundle."""

    directory: Path
    config: dict = field(default_factory=dict)

    @property
    def rootfs(self) -> Path:
        return (self.directory / self.config["root"]["path"]).resolve()

    def write(self) -> None:
        (self.directory / "config.json").write_text(json.dumps(self.config))


def make(
    directory: Path,
    args: list[str],
    *,
    rootfs: str = "rootfs",
    env: tuple[str, ...] = (),
    annotations: dict[str, str] | None = None,
    hooks: dict[str, list[dict]] | None = None,
    user_namespace: bool = False,
    readonly: bool = False,
    devices: tuple[dict, ...] = (NO_DEVICES,),
    mounts: tuple[dict, ...] = (),
    capabilities: tuple[str, ...] = DOCKER_CAPABILITIES,
    user: tuple[int, int] = (0, 0),
    rootfs_propagation: str = "",
) -> Bundle:
    """Make the value of a bundle; `rootfs` is relative to `directory`, or absolute as Docker's is."""
    held = list(capabilities)
    linux: dict = {
        "resources": {"devices": list(devices)},
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
    }
    if user_namespace:
        linux["namespaces"].append({"type": "user"})
        mapping = [{"containerID": 0, "hostID": FIRST_ID, "size": ID_COUNT}]
        linux |= {"uidMappings": mapping, "gidMappings": mapping}
    if rootfs_propagation:
        linux["rootfsPropagation"] = rootfs_propagation
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": user[0], "gid": user[1]},
            "args": args,
            "env": [PATH, *env],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), held),
            "noNewPrivileges": True,
        },
        "root": {"path": rootfs, "readonly": readonly},
        "hostname": "container",
        "mounts": [*_system_mounts(), *mounts],
        "linux": linux,
    }
    if annotations:
        config["annotations"] = annotations
    if hooks:
        config["hooks"] = hooks
    return Bundle(directory, config)


def _system_mounts() -> list[dict]:
    quiet = ["nosuid", "noexec"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": [*quiet, "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": [*quiet, "newinstance", "mode=0620"],
        },
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*quiet, "nodev", "mode=1777"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, "nodev", "ro"]},
    ]

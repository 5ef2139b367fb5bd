"""What the guest is given to start: bundles for runc, and Podman's commands."""

from __future__ import annotations

import json
from pathlib import Path

from tests.runtime import bundle as bundles
from tests.runtime import rootfs as images
from tests.runtime.fixtures import HOOK_ENVIRONMENT
from tests.systemd.machine import Machine

# Docker's and Podman's containers have all of these, runc's default rules besides.
_DENY = {"allow": False, "access": "rwm"}
_MKNOD = {"allow": True, "type": "c", "access": "m"}
_ASKED = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")


def prepare(machine: Machine, config: str) -> None:
    """Write bundles, hook registrations and settings. `config` is the hook's, of a host below the machine's `work`."""
    image = machine.image()
    policies: dict[str, tuple[dict, ...]] = dict.fromkeys(
        ("told", "untold", "lost", "watched", "attached", "kept", "share"), (_DENY, _MKNOD)
    )
    policies["free"] = ({"allow": True, "access": "rwm"},)
    made = {name: str(_bundle(machine, image, name, devices, config)) for name, devices in policies.items()}
    settings = {"bundles": made, "podman": _podman(machine, image, config)}
    machine.stage(Path(__file__).with_name("guest.py"), settings, config)


def _bundle(machine: Machine, image: Path, name: str, devices: tuple[dict, ...], config: str) -> Path:
    directory = machine.work / "bundles" / name
    directory.mkdir(parents=True)
    images.copy(image, directory / "rootfs")
    share = ("OCI_GPU_MEMORY_LIMIT=8GiB", "OCI_GPU_CORES=50%") if name == "share" else ()
    made = bundles.make(
        directory,
        ["/watch", "/log/log", "/dev/nvidia0"],
        env=() if name == "attached" else (*_ASKED, *share),
        hooks={stage: [_entry(machine, stage, config)] for stage in ("prestart", "poststop")},
        devices=devices,
        mounts=({"destination": "/log", "type": "bind", "source": machine.log_directory(name), "options": ["rbind"]},),
    )
    # SLICE:PREFIX:NAME; what the unit is called has a character that systemd escapes.
    made.config["linux"]["cgroupsPath"] = "system.slice:gpu:" + (r"kept\x2dname" if name == "kept" else name)
    made.write()
    return directory


def _entry(machine: Machine, stage: str, config: str) -> dict:
    arguments = ["oci-gpu-hook", "--config", config, stage]
    return {"path": str(machine.libexec / "oci-gpu-hook"), "args": arguments, "env": HOOK_ENVIRONMENT}


def _podman(machine: Machine, image: Path, config: str) -> dict[str, list[str]]:
    """Return Podman's commands, with the hook registered in a directory of its own, as operators do."""
    hooks = machine.work / "hooks.d"
    hooks.mkdir()
    for stage in ("prestart", "poststop"):
        document = {
            "version": "1.0.0",
            "hook": _entry(machine, stage, config),
            "when": {"always": True},
            "stages": [stage],
        }
        (hooks / f"gpu-{stage}.json").write_text(json.dumps(document))
    podman = ["podman", "--cgroup-manager=systemd", "--events-backend=none", "--storage-driver=vfs"]
    podman += [f"--root={machine.work}/podman", f"--hooks-dir={hooks}", "--runtime=runc"]
    rootfs = machine.work / "bundles/podman"
    images.copy(image, rootfs)
    create = ["run", "--detach", "--name=podman", "--network=none", "--log-driver=none", "--cap-add=MKNOD"]
    create += ["--env=NVIDIA_VISIBLE_DEVICES=0", "--env=NVIDIA_DRIVER_CAPABILITIES=compute,utility"]
    create += [
        "--ulimit=nofile=1000:1000",
        "--ulimit=nproc=1000:1000",
        "--pids-limit=0",
        f"--volume={machine.log_directory('podman')}:/log",
    ]
    create += ["--security-opt=seccomp=unconfined", "--rootfs", str(rootfs), "/watch", "/log/log", "/dev/nvidia0"]
    return {
        "create": [*podman, *create],
        "pid": [*podman, "inspect", "--format={{.State.Pid}}", "podman"],
        "update": [*podman, "update", "--cpu-shares=512", "podman"],
        "remove": [*podman, "rm", "--force", "--time=0", "podman"],
    }

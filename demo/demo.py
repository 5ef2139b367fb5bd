"""The main job, shown: runc starts a container from an image without a driver, and the hook gives it a GPU.

Run it by `make demo`. On a host without NVIDIA GPUs it makes a simulated one first. Everything happens in a temporary
directory; nothing is left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

GPUS = 2
COMMANDS = Path(sys.executable).parent
HOOK_ENVIRONMENT = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
LOOK_AROUND = r"""
echo "  nodes:        $(ls -1 /dev | grep nvidia | tr '\n' ' ')"
echo "  libcuda:      $(ls -1 /usr/lib/*/libcuda.so.1 /usr/lib64/libcuda.so.1 2>/dev/null)"
echo "  nvidia-smi:   $(nvidia-smi -L)"
"""


def main() -> int:
    """Run the demo; exit status 0 when the container saw what it should."""
    if os.geteuid() != 0:
        print("make demo starts containers and makes device nodes: run it as root (sudo make demo)", file=sys.stderr)
        return 1
    # Under /var/tmp, bound onto itself with `dev`: /tmp is nodev on many hosts, and a simulated node must be openable.
    work = Path(tempfile.mkdtemp(prefix="oci-gpu-hook-demo-", dir="/var/tmp"))
    run("mount", "--bind", work, work)
    run("mount", "-o", "remount,bind,dev,suid,exec", work)
    try:
        return demonstrate(work)
    finally:
        run("umount", "--lazy", work)
        shutil.rmtree(work)


def demonstrate(work: Path) -> int:
    """Start three containers and show what each saw."""
    config, kind = find_host(work)
    hook = run(COMMANDS / "oci-gpu", "hook-path").strip()
    print(f"1. The host: {kind}")
    print("   " + run(COMMANDS / "oci-gpu", "--config", config, "info").replace("\n", "\n   ").rstrip())
    print(f"\n2. runc starts containers with {hook} as their prestart hook.")
    print("   Their image has busybox and the C library, no driver.")
    make_image(work / "rootfs")
    seen = {}
    for title, request in (
        ("asks for nothing", []),
        ("asks for GPU 0", ["NVIDIA_VISIBLE_DEVICES=0"]),
        ("asks for every GPU", ["NVIDIA_VISIBLE_DEVICES=all"]),
    ):
        print(f"\n   A container {title}{': ' if request else ''}{' '.join(request)}")
        seen[title] = start_container(work, hook, config, request)
        print(seen[title].rstrip())
    good = (
        "GPU 0" not in seen["asks for nothing"]
        and "nvidia0 " in seen["asks for GPU 0"]
        and seen["asks for GPU 0"].count("UUID") == 1
        and "GPU 0" in seen["asks for every GPU"]
    )
    print("\nEach container saw what it asked for, and nothing else." if good else "\nThat is not what was asked for.")
    return 0 if good else 1


def find_host(work: Path) -> tuple[str, str]:
    """Return the configuration to use: the host's own where it has GPUs, else a simulated host's."""
    if os.path.exists("/proc/driver/nvidia/version"):
        return "/etc/oci-gpu-hook/config.toml", "its own NVIDIA GPUs"
    run(COMMANDS / "oci-gpu", "simulate", work / "host", "--gpus", str(GPUS))
    return str(work / "host/config.toml"), f"no NVIDIA GPU here, so {GPUS} simulated ones (oci-gpu simulate)"


def make_image(rootfs: Path) -> None:
    """Make a Debian-like root directory of busybox, the host's C library and nothing else."""
    for directory in ("bin", "etc", "dev", "proc", "sys", "tmp", "usr/bin", "usr/lib"):
        (rootfs / directory).mkdir(parents=True)
    shutil.copy("/bin/busybox", rootfs / "bin/busybox")
    for applet in ("sh", "ls", "cat", "grep", "tr", "echo"):
        (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc/debian_version").write_text("12\n")
    for line in run("ldd", "/bin/bash").splitlines():
        for path in (word for word in line.split() if word.startswith("/")):
            copy_to(rootfs, path)
    for name in ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6"):
        for directory in ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64"):
            if os.path.exists(f"{directory}/{name}"):
                copy_to(rootfs, f"{directory}/{name}")
    run("ldconfig", "-r", rootfs)


def copy_to(rootfs: Path, path: str) -> None:
    """Copy a file of the host to the same place in the image."""
    target = rootfs / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy(path, target)


def start_container(work: Path, hook: str, config: str, request: list[str]) -> str:
    """Run a container to its end and return what it printed."""
    entry = {"path": hook, "env": HOOK_ENVIRONMENT}
    arguments = ["oci-gpu-hook", "--config", config]
    held = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_SETGID", "CAP_SETUID"]
    quiet = ["nosuid", "noexec", "nodev"]
    bundle = {
        "ociVersion": "1.0.2",
        "process": {
            "args": ["/bin/sh", "-c", LOOK_AROUND],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "env": ["PATH=/usr/bin:/bin", *request],
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), held),
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        ],
        "hooks": {
            "prestart": [{**entry, "args": [*arguments, "prestart"]}],
            "poststop": [{**entry, "args": [*arguments, "poststop"]}],
        },
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
        },
    }
    (work / "config.json").write_text(json.dumps(bundle))
    return run("runc", "--root", work / "runc", "run", "--bundle", work, f"oci-gpu-hook-demo-{os.getpid()}")


def run(*command: object) -> str:
    """Run a command and return its output; end the demo with what it said where it fails."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        sys.exit(f"demo: {' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())

"""The main job, shown: runc starts a container from an image without a driver, and the hook gives it a GPU.

Run it by `make demo`. On a host without NVIDIA GPUs it makes a simulated one first. What it makes is in a temporary
directory, which it removes at the end; the hook's executables stay in .venv, its caches in /run/oci-gpu-hook.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from oci_gpu_hook.admin.doctor import tiny

GPUS = 2
COMMANDS = Path(sys.executable).parent
# Builtins of the shell and what the hook brings: the image has no other program.
LOOK_AROUND = r"""
first() { for path in "$@"; do [ -e "$path" ] && echo "$path" && return; done; }
nodes=
for node in /dev/nvidia*; do [ -e "$node" ] && nodes="$nodes ${node#/dev/}"; done
echo "  nodes:       $nodes "
echo "  libcuda:      $(first /usr/lib/*/libcuda.so.1 /usr/lib64/libcuda.so.1)"
echo "  nvidia-smi:   $(nvidia-smi -L 2>&1)"
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
    print("   Their image has a shell and the C library, no driver.")
    tiny.make_rootfs(str(work / "rootfs"))
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


def start_container(work: Path, hook: str, config: str, request: list[str]) -> str:
    """Run a container to its end and return what it printed."""
    (work / "config.json").write_text(tiny.config_json(LOOK_AROUND, hook, config, request))
    outcome = tiny.run("runc", str(work), f"oci-gpu-hook-demo-{os.getpid()}")
    if outcome.status:
        sys.exit(f"demo: the container failed:\n{outcome.output}{outcome.errors}")
    return outcome.output


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

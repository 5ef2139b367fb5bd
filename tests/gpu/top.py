"""Proof on a host with real NVIDIA GPUs: `oci-gpu top` and `metrics` beside nvidia-smi's figures.

    python3 tests/gpu/top.py [--runc PATH] [--torch-python PATH]

As check.py, whose image it uses: needs root, runc, an NVIDIA driver and nvidia-ml-py. PyTorch computes
in a container that was given GPU 0 by the hook, then also outside of any container. Exits with 1 when an expectation
fails.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from check import REPOSITORY, Host, arguments, expect, outcome, work_directory

MIB = 1 << 20
COMPUTES = """
import torch
a = torch.rand(8192, 8192, device="cuda:0")
torch.cuda.synchronize()
print("computing", flush=True)
while True:
    for _ in range(20):
        a = a @ a / 8192
    torch.cuda.synchronize()
"""
FIGURES = ("index", "utilization.gpu", "memory.used", "power.draw", "temperature.gpu")


class Metered(Host):
    """A container that computes, and the commands that look at it."""

    @contextmanager
    def computing_container(self) -> Iterator[dict[str, Any]]:
        bundle = self.work / "busy"
        rootfs = self.rootfs(bundle)
        env = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
        config = self.config(rootfs, [self.options.torch_python, "-c", COMPUTES], env, ())
        (bundle / "config.json").write_text(json.dumps(config))
        runc = [self.options.runc, "--root", self.work / "runc"]
        with running([*runc, "run", "--bundle", bundle, "busy"]):
            try:
                yield json.loads(subprocess.run([*runc, "state", "busy"], check=True, capture_output=True).stdout)
            finally:
                subprocess.run([*runc, "delete", "--force", "busy"], check=False, capture_output=True)
        subprocess.run(["umount", "-l", rootfs], check=True)

    def oci_gpu(self, *arguments: object) -> str:
        root = ["--runtime-root", str(self.work / "runc")] if arguments[0] in ("top", "metrics") else []
        words = [*map(str, arguments), *root]
        command = [sys.executable, "-m", "oci_gpu_hook.admin.cli.main", *words]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
        took = time.perf_counter() - began
        print(f"\n$ oci-gpu {' '.join(words)}: {done.returncode}, {took:.2f} s\n{done.stdout}{done.stderr}".rstrip())
        expect(f"exit status of oci-gpu {words[0]}", done.returncode == 0)
        return done.stdout

    def top(self) -> list[dict[str, Any]]:
        document = json.loads(self.oci_gpu("top", "--once", "--json"))
        expect("top has no warning", document["warnings"] == [])
        found: list[dict[str, Any]] = document["devices"]
        return found

    def check_figures(self, expected_busy: bool) -> None:
        devices = self.top()
        smi = figures()
        for device, theirs in zip(devices, smi, strict=True):
            at = f"GPU {device['device']}"
            used = device["memoryUsed"] // MIB
            expect(f"{at}: memory {used} beside {theirs['memory.used']} MiB", close(used, theirs["memory.used"], 64))
            expect(
                f"{at}: {device['temperature']} beside {theirs['temperature.gpu']} degrees",
                close(device["temperature"], theirs["temperature.gpu"], 6),
            )
            expect(
                f"{at}: {device['power']} beside {theirs['power.draw']} W",
                close(device["power"], theirs["power.draw"], max(40, theirs["power.draw"] * 0.25)),
            )
            expect(
                f"{at}: {device['utilization']} beside {theirs['utilization.gpu']} %",
                close(device["utilization"], theirs["utilization.gpu"], 20),
            )
        expect("GPU 0 is busy" if expected_busy else "GPU 0 idles", (devices[0]["utilization"] > 50) == expected_busy)

    def check_container(self) -> None:
        with self.computing_container() as state:
            time.sleep(4)
            self.check_figures(expected_busy=True)
            (holder,) = self.top()[0]["holders"]
            expect("the container holds GPU 0", (holder["container"], holder["leased"]) == ("busy", True))
            expect("its first process is runc's", holder["pid"] == state["pid"])
            pids = [process["pid"] for process in holder["processes"]]
            expect(f"the process that computes is the container's: {pids}", pids == [state["pid"]])
            theirs = applications()
            print(f"nvidia-smi's processes: {theirs}")
            mine = {process["pid"]: process["memory"] // MIB for process in holder["processes"]}
            expect(f"memory by process {mine} beside {theirs}", near(mine, theirs))
            expect(f"its utilization is {holder['utilization']} %", (holder["utilization"] or 0) > 50)
            print(subprocess.run(["nvidia-smi", "pmon", "-c", "1"], capture_output=True, text=True, check=False).stdout)
            if importlib.util.find_spec("rich"):
                self.oci_gpu("top", "--once")
            self.oci_gpu("leases", "--json")
            self.check_metrics(holder)
            self.check_outside()

    def check_metrics(self, holder: dict[str, Any]) -> None:
        text = self.oci_gpu("metrics")
        memory = value(text, "oci_gpu_container_memory_used_bytes", 'container="busy"')
        expect("metrics have the container's memory", memory is not None and close(memory, holder["memory"], 64 * MIB))
        used = value(text, "oci_gpu_container_utilization_ratio", 'container="busy"')
        expect(f"metrics have its utilization: {used}", (used or 0) > 0.5)
        power = value(text, "oci_gpu_device_power_watts", 'device="0"')
        theirs = figures()[0]["power.draw"]
        expect(f"metrics: {power} beside {theirs} W", power is not None and close(power, theirs, theirs * 0.25))
        expect("metrics have a start", (value(text, "oci_gpu_start_duration_seconds_count") or 0) >= 1)
        expect("metrics have a shared device", (value(text, "oci_gpu_devices", 'state="shared"') or 0) >= 1)

    def check_outside(self) -> None:
        with running([self.options.torch_python, "-c", COMPUTES]) as process:
            time.sleep(3)
            devices = self.top()
            pids = [each["pid"] for each in devices[0]["outside"]]
            expect(f"a process outside of containers is shown as such: {pids}", process.pid in pids)
            (holder,) = devices[0]["holders"]
            expect("the container has its own still", len(holder["processes"]) == 1)


@contextmanager
def running(command: Sequence[object]) -> Iterator[subprocess.Popen[str]]:
    """Run a program that says when it computes."""
    words = [str(word) for word in command]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            expect("PyTorch computes", "computing" in process.stdout.readline())
            yield process
        finally:
            process.kill()


def figures() -> list[dict[str, float]]:
    """Return what nvidia-smi says of each GPU."""
    command = ["nvidia-smi", f"--query-gpu={','.join(FIGURES)}", "--format=csv,noheader,nounits"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split("\n")
    print("\n".join(["nvidia-smi:", *lines]))
    return [dict(zip(FIGURES, map(float, line.split(", ")), strict=True)) for line in lines]


def applications() -> dict[int, int]:
    """Return pid → MiB of the processes that nvidia-smi lists."""
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {int(pid): int(memory) for pid, memory in re.findall(r"^(\d+), (\d+)$", out, re.MULTILINE)}


def near(one: dict[int, int], other: dict[int, int]) -> bool:
    return one.keys() == other.keys() and all(close(one[pid], other[pid], 64) for pid in one)


def value(text: str, name: str, label: str = "") -> float | None:
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    return next((float(number) for labels, number in found if label in labels), None)


def close(one: float, other: float, by: float) -> bool:
    return abs(one - other) <= by


def main() -> int:
    options = arguments(__doc__).parse_args()
    with work_directory("gpu-top-") as work:
        host = Metered(work, options)
        host.describe()
        host.check_figures(expected_busy=False)
        host.check_container()
        time.sleep(3)  # until the driver has let go of all memory, the process is not gone
        expect("nobody holds or uses GPU 0 afterwards", host.top()[0]["holders"] == [])
    return outcome()


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())

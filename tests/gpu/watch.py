"""Proof on a host with real NVIDIA GPUs: `oci-gpu watch` puts back device access, no GPU is sick, `metrics` is right.

    python3 tests/gpu/watch.py [--runc PATH] [--torch-python PATH]

As check.py, whose image it uses: needs root, runc, an NVIDIA driver and nvidia-ml-py. A container of runc has GPU 0 by
the hook. Its device rules are written again without the GPU, as a reload of systemd does, three times; then PyTorch
computes in it, and the metrics are compared with nvidia-smi's figures. Exits with 1 when an expectation fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from check import REPOSITORY, TORCH, arguments, expect, outcome, work_directory
from top import MIB, Metered, close, figures, value

from oci_gpu_hook.apply.device_access import bpf
from oci_gpu_hook.apply.device_access.runtime_program import candidates
from oci_gpu_hook.oci.container import DeviceRule

NAME = "watched"
PATIENCE = 10.0  # seconds
OPENS = "import os; os.close(os.open('/dev/nvidia0', os.O_RDWR))"


class Watched(Metered):
    """A container that sleeps with GPU 0, and a watch beside it."""

    def runc(self, *arguments: object) -> list[str]:
        return [str(word) for word in (self.options.runc, "--root", self.work / "runc", *arguments)]

    @contextmanager
    def sleeping_container(self) -> Iterator[int]:
        """Start it, and yield its first process."""
        bundle = self.work / NAME
        rootfs = self.rootfs(bundle)
        env = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
        (bundle / "config.json").write_text(json.dumps(self.config(rootfs, ["sleep", "600"], env, ())))
        null = subprocess.DEVNULL
        command = self.runc("run", "--detach", "--bundle", bundle, NAME)
        subprocess.run(command, check=True, stdin=null, stdout=null, stderr=null)
        try:
            state = subprocess.run(self.runc("state", NAME), check=True, capture_output=True).stdout
            yield int(json.loads(state)["pid"])
        finally:
            subprocess.run(self.runc("delete", "--force", NAME), check=False, capture_output=True)
            subprocess.run(["umount", "-l", rootfs], check=True)

    @contextmanager
    def watch(self) -> Iterator[subprocess.Popen[str]]:
        """Run the watch, with a look each second, and yield it once it watches."""
        command = [sys.executable, "-m", "oci_gpu_hook.admin.cli.main", "watch", "--interval", "1s"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
            assert process.stdout is not None
            try:
                print(f"\n$ oci-gpu watch --interval 1s\n{process.stdout.readline()}".rstrip(), flush=True)
                yield process
            finally:
                process.terminate()
                print(process.stdout.read().rstrip())
                expect("the watch ends by itself when it is told to", process.wait(30) == 0)

    def opens(self) -> str:
        """Say what opening the GPU's node gives in the container."""
        command = self.runc("exec", NAME, "/usr/bin/python3", "-c", OPENS)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return "opens" if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]

    def check_healing(self, pid: int) -> None:
        expect("the container opens GPU 0", self.opens() == "opens")
        with self.watch():
            for number in range(3):
                time.sleep(2.5)  # it takes the rules as they are for right, after what it has repaired
                began = time.monotonic()
                how = take_access(pid)
                without = 0
                while (said := self.opens()) != "opens" and time.monotonic() < began + PATIENCE:
                    without += 1
                took = time.monotonic() - began
                expect(
                    f"loss {number + 1} by {how}: back after {took:.2f} s, {without} opens were refused",
                    said == "opens",
                )
            out = subprocess.run(
                self.runc("exec", NAME, self.options.torch_python, "-c", TORCH),
                capture_output=True,
                text=True,
                check=False,
            )
            print(f"{out.stdout}{out.stderr}".rstrip())
            expect("PyTorch computes on what was put back", "1 GPU(s)" in out.stdout)

    def check_gpus(self) -> None:
        found = json.loads(self.oci_gpu("gpus", "--json"))
        states = [gpu["state"] for gpu in found]
        expect(f"no GPU is sick: {states}", "sick" not in states)
        expect("GPU 0 is held", states[0] == "held")

    def check_metrics_beside_nvidia_smi(self) -> None:
        with self.computing_container():
            time.sleep(4)
            text, smi = self.oci_gpu("metrics"), figures()
        for theirs in smi:
            device = f'device="{int(theirs["index"])}"'
            used = (value(text, "oci_gpu_device_memory_used_bytes", device) or 0) / MIB
            expect(
                f"{device}: memory {used:.0f} beside {theirs['memory.used']} MiB",
                close(used, theirs["memory.used"], 64),
            )
            busy = 100 * (value(text, "oci_gpu_device_utilization_ratio", device) or 0)
            expect(
                f"{device}: {busy:.0f} beside {theirs['utilization.gpu']} %", close(busy, theirs["utilization.gpu"], 20)
            )
        repaired = value(text, "oci_gpu_repairs_total", 'result="repaired"')
        expect(f"metrics count the repairs: {repaired}", (repaired or 0) >= 3)


def take_access(pid: int) -> str:
    """Write the container's device rules as its runtime made them, without the GPU; say by what."""
    rows = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    for _, controllers, path in rows:
        if "devices" in controllers.split(","):
            Path(f"/sys/fs/cgroup/devices{path}/devices.deny").write_text("c 195:0 rw")
            return "devices.deny of cgroup v1"
    path = next(path for number, _, path in rows if number == "0")
    place = next(each for each in (f"/sys/fs/cgroup{path}", f"/sys/fs/cgroup/unified{path}") if os.path.isdir(each))
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    flags, (program,) = bpf.attached(directory)
    nothing = DeviceRule(allow=False, type="a", major=None, minor=None, access="rwm")
    old, new = bpf.open_program(program), bpf.load(next(candidates([nothing])))
    bpf.replace(directory, new, old, flags)
    for fd in (directory, old, new):
        os.close(fd)
    return "another device program of cgroup v2"


def main() -> int:
    options = arguments(__doc__).parse_args()
    with work_directory("gpu-watch-") as work:
        host = Watched(work, options)
        host.describe()
        with host.sleeping_container() as pid:
            host.check_healing(pid)
            host.check_gpus()
        host.check_metrics_beside_nvidia_smi()
    return outcome()


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())

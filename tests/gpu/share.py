"""Proof on a host with a real NVIDIA GPU: two containers with a part of one GPU each, held to it, and what ends them.

    python3 tests/gpu/share.py [--runc PATH] [--torch-python PATH] [--starts N]

As check.py, whose image it uses: needs root, runc and an NVIDIA driver with MPS. Uses the host's default state
directory. Exits with 1 when an expectation fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from attach import Living
from check import arguments, expect, outcome, work_directory

LIMITS = """
import torch
free, total = torch.cuda.mem_get_info()
print("free", round(free / 1e9, 1), "total", round(total / 1e9, 1))
print("multiprocessors", torch.cuda.get_device_properties(0).multi_processor_count)
for size in map(float, __import__("sys").argv[1:]):
    try:
        torch.empty(int(size * 2**30), dtype=torch.uint8, device="cuda")
        print(size, "GiB given")
    except torch.cuda.OutOfMemoryError:
        print(size, "GiB refused")
    torch.cuda.empty_cache()
"""
WORKS_ON = """
import sys, time, torch
a = torch.rand(4096, 4096, device="cuda")
print("computing", flush=True)
end = time.time() + float(sys.argv[1])
count = 0
while time.time() < end:
    a = a @ a / 4096
    torch.cuda.synchronize()
    count += 1
print("computed", count, flush=True)
"""
FAULT = """
import torch
a = torch.zeros(4, device="cuda")
i = torch.tensor([1 << 20], device="cuda")
print(a[i])
torch.cuda.synchronize()
"""
FILLS = """
import sys, time, torch
held = []
try:
    while True:
        held.append(torch.empty(64 << 20, dtype=torch.uint8, device="cuda"))
except torch.cuda.OutOfMemoryError:
    print("filled", len(held) * 64, "MiB", flush=True)
sys.stdin.readline()
"""
# As root and as a user: what the daemon's directory is, and what it says to commands from inside.
COMMANDS = """
id -u
ls -lan /tmp/nvidia-mps
for command in get_default_active_thread_percentage "set_default_active_thread_percentage 100" get_server_list; do
    echo "$command: $(echo $command | timeout 5 nvidia-cuda-mps-control 2>&1)"
done
"""
PARTS = {"small": ("8GiB", "50%"), "large": ("20GiB", "25%")}


class Sharing(Living):
    """Containers with parts of GPU 0."""

    def environment(self, memory: str, cores: str) -> tuple[str, ...]:
        share = (f"OCI_GPU_MEMORY_LIMIT={memory}", f"OCI_GPU_CORES={cores}") if memory else ()
        return ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=compute,utility", *share)

    def begin(self, name: str, memory: str, cores: str) -> tuple[Path, subprocess.Popen[bytes]]:
        bundle = self.work / name
        rootfs = self.rootfs(bundle)
        config = self.config(rootfs, ["sleep", "3600"], self.environment(memory, cores), ())
        (bundle / "config.json").write_text(json.dumps(config))
        command = [self.options.runc, "--root", self.work / "runc", "run", "--detach", "--bundle", bundle, name]
        null = subprocess.DEVNULL
        return rootfs, subprocess.Popen(command, stdin=null, stdout=null, stderr=null)

    def python(self, name: str, program: str, *arguments: object, env: tuple[str, ...] = ()) -> str:
        return self.inside(name, "env", *env, self.options.torch_python, "-c", program, *arguments)

    def check_limits(self) -> dict[str, Path]:
        roots = {}
        for name, part in PARTS.items():
            roots[name], start = self.begin(name, *part)
            expect(f"container {name} starts with {part}", start.wait(60) == 0)
        print(self.oci_gpu("leases").stdout)
        out = self.python("small", LIMITS, 6, 12)
        expect("8 GiB: 6 given, 12 refused", "6.0 GiB given" in out and "12.0 GiB refused" in out)
        whole = self.multiprocessors()
        expect("50 % of the multiprocessors", f"multiprocessors {whole // 2}\n" in out)
        out = self.python("large", LIMITS, 12, 25)
        expect("20 GiB: 12 given, 25 refused", "12.0 GiB given" in out and "25.0 GiB refused" in out)
        raising = ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=30G", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=100")
        out = self.python("small", LIMITS, 12, env=raising)
        expect("a raise is refused", "12.0 GiB refused" in out and f"multiprocessors {whole // 2}\n" in out)
        return roots

    def check_use(self) -> None:
        """Who fills its part to the brim does not use more than it; two that do so each are told of."""
        for count in (1, 2):
            with contextlib.ExitStack() as stack:
                for _ in range(count):
                    command = self.exec_command("small", self.options.torch_python, "-c", FILLS)
                    process = stack.enter_context(
                        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                    )
                    assert process.stdout
                    print(process.stdout.readline())
                print(self.oci_gpu("top", "--once", quiet=True).stdout)
                found = self.oci_gpu("verify", "small").returncode
                told = self.oci_gpu("watch", "--once").stdout
            expect(f"{count} that fill their part: verify", found == (count > 1))
            expect(f"{count} that fill their part: watch", ("uses more than its part" in told) == (count > 1))

    def check_commands(self) -> None:
        """What of docs/sharing.md's "root in the container can send the daemon commands" is so; printed, to be read."""
        for user in ("0", "1000"):
            command = self.exec_command("small", "/bin/sh", "-c", COMMANDS)
            command[command.index("exec") + 1 : command.index("exec") + 1] = ["--user", f"{user}:{user}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            print(done.stdout + done.stderr)
        out = self.python("small", LIMITS, 12)
        expect("the limit of memory holds after all that", "12.0 GiB refused" in out)

    def multiprocessors(self) -> int:
        program = "import torch; print(torch.cuda.get_device_properties(0).multi_processor_count)"
        done = subprocess.run([self.options.torch_python, "-c", program], capture_output=True, text=True, check=True)
        return int(done.stdout)

    def check_fault(self) -> None:
        command = self.exec_command("large", self.options.torch_python, "-c", WORKS_ON, 12)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as busy:
            assert busy.stdout is not None
            expect("the neighbour computes", "computing" in busy.stdout.readline())
            self.python("small", FAULT)
            rest = busy.stdout.read()
            print(rest)
        expect("the neighbour has computed on beside the fault", busy.returncode == 0 and "computed" in rest)
        expect("the container with the fault computes again", "given" in self.python("small", LIMITS, 1))

    def check_kills(self, roots: dict[str, Path]) -> None:
        own = [pid for pid, name in processes().items() if name.endswith("server")]
        print("servers", own)
        for pid in own:
            os.kill(pid, signal.SIGKILL)
        expect("a server that was killed is started again", "given" in self.python("large", LIMITS, 1))
        for pid in processes():
            os.kill(pid, signal.SIGKILL)
        out = self.python("small", LIMITS, 12)
        expect("without its daemon a new program has no limit, as docs/sharing.md says", "given" in out)
        found = self.oci_gpu("verify", "small", quiet=True)
        expect("verify says so", found.returncode == 1 and "MPS daemon" in found.stdout)
        for name, rootfs in roots.items():
            self.stop(name, rootfs)
        expect_nothing("the containers were removed")

        rootfs, start = self.begin("killed", "8GiB", "50%")
        start.wait(60)
        state = json.loads(
            subprocess.run(
                [self.options.runc, "--root", self.work / "runc", "state", "killed"],
                check=True, capture_output=True, text=True,
            ).stdout
        )  # fmt: skip
        self.python("killed", LIMITS, 1)
        os.kill(state["pid"], signal.SIGKILL)
        expect_nothing("the container was killed, and no poststop has run")
        self.stop("killed", rootfs)

        rootfs, start = self.begin("hookless", "8GiB", "50%")
        expect("the hook is killed while the daemon comes up", self.kill_hook())
        start.wait(60)
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop("hookless", rootfs)
        rootfs, start = self.begin("next", "8GiB", "50%")
        expect("the next one starts", start.wait(60) == 0)
        expect("and has the only daemon", sum(not name.endswith("server") for name in processes().values()) == 1)
        self.stop("next", rootfs)
        expect_nothing("all are gone")

    def kill_hook(self) -> bool:
        give_up = time.monotonic() + 10
        while time.monotonic() < give_up and not processes():
            time.sleep(0.002)
        killed = False
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if b"oci-gpu-hook.pyc" in Path(f"/proc/{name}/cmdline").read_bytes():
                    os.kill(int(name), signal.SIGKILL)
                    killed = True
        return killed

    def check_cost(self, starts: int) -> None:
        taken: dict[str, list[float]] = {"without": [], "with": []}
        for _ in range(starts):
            for kind, part in (("without", ("", "")), ("with", PARTS["small"])):
                bundle = self.work / f"cost{len(taken[kind])}{kind}"
                rootfs = self.rootfs(bundle)
                config = self.config(rootfs, ["true"], self.environment(*part), ())
                del config["hooks"]["poststop"]  # the start is measured
                (bundle / "config.json").write_text(json.dumps(config))
                command = [self.options.runc, "--root", self.work / "runc", "create", "--bundle", bundle, bundle.name]
                null = subprocess.DEVNULL
                began = time.perf_counter()
                subprocess.run(command, check=True, stdin=null, stdout=null, stderr=null)
                taken[kind].append((time.perf_counter() - began) * 1000)
                self.stop(bundle.name, rootfs)
                shutil.rmtree(bundle / "upper")
        for kind, times in taken.items():
            low, high = min(times), max(times)
            print(f"{kind} a part: median {statistics.median(times):.0f} ms, {low:.0f} to {high:.0f}, of {len(times)}")
        added = statistics.median(taken["with"]) - statistics.median(taken["without"])
        expect(f"a part adds {added:.0f} ms to a start, at most 150", added <= 150)


def processes() -> dict[int, str]:
    """Return the processes of MPS, by their programs' paths."""
    found = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            program = os.readlink(f"/proc/{name}/exe")
            if os.path.basename(program).startswith("nvidia-cuda-mps"):
                found[int(name)] = program
    return found


def expect_nothing(when: str) -> None:
    give_up = time.monotonic() + 15
    while processes() and time.monotonic() < give_up:
        time.sleep(0.1)
    expect(f"no MPS process is left when {when}", not processes())


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--starts", type=int, default=20)
    options = parser.parse_args()
    with work_directory("gpu-share-") as work:
        host = Sharing(work, options)
        host.describe()
        roots = host.check_limits()
        host.check_use()
        host.check_commands()
        host.check_fault()
        host.check_kills(roots)
        host.check_cost(options.starts)
    return outcome()


if __name__ == "__main__":
    sys.exit(main())

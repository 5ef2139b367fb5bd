"""Proof on a host with real NVIDIA GPUs: `oci-gpu attach` and `detach`, with PyTorch in a container that runs.

    python3 tests/gpu/attach.py [--runc PATH] [--torch-python PATH] [--rounds N]

As check.py, whose image it uses: needs root, runc and an NVIDIA driver. With two GPUs and more, two of them go to and
fro between two containers. Exits with 1 when an expectation fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from check import REPOSITORY, TORCH, Host, arguments, expect, outcome, work_directory

WORKS_ON = """
import torch
a = torch.rand(4096, 4096, device="cuda")
print("computing", flush=True)
while True:
    a = a @ a / 4096
"""


class Living(Host):
    """Containers that run, and the commands that change them."""

    def start(self, name: str) -> Path:
        """Start a container that sleeps and has asked for no GPU; return its root directory."""
        bundle = self.work / name
        rootfs = self.rootfs(bundle)
        (bundle / "config.json").write_text(json.dumps(self.config(rootfs, ["sleep", "3600"], (), ())))
        command = [self.options.runc, "--root", self.work / "runc", "run", "--detach", "--bundle", bundle, name]
        null = subprocess.DEVNULL
        subprocess.run(command, check=True, stdin=null, stdout=null, stderr=null)
        return rootfs

    def stop(self, name: str, rootfs: Path) -> None:
        command = [self.options.runc, "--root", self.work / "runc", "delete", "--force", name]
        subprocess.run(command, check=True, capture_output=True)
        subprocess.run(["umount", "-l", rootfs], check=True)

    def oci_gpu(self, *arguments: object, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        words = [*map(str, arguments)]
        root = ["--runtime-root", str(self.work / "runc")] if words[0] in ("attach", "detach") else []
        command = [sys.executable, "-m", "oci_gpu_hook.admin.cli.main", *words, *root]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
        if not quiet:
            print(f"\n$ oci-gpu {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}".rstrip(), flush=True)
        return done

    def exec_command(self, name: str, *command: object) -> list[str]:
        return [str(word) for word in (self.options.runc, "--root", self.work / "runc", "exec", name, *command)]

    def inside(self, name: str, *command: object) -> str:
        done = subprocess.run(
            self.exec_command(name, *command), capture_output=True, text=True, check=False, timeout=300
        )
        print(
            f"\n$ exec {name}: {' '.join(map(str, command))[:80]}\n{done.stdout}{done.stderr}"[:1500].rstrip(),
            flush=True,
        )
        return done.stdout

    def check_one(self) -> None:
        rootfs = self.start("plain")
        torch = self.options.torch_python
        expect("nothing before", "GPU 0" not in self.inside("plain", "sh", "-c", "nvidia-smi -L; true"))
        began = time.perf_counter()
        expect("attached", self.oci_gpu("attach", "plain", "--count", 1).returncode == 0)
        print(
            f"attach took {(time.perf_counter() - began) * 1000:.0f} ms of wall time, its interpreter's start included"
        )
        expect("nvidia-smi lists one GPU", self.inside("plain", "nvidia-smi", "-L").count("UUID") == 1)
        expect("PyTorch computes on one GPU", "1 GPU(s)" in self.inside("plain", torch, "-c", TORCH))
        expect("verify finds nothing", self.oci_gpu("verify", "plain").returncode == 0)

        busy = subprocess.Popen(
            self.exec_command("plain", torch, "-c", WORKS_ON),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert busy.stdout is not None
        expect("PyTorch computes meanwhile", "computing" in busy.stdout.readline())
        refused = self.oci_gpu("detach", "plain", "--all")
        expect("detach is refused and names the process", refused.returncode == 1 and "in use" in refused.stderr)
        time.sleep(1)
        expect("PyTorch computes on", busy.poll() is None)
        began = time.perf_counter()
        expect("detach ends it by force", self.oci_gpu("detach", "plain", "--all", "--force").returncode == 0)
        print(f"detach --force took {time.perf_counter() - began:.1f} s")
        busy.wait(30)
        expect(
            "nothing afterwards",
            "GPU 0" not in self.inside("plain", "sh", "-c", "nvidia-smi -L; ls /dev/nvidia*; true"),
        )
        expect("no lease", json.loads(self.oci_gpu("leases", "--json").stdout) == [])
        self.stop("plain", rootfs)

    def check_to_and_fro(self, rounds: int) -> None:
        roots = {name: self.start(name) for name in ("left", "right")}
        where = {"0": "left", "1": "right"}
        for gpu, name in where.items():
            expect(f"GPU {gpu} attached", self.oci_gpu("attach", name, "--devices", gpu, "--exclusive").returncode == 0)
        wrong = 0
        for _ in range(rounds):
            for gpu, name in where.items():
                wrong += self.oci_gpu("detach", name, "--devices", gpu, quiet=True).returncode != 0
            where = {gpu: "right" if name == "left" else "left" for gpu, name in where.items()}
            for gpu, name in where.items():
                wrong += self.oci_gpu("attach", name, "--devices", gpu, "--exclusive", quiet=True).returncode != 0
        expect(f"{rounds} exchanges of two GPUs, {wrong} failed", wrong == 0)
        for gpu, name in where.items():
            out = self.inside(name, "nvidia-smi", "-L")
            expect(f"{name} has GPU {gpu} alone", out.count("UUID") == 1)
            expect("PyTorch computes on it", "1 GPU(s)" in self.inside(name, self.options.torch_python, "-c", TORCH))
        for name, rootfs in roots.items():
            self.stop(name, rootfs)
        self.oci_gpu("repair", "--all")
        expect("no lease is left", json.loads(self.oci_gpu("leases", "--json").stdout) == [])


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    with work_directory("gpu-attach-") as work:
        host = Living(work, options)
        host.describe()
        host.check_one()
        if host.count > 1:
            host.check_to_and_fro(options.rounds)
    return outcome()


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())

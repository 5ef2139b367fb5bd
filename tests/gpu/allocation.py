"""Proof on a host with several real NVIDIA GPUs: containers that ask by count, at once, get different physical GPUs.

    python3 tests/gpu/allocation.py [--runc PATH] [--python PATH] [--config FILE]

Needs root, runc, an NVIDIA driver and two GPUs or more. Each container says by `nvidia-smi -L` which GPUs it sees, by
UUID, and holds them until it is told to end. Prints what each saw; exits with 1 when an expectation fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from check import Host, expect, outcome, work_directory

LOOK = "nvidia-smi -L; ls /dev/nvidia[0-9]*; echo ready; read -r _; true"
UUID = re.compile(r"GPU-[0-9a-f]{8}-[0-9a-f-]{27}")
PATIENCE = 60.0  # seconds a container may take to look


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runc", default=shutil.which("runc"))
    parser.add_argument("--python", default="/usr/bin/python3", help="interpreter of the hook")
    parser.add_argument("--config", default="/etc/oci-gpu-hook/config.toml", help="of the hook")
    options = parser.parse_args()
    with work_directory("gpu-allocation-") as work:
        machine = Machine(work, options)
        try:
            machine.describe()
            machine.check_each_its_own()
            machine.check_pairs()
            machine.check_killed()
            machine.check_shared()
            machine.check_all_free()
        finally:
            machine.end_all()
    return outcome()


class Machine(Host):
    """The host, with containers that live until they are told to end."""

    def __init__(self, work: Path, options: argparse.Namespace) -> None:
        proc = "/proc"
        self.state = Path("/run/oci-gpu-hook")
        if Path(options.config).exists():
            import tomllib

            settings = tomllib.loads(Path(options.config).read_text())
            proc = settings.get("driver", {}).get("proc-root", proc)
            self.state = Path(settings.get("state", {}).get("dir", self.state))
        gpus = sorted(Path(proc, "driver/nvidia/gpus").iterdir())
        self.uuids = {UUID.findall((gpu / "information").read_text())[0] for gpu in gpus}
        self.running: list[Container] = []
        super().__init__(work, options, count=len(gpus))

    def start(self, **asked: str) -> Container:
        """Start a container that asks by the variables OCI_GPU_COUNT and its like."""
        self.number += 1
        bundle = self.work / f"bundle{self.number}"
        env = [f"OCI_GPU_{name.upper()}={value}" for name, value in asked.items()]
        rootfs = self.rootfs(bundle)
        document = self.config(rootfs, ["/bin/sh", "-c", LOOK], ("NVIDIA_DRIVER_CAPABILITIES=compute,utility",), ())
        document["process"]["env"] += env
        if Path(self.options.config).exists():
            for entry in (entry for stage in document["hooks"].values() for entry in stage):
                entry["args"][1:1] = ["--config", self.options.config]
        (bundle / "config.json").write_text(json.dumps(document))
        container = Container(self, f"allocation{os.getpid()}-{self.number}", bundle, " ".join(env))
        self.running.append(container)
        return container

    def check_each_its_own(self) -> None:
        alone = [self.start(count="1", exclusive="1") for _ in range(self.count)]
        seen = [container.sees() for container in alone]
        expect(f"{self.count} containers at once see one GPU each", all(len(gpus) == 1 for gpus in seen))
        expect("and each another one, by UUID", set().union(*seen) == self.uuids)
        leases = json.loads((self.state / "leases.json").read_text())["leases"]
        held = {lease["container"]: {device["gpu"] for device in lease["devices"]} for lease in leases}
        expect("the record says the same", held == {c.name: gpus for c, gpus in zip(alone, seen, strict=True)})
        more = self.start(count="1", exclusive="1")
        expect("one more is refused", more.sees() == set() and " 0 of " in more.said)
        expect("and told who holds what", all(container.name in more.said for container in alone[:8]))
        waiting = self.start(count="1", exclusive="1", wait="60s")
        time.sleep(1.0)
        expect("one that waits has not started", "ready" not in waiting.said)
        alone[0].end()
        expect("and gets the GPU that becomes free", waiting.sees() == seen[0])
        self.end_all()

    def check_pairs(self) -> None:
        if self.count < 4:
            print("not enough GPUs for pairs")
            return
        pairs = [self.start(count="2", exclusive="1") for _ in range(self.count // 2)]
        seen = [container.sees() for container in pairs]
        expect("pairs see two GPUs each", all(len(gpus) == 2 for gpus in seen))
        expect("which no other pair sees", len(set().union(*seen)) == 2 * len(pairs))
        self.end_all()

    def check_killed(self) -> None:
        containers = [self.start(count="1", exclusive="1") for _ in range(self.count)]
        gpus = [container.sees() for container in containers]
        containers[-1].kill()
        deadline = time.monotonic() + PATIENCE
        after: set[str] = set()
        while not after and time.monotonic() < deadline:
            after = self.start(count="1", exclusive="1").sees()
        expect("the GPU of a container that was killed is granted again", after == gpus[-1])
        self.end_all()

    def check_shared(self) -> None:
        shared = [self.start(count="1") for _ in range(2 * self.count)]
        seen = [container.sees() for container in shared]
        holders = [sum(uuid in gpus for gpus in seen) for uuid in sorted(self.uuids)]
        expect(f"{2 * self.count} that share are two to a GPU", holders == [2] * self.count)
        self.end_all()

    def check_all_free(self) -> None:
        everything = self.start(count=str(self.count), exclusive="1")
        expect("no GPU is lost: one container gets them all", everything.sees() == self.uuids)
        self.end_all()
        expect("no lease is left", json.loads((self.state / "leases.json").read_text())["leases"] == [])

    def end_all(self) -> None:
        for container in self.running:
            container.end()
        self.running.clear()


class Container:
    """A container that has looked, or was refused."""

    def __init__(self, machine: Machine, name: str, bundle: Path, asked: str) -> None:
        self.name = name
        self.asked = asked
        self._bundle = bundle
        self._runc = [machine.options.runc, "--root", str(machine.work / "runc")]
        self._ended = False
        command = [*self._runc, "run", "--bundle", bundle, "--pid-file", bundle / "pid", name]
        with open(bundle / "out", "w") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out)

    @property
    def said(self) -> str:
        return (self._bundle / "out").read_text()

    def sees(self) -> set[str]:
        """Return the UUIDs of the GPUs that nvidia-smi shows in it; nothing when it was refused."""
        deadline = time.monotonic() + PATIENCE
        while "ready" not in self.said and self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        said = self.said
        print(f"\n$ container {self.name}: {self.asked}\n{said}".rstrip(), flush=True)
        found = set(UUID.findall(said)) if "ready" in said else set()
        nodes = len(re.findall(r"^/dev/nvidia\d+$", said, re.MULTILINE))
        expect(f"{self.name} has as many nodes as GPUs: {nodes}", nodes == len(found))
        return found

    def kill(self) -> None:
        """Kill its first process, as the kernel does when memory runs out."""
        os.kill(int((self._bundle / "pid").read_text()), signal.SIGKILL)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            try:
                self._process.communicate(b"\n", timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                subprocess.run([*self._runc, "delete", "--force", self.name], check=False)
                self._process.kill()
            subprocess.run(["umount", "-l", self._bundle / "rootfs"], check=True)


if __name__ == "__main__":
    sys.exit(main())

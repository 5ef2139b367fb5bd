"""Proof on a host with real NVIDIA GPUs: a container's end starts no Python and leaves nothing; what each door costs.

    python3 tests/gpu/ending.py [ROUNDS]

Needs root, runc, and a checkout whose front was built (front/build.sh oci_gpu_hook/admin/install/front.elf). Without a
GPU it uses a simulated host. Exits with 1 when an expectation fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(REPOSITORY), str(REPOSITORY / "benchmarks")]

from bed import Bed
from bench import describe_machine, own_mount_namespace
from check import expect, outcome
from doors import whole_containers

from tests.runtime.counted import lay_hook
from tests.runtime.host import contents, difference

GPU = ["NVIDIA_VISIBLE_DEVICES=all"]


def state_of(bed: Bed) -> Path:
    return Path("/run/oci-gpu-hook") if bed.real else Path(bed.host(1)).with_name("state")


def check_end(bed: Bed, name: str, env: list[str]) -> None:
    """Run a container by a hook that counts interpreters, and look at what it leaves."""
    config = [] if bed.real else ["--config", bed.host(1)]
    marks, hook = bed.work / f"{name}-interpreters", bed.work / f"{name}-hook"
    lay_hook(hook, Path(bed.hook()), marks)
    bundle = bed.bundle(name, env, [str(hook), *config])
    image = bed.work / "image"
    before = contents(image)
    command = bed.runc("run", "--bundle", bundle, bed.next_id())
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    expect(f"{name}: the container ran {done.stderr}".rstrip(), done.returncode == 0)
    expect(f"{name}: Python at prestart alone", marks.read_text().split() == ["prestart"])
    expect(f"{name}: nothing is left in the image", not difference(before, contents(image)))
    state = state_of(bed)
    left = [found for found in os.listdir(state / "containers") if found.startswith(f"bench{os.getpid()}-")]
    expect(f"{name}: nothing is left in the journal", not left)
    held = [lease["container"] for lease in json.loads((state / "leases.json").read_bytes())["leases"]]
    expect(f"{name}: no lease is left", not any(found.startswith(f"bench{os.getpid()}-") for found in held))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    own_mount_namespace()
    print(describe_machine(), flush=True)
    bed = Bed()
    try:
        expect("the front was built", bed.has_front())
        expect("runc is installed", shutil.which("runc") is not None)
        check_end(bed, "compute", GPU)
        check_end(bed, "all", [*GPU, "NVIDIA_DRIVER_CAPABILITIES=all"])
        whole_containers(bed, rounds)
    finally:
        bed.close()
    raise SystemExit(outcome())


if __name__ == "__main__":
    main()

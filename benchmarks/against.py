"""Two checkouts by every door, in turns on this machine: `python benchmarks/against.py CHECKOUT [ROUNDS]`, as root.

CHECKOUT is the other one, for example made by `git worktree add`, with its front built (front/build.sh
oci_gpu_hook/admin/install/front.elf). Each is installed on its own test bed, in its own mount namespace, by a
process that runs all of its doors once whenever it is told to. Both are measured by this checkout's benchmarks.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
UNSHARE = ("unshare", "--mount", "--propagation", "private")


def serve() -> None:
    """Run the doors once for each line on stdin, and answer with a line of what each took."""
    from bed import Bed
    from doors import Meter, doors

    bed, meter = Bed(), Meter()
    if not bed.has_front():
        raise SystemExit("the front was not built: front/build.sh oci_gpu_hook/admin/install/front.elf")
    try:
        found = doors(bed, meter)
        for _line in sys.stdin:
            for door in found:
                door.run(bed, meter)
            print(json.dumps({door.name: (door.cpu[-1], door.wall[-1]) for door in found}), flush=True)
    finally:
        meter.close()
        bed.close()


def start(checkout: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OCI_GPU_BENCH_ROOT": str(checkout), "PYTHONPATH": str(HERE.parent)}
    command = [*UNSHARE, sys.executable, str(Path(__file__)), "--serve"]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main() -> None:
    other, rounds = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 40
    sides = {"other": start(other), "this": start(HERE.parent)}
    samples: dict[str, dict[str, list[tuple[float, float]]]] = {side: {} for side in sides}
    for number in range(rounds + 1):
        for side, process in sides.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                raise SystemExit(f"{side} has ended")
            for door, took in json.loads(answer).items():
                if number:  # the first round makes the inventory
                    samples[side].setdefault(door, []).append(took)
    for process in sides.values():
        process.communicate()
    print(f"{rounds} rounds; CPU ms, median and least; how much less than the other: median of the differences")
    print(f"{'door':36} {'other':>8} {'least':>8} {'this':>8} {'least':>8} {'less':>7}")
    for door, before in samples["other"].items():
        if door not in samples["this"]:
            continue
        pairs = [[1000 * cpu for cpu, _wall in found] for found in (before, samples["this"][door])]
        less = statistics.median(one - mine for one, mine in zip(*pairs, strict=True))
        numbers = [call(found) for found in pairs for call in (statistics.median, min)]
        print(f"{door:36} {numbers[0]:8.1f} {numbers[1]:8.1f} {numbers[2]:8.1f} {numbers[3]:8.1f} {less:7.1f}")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    serve() if "--serve" in sys.argv else main()

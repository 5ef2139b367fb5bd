"""What `oci-gpu watch` costs while nothing happens: its CPU time, children included, with many containers of runc.

    sudo python benchmarks/watching.py [--containers 200] [--seconds 300] [--interval 30s]

The first looks verify every container; then counting begins. Each is verified again once in so many looks (LOOKS), of
which the share is added.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from bed import Bed, Created

from oci_gpu_hook.base.duration import seconds
from oci_gpu_hook.lifecycle.healing import LOOKS

_TICKS = os.sysconf("SC_CLK_TCK")


def used(pid: int) -> float:
    """Return the CPU seconds of a process, by the scheduler's clock, and of its children that have ended, by ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9 + sum(map(int, fields[13:15])) / _TICKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--interval", default="30s")
    options = parser.parse_args()
    bed = Bed()
    made: list[Created] = []
    try:
        config = bed.host(8)
        hook = [bed.hook(), "--config", config]
        for number in range(options.containers):
            bundle = bed.bundle(f"c{number}", [f"NVIDIA_VISIBLE_DEVICES={number % 8}"], hook)
            made.append(Created(bed, bundle))
            made[-1].make()
        command = [sys.executable, "-m", "oci_gpu_hook.admin.cli.main", "--config", config, "watch"]
        watch = subprocess.Popen([*command, "--interval", options.interval], cwd=bed.work / "site")
        time.sleep(5 + options.containers / 20)
        first, began = used(watch.pid), time.monotonic()
        time.sleep(options.seconds)
        cost, lasted = used(watch.pid) - first, time.monotonic() - began
        memory = Path(f"/proc/{watch.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        looks, whole = 100 * cost / lasted, 100 * first / (LOOKS * (seconds(options.interval) or 1))
        print(f"{options.containers} containers, every {options.interval}: {cost * 1000:.0f} ms in {lasted:.0f} s")
        print(f"to verify all as a whole: {first:.2f} s; of a core, looks {looks:.3f} % and this {whole:.3f} %")
        print(f"peak memory {int(memory) >> 10} MiB")
        watch.terminate()
        assert watch.wait() == 0
    finally:
        for each in made:
            each.remove()
        bed.close()


if __name__ == "__main__":
    main()

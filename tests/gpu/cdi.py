"""What `oci-gpu cdi generate` costs on a host with real NVIDIA GPUs, beside `nvidia-smi -L`.

    python3 tests/gpu/cdi.py [--rounds 10] [--oci-gpu PATH] [--config FILE]

Both run in turn, so that what else the host does meets both. Prints the medians of the CPU time of each (getrusage) and
their ratio; exits with 1 where it is more than 2. With --oci-gpu an installed command is measured; otherwise this
checkout, byte-compiled before, by a launcher like the Debian package's: this interpreter without its site module.
"""

from __future__ import annotations

import argparse
import compileall
import os
import re
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
BAR = 2.0


def cpu(command: list[str], environment: dict[str, str]) -> float:
    """Run a command; return the milliseconds of CPU that it took, its children's included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def launcher(directory: str) -> str:
    """Write what package/debian/oci-gpu is, for this checkout and interpreter; return its path."""
    compileall.compile_dir(REPOSITORY / "oci_gpu_hook", quiet=1)
    packages = [str(REPOSITORY), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    text = (REPOSITORY / "package/debian/oci-gpu").read_text()
    text = text.replace("/usr/bin/python3", sys.executable, 1)
    text = re.sub(r"^sys\.path \+= .*$", f"sys.path += {packages}", text, count=1, flags=re.MULTILINE)
    file = Path(directory, "oci-gpu")
    file.write_text(text)
    file.chmod(0o755)
    return str(file)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--oci-gpu", default="")
    parser.add_argument("--config", default="", help="of a simulated host, to try this script")
    options = parser.parse_args()
    environment = dict(os.environ)
    commands = {
        "nvidia-smi -L": ["nvidia-smi", "-L"],
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -IBS -c pass": [sys.executable, "-IBS", "-c", "pass"],
    }
    with tempfile.TemporaryDirectory() as directory:
        command = [options.oci_gpu or launcher(directory), *(("--config", options.config) if options.config else ())]
        for form in ("yaml", "json"):
            file = f"{directory}/nvidia.{form}"
            commands[f"cdi generate, {form}"] = [*command, "cdi", "generate", "--hook-path", "/hook", "--output", file]
        for each in commands.values():
            cpu(each, environment)  # files read, inventory stored
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, each in commands.items():
                took[name].append(cpu(each, environment))
    medians = {name: statistics.median(values) for name, values in took.items()}
    for name, values in took.items():
        span = f"{min(values):.1f} to {max(values):.1f}"
        print(f"{name:22} {medians[name]:7.1f} ms of CPU, median of {len(values)} ({span})")
    ratio = medians["cdi generate, yaml"] / medians["nvidia-smi -L"]
    print(f"cdi generate takes {ratio:.2f} times the CPU of nvidia-smi -L; the bar is {BAR:g}")
    return int(ratio > BAR)


if __name__ == "__main__":
    sys.exit(main())

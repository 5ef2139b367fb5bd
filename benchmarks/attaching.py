"""What `oci-gpu attach` and `detach` cost, beside the hook that does the same at a start and an end; `cdi generate`.

    sudo python benchmarks/attaching.py [--rounds 40]

CPU time of whole processes, user and system with children, interleaved; a simulated host with one GPU, as `make bench`.
On a host with GPUs `cdi generate` is of those, and stands beside `nvidia-smi -L`. `oci-gpu` is started as the Debian
package starts it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess

import pynvml
from bed import Bed, Created, run
from measure import Case, interleave

BAR = 1.3
GENERATE_BAR = 2
GPU = ["NVIDIA_VISIBLE_DEVICES=all"]
PYTHON = "/usr/bin/python3"


class Living(Created):
    """A container that has asked for nothing, new for each run of a command on it; it waits to be started."""

    def __init__(self, bed: Bed, name: str, command: list[str]) -> None:
        super().__init__(bed, bed.bundle(name, []))
        self.command = command

    def call(self, *arguments: str) -> list[str]:
        root = str(self.bed.work / "runc")
        return [*self.command, arguments[0], self.id, *arguments[1:], "--runtime-root", root]

    def case(self, name: str, *arguments: str, before: tuple[str, ...] = ()) -> Case:
        """Return the case of a command; before: another one, which is not measured."""
        case = Case(name, [])

        def prepare() -> None:
            self.make()
            if before:
                run(*self.call(*before))
            case.command[:] = self.call(*arguments)

        case.before = prepare
        case.after = self.remove
        return case


def launcher(bed: Bed) -> str:
    """Write `oci-gpu` as the Debian package has it."""
    shutil.copy(pynvml.__file__, bed.work / "site")
    path = bed.work / "oci-gpu"
    path.write_text(
        f"#!{PYTHON} -IBS\nimport sys\nsys.path.append({str(bed.work / 'site')!r})\n"
        f"from oci_gpu_hook.admin.cli.door import main\nsys.exit(main({str(bed.work / 'libexec')!r}))\n"
    )
    path.chmod(0o755)
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    bed = Bed(machine=False)
    try:
        measure(bed, options.rounds)
    finally:
        bed.close()


def measure(bed: Bed, rounds: int) -> None:
    """Print the rows."""
    config = bed.host(1)
    front, stub = ([bed.hook(*options), "--config", config] for options in ((), ("--python",)))
    command = [launcher(bed), "--config", config]

    def ended(name: str, hook: list[str]) -> Case:
        container = Created(bed, bed.bundle(name.replace(" ", "-"), GPU))

        def before() -> bytes:
            subprocess.run([*stub, "prestart"], input=container.make(), check=True)
            container.remove()
            return container.stopped()

        return Case(name, [*hook, "poststop"], before=before)

    started = Created(bed, bed.bundle("prestart", GPU))

    def after() -> None:
        started.remove()
        subprocess.run([*stub, "poststop"], input=started.stopped(), check=True)

    prestart = Case("prestart, 1 GPU", [*front, "prestart"], before=started.make, after=after)
    living = Living(bed, "living", command)
    attach = living.case("attach, 1 GPU", "attach", "--count", "1")
    in_python, in_c = ended("poststop by Python", stub), ended("poststop by the front", front)
    detach = living.case("detach", "detach", "--all", before=("attach", "--count", "1"))
    generate = Case(
        "cdi generate", [*(command[:1] if bed.real else command), "cdi", "generate", "--hook-path", front[0]]
    )
    listing = Case("nvidia-smi -L", [str(shutil.which("nvidia-smi")), "-L"])
    cases = [
        Case("python3 -I -S -c pass", [PYTHON, "-I", "-S", "-c", "pass"]),
        Case("python3 -I -c pass", [PYTHON, "-I", "-c", "pass"]),
        *(prestart, attach, in_python, in_c, detach, generate),
        *([listing] if bed.real else []),
    ]
    interleave(cases, rounds)
    against = {attach.name: (prestart, BAR), detach.name: (in_python, BAR)}
    if bed.real:
        against[generate.name] = (listing, GENERATE_BAR)
    print(f"{'process':32} {'CPU ms':>8} {'spread':>12} {'least':>7} {'wall ms':>8}")
    for case in cases:
        least = case.least_cpu * 1000
        line = f"{case.name:32} {case.cpu * 1000:8.2f} {case.spread():>12} {least:7.2f} {case.wall * 1000:8.2f}"
        if case.name in against:
            other, bar = against[case.name]
            ratios = f"{case.cpu / other.cpu:.2f} x, of the least {case.least_cpu / other.least_cpu:.2f} x"
            line += f"  {ratios} {other.name} (bar {bar})"
        print(line)


if __name__ == "__main__":
    main()

"""`make bench`: what the hook costs, beside the bare interpreter and bare runc, in one run on this machine.

Whole processes are measured from outside (benchmarks/measure.py): CPU time, user and system with children, and wall
time; medians over interleaved rounds. Bars are those of docs/performance.md. Run it as root; it uses a simulated host,
and the host's own GPUs too where it has some.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bed import ALL, Bed, Created, run
from chart import draw
from doors import whole_containers
from measure import Case, interleave
from resident import with_and_without

PYTHON = "/usr/bin/python3"
PEER = "nvidia-container-runtime-hook"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--resident", action="store_true", help="only what the resident changes")
    parser.add_argument("--chart", metavar="FILE", help="write an SVG chart")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("make bench starts containers: run it as root")
    print(f"machine: {describe_machine()}")
    print(f"rounds: {options.rounds}, interleaved; medians; spread is the quartiles of CPU time; images in memory\n")
    own_mount_namespace()
    bed = Bed()
    if not bed.has_front():
        print("the front was not built (no C compiler when the package was installed): every call starts Python\n")
    try:
        if options.resident:
            with_and_without(bed, options.rounds)
            return
        rows = processes(bed, options.rounds)
        breakdown(bed, options.rounds)
        whole_runs(bed, options.rounds)
        whole_containers(bed, options.rounds)
        with_and_without(bed, options.rounds)
        discovery(bed, min(options.rounds, 15))
        at_once(bed)
    finally:
        bed.close()
    if options.chart:
        Path(options.chart).write_text(draw("CPU time of a container's hook, against the bare interpreter", rows))


def processes(bed: Bed, rounds: int) -> list[tuple[str, float]]:
    """Measure the hook itself on containers that runc has created."""
    front, stub = bed.hook(), bed.hook("--python")
    one, four, eight = bed.host(1), bed.host(4), bed.host(8)
    bare = Case("python3 -I -S -c pass", [PYTHON, "-I", "-S", "-c", "pass"])
    cases = [bare]
    for name, program, config, env in (
        ("nothing asked, front", front, one, []),
        ("nothing asked, Python alone", stub, one, []),
        ("compute,utility, 1 GPU", front, one, ["NVIDIA_VISIBLE_DEVICES=all"]),
        ("compute,utility, 4 GPUs of 4", front, four, ["NVIDIA_VISIBLE_DEVICES=all"]),
        ("all capabilities, 8 GPUs", front, eight, ["NVIDIA_VISIBLE_DEVICES=all", ALL]),
        ("compute,utility, 1 GPU of 8", front, eight, ["NVIDIA_VISIBLE_DEVICES=0"]),
        ("compute,utility, any 2 of 8", front, eight, ["OCI_GPU_COUNT=2"]),
    ):
        cases.append(hook_case(bed, name, [program, "--config", config], env))
    gpu = ["NVIDIA_VISIBLE_DEVICES=all"]
    cases.append(hook_case(bed, "1 GPU, image on the disk", [front, "--config", one], gpu, on_disk=True))
    cases.append(stop_case(bed, "1 GPU, poststop", [front, "--config", one], gpu))
    if bed.real:
        cases.append(hook_case(bed, "compute,utility, real GPUs", [front], ["NVIDIA_VISIBLE_DEVICES=all"]))
    runtime = bed.hook("--runtime")
    cases.append(Case("runc state (as --version)", [str(shutil.which("runc")), "--version"]))
    cases.append(Case("oci-gpu-runtime --version", [runtime, "--version"]))
    interleave(cases, rounds)
    bars = {
        "nothing asked, front": 0.15,
        "nothing asked, Python alone": 1.25,
        "compute,utility, 1 GPU": 1.6,
        "compute,utility, real GPUs": 1.6,
        "all capabilities, 8 GPUs": 2.0,
    }
    print(f"{'process':32} {'CPU ms':>8} {'spread':>12} {'wall ms':>8} {'x bare':>7} {'bar':>5}")
    for case in cases:
        bar = bars.get(case.name)
        print(
            f"{case.name:32} {case.cpu * 1000:8.2f} {case.spread():>12} {case.wall * 1000:8.2f}"
            f" {case.cpu / bare.cpu:7.2f} {bar or '':>5}"
        )
    peaks = [peak(bed, stub, env, config) for env, config in ((gpu, one), ([*gpu, ALL], eight))]
    print(
        f"peak memory: 1 GPU {peaks[0] / 1024:.1f} MiB, all capabilities of 8 GPUs {peaks[1] / 1024:.1f} MiB (bar 20)"
    )
    return [(case.name, case.cpu / bare.cpu) for case in cases[1:-2]]


def peak(bed: Bed, stub: str, env: list[str], config: str) -> int:
    """Return the peak memory of a start in KiB, asked of the process itself as it ends (proc(5), VmHWM).

    What wait4 tells is at least the memory of the process that it was forked from.
    """
    program = bed.work / "peak.py"
    program.write_text(
        "import posix, sys\n"
        "leave = posix._exit\n"
        "def tell(status):\n"
        "    text = open('/proc/self/status').read()\n"
        "    posix.write(1, text.partition('VmHWM:')[2].split()[0].encode())\n"
        "    leave(status)\n"
        "posix._exit = tell\n"
        f"sys.argv[0] = {stub!r}\n"
        f"exec(compile(open({stub!r}).read(), {stub!r}, 'exec'))\n"
    )
    interpreter, options = Path(stub).read_text().splitlines()[0].removeprefix("#!").split()
    case = hook_case(bed, "peak", [stub, "--config", config], env)
    command = [interpreter, options, str(program), "--config", config, "prestart"]
    said = subprocess.run(command, input=case.before(), capture_output=True, check=True).stdout
    case.after()
    return int(said)


def breakdown(bed: Bed, rounds: int) -> None:
    """Measure how far into a start the time goes: the interpreter, its own modules, the hook's, and the work."""
    stub = Path(bed.hook("--python"))
    loaded = stub.read_text().rpartition("try:\n    from oci_gpu_hook.entrypoints.hook import main")[0]
    steps = {
        "interpreter alone": "import posix; posix._exit(0)\n",
        "+ _json, _ctypes": "import posix, _json, _ctypes; posix._exit(0)\n",
        "+ the hook's first modules": f"{loaded}\nimport os; os._exit(0)\n",
        "+ all modules of a start": f"{loaded}\nfrom oci_gpu_hook.entrypoints import hook\n"
        "from oci_gpu_hook.request import parse\nfrom oci_gpu_hook.request.nvidia import words\n"
        "from oci_gpu_hook.lifecycle import start\nfrom oci_gpu_hook.devices.nvidia import vendor\n"
        "import os; os._exit(0)\n",
    }
    interpreter, flags = loaded.splitlines()[0].removeprefix("#!").split()
    cases = []
    for number, (name, text) in enumerate(steps.items()):
        path = bed.work / f"step{number}.py"
        path.write_text(text)
        cases.append(Case(name, [interpreter, flags, str(path)]))
    env = ["NVIDIA_VISIBLE_DEVICES=all"]
    cases.append(hook_case(bed, "+ the work: a GPU attached", [str(stub), "--config", bed.host(1)], env))
    interleave(cases, rounds)
    print(f"\n{'where it goes':32} {'CPU ms':>8} {'added':>8}")
    before = 0.0
    for case in cases:
        print(f"{case.name:32} {case.cpu * 1000:8.2f} {(case.cpu - before) * 1000:8.2f}")
        before = case.cpu


def hook_case(bed: Bed, name: str, command: list[str], env: list[str], *, on_disk: bool = False) -> Case:
    """Return the hook's run on a fresh container; what it made is taken back after each run."""
    container = Created(bed, bed.bundle(name.replace(" ", "-").replace(",", "-"), env, on_disk=on_disk))

    def after() -> None:
        container.remove()  # first: what a living container has is not taken back
        subprocess.run([*command, "poststop"], input=container.stopped(), check=True)

    return Case(name, [*command, "prestart"], before=container.make, after=after)


def stop_case(bed: Bed, name: str, command: list[str], env: list[str]) -> Case:
    """Return the hook's run on a container that had GPUs and has ended."""
    container = Created(bed, bed.bundle(name.replace(" ", "-").replace(",", "-"), env))

    def before() -> bytes:
        subprocess.run([*command, "prestart"], input=container.make(), check=True)
        container.remove()
        return container.stopped()

    return Case(name, [*command, "poststop"], before=before)


def whole_runs(bed: Bed, rounds: int) -> None:
    """Measure `runc run` of true, plain and with the hook, and with a peer's hook where there is one."""
    hook = [bed.hook()]
    config = [] if bed.real else ["--config", bed.host(1)]
    gpu = ["NVIDIA_VISIBLE_DEVICES=all"]
    kinds = {
        "runc run, no hook": bed.bundle("run-plain", []),
        "runc run, hook, nothing asked": bed.bundle("run-nothing", [], [*hook, *config]),
        "runc run, prestart, all GPUs": bed.bundle("run-prestart", gpu, [*hook, *config], ("prestart",)),
        "runc run, poststop too": bed.bundle("run-both", gpu, [*hook, *config]),
    }
    if bed.real and shutil.which(PEER):
        kinds["runc run, NVIDIA's hook"] = bed.bundle("run-peer", gpu, [str(shutil.which(PEER))])
    cases = []
    for name, bundle in kinds.items():
        case = Case(name, [])

        def next_container(case: Case = case, bundle: Path = bundle) -> None:
            case.command[:] = bed.runc("run", "--bundle", bundle, bed.next_id())

        case.before = next_container
        cases.append(case)
    interleave(cases, rounds)
    plain = cases[0]
    print(
        f"\n{'whole container':32} {'CPU ms':>8} {'wall ms':>8} {'least':>8} {'added CPU':>10} {'wall':>6} {'least':>6}"
    )
    for case in cases:
        print(
            f"{case.name:32} {case.cpu * 1000:8.1f} {case.wall * 1000:8.1f} {case.least * 1000:8.1f}"
            f" {(case.cpu - plain.cpu) * 1000:10.1f} {(case.wall - plain.wall) * 1000:6.1f}"
            f" {(case.least - plain.least) * 1000:6.1f}"
        )


def discovery(bed: Bed, rounds: int) -> None:
    """Measure the first start after a boot: no inventory stored."""
    config = bed.host(1)
    front = bed.hook()
    state = Path(config).with_name("state")
    cold = hook_case(bed, "cold: no inventory stored", [front, "--config", config], ["NVIDIA_VISIBLE_DEVICES=all"])
    make = cold.before

    def forget() -> bytes | None:
        (state / "inventory.json").unlink(missing_ok=True)
        return make()

    cold.before = forget
    bare = Case("python3 -I -S -c pass", [PYTHON, "-I", "-S", "-c", "pass"])
    smi = shutil.which("nvidia-smi") if bed.real else str(Path(config).with_name("driver") / "usr/bin/nvidia-smi")
    cases = [bare, cold, Case("nvidia-smi -L", [str(smi), "-L"])]
    if bed.real:
        real = hook_case(bed, "cold, real host", [front], ["NVIDIA_VISIBLE_DEVICES=all"])
        make_real = real.before

        def forget_real() -> bytes | None:
            Path("/run/oci-gpu-hook/inventory.json").unlink(missing_ok=True)
            return make_real()

        real.before = forget_real
        cases.append(real)
    interleave(cases, rounds)
    print(f"\n{'first start':32} {'CPU ms':>8} {'wall ms':>8}")
    for case in cases:
        print(f"{case.name:32} {case.cpu * 1000:8.2f} {case.wall * 1000:8.2f}")


def at_once(bed: Bed, count: int = 64) -> None:
    """Start many containers at once, against the same number one after the other; with GPUs and plain ones."""
    config = [] if bed.real else ["--config", bed.host(8)]
    hook = [bed.hook(), *config]
    print(f"\n{f'{count} containers':28} {'CPU s':>8} {'wall s':>8}")
    errors = 0
    for kind, bundle in (
        ("plain", bed.bundle("at-once-plain", [])),
        ("with a GPU", bed.bundle("at-once", ["NVIDIA_VISIBLE_DEVICES=0"], hook)),
    ):
        one_by_one: list[tuple[float, float]] = []
        together: list[tuple[float, float]] = []
        start(bed, bundle)
        for _ in range(3):
            began = os.times()
            errors += sum(start(bed, bundle) for _ in range(count))
            middle = os.times()
            with ThreadPoolExecutor(count) as pool:
                errors += sum(pool.map(lambda _, bundle=bundle: start(bed, bundle), range(count)))
            ended = os.times()
            for times, first, last in ((one_by_one, began, middle), (together, middle, ended)):
                times.append((cpu(last) - cpu(first), last.elapsed - first.elapsed))
        for name, times in (("one after the other", one_by_one), ("all at once", together)):
            used, took = (statistics.median(each) for each in zip(*times, strict=True))
            print(f"{f'{kind}, {name}':28} {used:8.2f} {took:8.2f}")
    print(f"errors: {errors}")


def start(bed: Bed, bundle: Path) -> bool:
    """Run a container to its end; tell whether that failed."""
    command = bed.runc("run", "--bundle", bundle, bed.next_id())
    null = subprocess.DEVNULL
    return bool(subprocess.run(command, check=False, stdin=null, stdout=null, stderr=null).returncode)


def cpu(times: os.times_result) -> float:
    return times.children_user + times.children_system


def own_mount_namespace() -> None:
    """Go on in a mount namespace of this process's own, where a simulated host can be configured."""
    if "OCI_GPU_BENCH_NAMESPACE" not in os.environ:
        os.environ["OCI_GPU_BENCH_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])


def describe_machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    gpus = run("nvidia-smi", "-L").count("GPU ") if shutil.which("nvidia-smi") else 0
    python = run(PYTHON, "--version").strip()
    return (
        f"{os.cpu_count()} x {model or platform.machine()}, Linux {platform.release()}, {python}, "
        f"{run('runc', '--version').splitlines()[0]}, {gpus} GPUs, {time.strftime('%Y-%m-%d')}"
    )


if __name__ == "__main__":
    main()

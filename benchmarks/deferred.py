"""Writes the lists of functions that a usual start, or command, does not call (admin/install/deferred.py), as root.

Every start of a bed's executables is watched, of whatever is said below: by the hook and by `oci-gpu-runtime`, for one
GPU and for eight, by name, by count and by annotation, with an image that has little and with one like those of
distributions. Listed are the functions that these starts import and do not call. So are those of `oci-gpu attach` and
`detach` of one GPU, and of one of several, and of `cdi generate`, in a list of their own.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

from attaching import Living, launcher
from bed import ALL, Bed, Created
from bench import own_mount_namespace
from doors import GPU

from oci_gpu_hook.admin.install import deferred
from oci_gpu_hook.admin.install.bytecode import byte_code

WATCH = """\
import posix, sys
_called = set()
def _watch(frame, event, _argument):
    if event == "call":
        _called.add((frame.f_globals.get("__name__", ""), frame.f_code.co_qualname))
_leave = posix._exit
def _tell(status):
    sys.setprofile(None)
    said = [f"{{module}}:{{name}}" for module, name in _called] + [f"{{name}}:" for name in sys.modules]
    told = posix.open({path!r}, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND, 0o600)
    posix.write(told, "\\n".join(said).encode() + b"\\n")
    _leave(status)
posix._exit = _tell
sys.setprofile(_watch)
"""
# The first is called by a thread, which is not watched; the other is bound by every start where there are leases.
CALLED = {"oci_gpu_hook.apply.watch:Watch._wait", "oci_gpu_hook.allocation.holders:Processes.may_live"}


def main() -> None:
    own_mount_namespace()
    bed = Bed()
    try:
        write(deferred.LIST, of_starts(bed))
        write(deferred.COMMANDS_LIST, of_commands(bed))
    finally:
        bed.close()


def write(path: str, called: set[str]) -> None:
    """Write the functions of the modules that were imported which were not called."""
    modules = {name.removesuffix(":") for name in called if name.endswith(":")}
    listed = [name for module in sorted(modules) for name in possible(module) if name not in called]
    Path(path).write_text("".join(f"{name}\n" for name in listed))
    print(f"{path}: {len(listed)} functions of {len(modules)} modules")


def of_starts(bed: Bed) -> set[str]:
    """Return the functions that usual starts call, as `module:function`, and `module:` of each module."""
    told = bed.work / "called"
    hook, runtime = bed.hook(), bed.runtime()
    start_all(bed, hook, runtime)  # what only the first start of a host does is not usual
    for path in (hook, runtime[0]):
        stub = Path(f"{path}.py").read_text()
        Path(f"{path}.pyc").write_bytes(byte_code(WATCH.format(path=str(told)) + stub, f"{path}.py"))
    start_all(bed, hook, runtime)
    furnish(bed.work / "image")
    others = [Created(bed, bed.bundle(f"other{number}", [f"NVIDIA_VISIBLE_DEVICES={number}"])) for number in (0, 7)]
    for other, gpus in zip(others, (1, 8), strict=True):
        subprocess.run([hook, "--config", bed.host(gpus), "prestart"], input=other.make(), check=True)
    start_all(bed, hook, runtime)
    for other in others:
        other.remove()
    return seen(told) | CALLED


def of_commands(bed: Bed) -> set[str]:
    """Return those that usual commands call."""
    told, command = bed.work / "called-by-commands", launcher(bed)
    run_all(bed, command)
    text = Path(command).read_text().partition("\n")
    Path(command).write_text(f"{text[0]}\n{WATCH.format(path=str(told))}{text[2]}")
    run_all(bed, command)
    return seen(told)


def seen(told: Path) -> set[str]:
    return {line for line in told.read_text().splitlines() if line.startswith("oci_gpu_hook.")}


def run_all(bed: Bed, command: str) -> None:
    """Run the commands that are measured, on containers that have GPUs and on ones that have none."""
    for gpus, steps in (
        (1, (("attach", "--count", "1"), ("detach", "--all"))),
        (8, (("attach", "--devices", "0"), ("attach", "--devices", "1,2"), ("detach", "--devices", "1"))),
    ):
        living = Living(bed, f"living{gpus}", [command, "--config", bed.host(gpus)])
        living.make()
        for words in steps:
            subprocess.run(living.call(*words), check=True, stdout=subprocess.DEVNULL)
        living.remove()
        generate = [command, "--config", bed.host(gpus), "cdi", "generate", "--hook-path", bed.hook()]
        subprocess.run(generate, check=True, stdout=subprocess.DEVNULL)


def start_all(bed: Bed, hook: str, runtime: list[str]) -> None:
    """Start containers in all usual ways."""
    one, eight = bed.host(1), bed.host(8)
    for number, (config, environment, asked) in enumerate(
        (
            (one, GPU, {}),
            (eight, [*GPU, ALL], {}),
            (eight, ["NVIDIA_VISIBLE_DEVICES=0"], {}),
            (eight, ["OCI_GPU_COUNT=2"], {}),
            (one, [], {"io.oci-gpu-hook.devices": "0"}),
            (one, [], {}),
        )
    ):
        bundle = bed.bundle(f"usual{number}", environment)
        annotate(bundle, asked)
        container = Created(bed, bundle)
        subprocess.run([f"{hook}", "--config", config, "prestart"], input=container.make(), check=True)
        container.remove()
        subprocess.run([hook, "--config", config, "poststop"], input=container.stopped(), check=True)
    for number, environment in enumerate((GPU, [*GPU, ALL])):
        bundle, name = bed.bundle(f"door{number}", environment), bed.next_id()
        for words in (("create", "--bundle", str(bundle)), ("start",), ("delete", "--force")):
            null = subprocess.DEVNULL
            subprocess.run([*runtime, *words, name], check=True, stdin=null, stdout=null)


def furnish(image: Path) -> None:
    """Give an image what those of distributions have: a loader's configuration, and directories of libraries."""
    (image / "etc/ld.so.conf.d").mkdir()
    (image / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
    for number, directory in enumerate(("usr/local/lib", f"usr/lib/{os.uname().machine}-linux-gnu")):
        (image / directory).mkdir(parents=True, exist_ok=True)
        (image / f"etc/ld.so.conf.d/{number}.conf").write_text(f"/{directory}\n")


def annotate(bundle: Path, annotations: dict[str, str]) -> None:
    path = bundle / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": annotations}))


def possible(module: str) -> list[str]:
    """Return those functions of a module that can be deferred."""
    found = find_spec(module)
    assert found
    assert found.origin
    source = Path(found.origin).read_text()
    codes = deferred.by_name(compile(source, found.origin, "exec", dont_inherit=True))
    return [
        f"{module}:{name}"
        for _, _, name, function in deferred.functions_of(ast.parse(source))
        if deferred.is_possible(function, codes[name])
    ]


if __name__ == "__main__":
    main()

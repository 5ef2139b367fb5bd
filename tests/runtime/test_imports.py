"""What a container's start imports, against a list: each name more is paid by every container of the host.

No clock: `docs/performance.md` has the prices, this holds the line.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.simulated import SimulatedHost

# What the bare interpreter brings (python3 -I -S -c pass), in whatever version.
INTERPRETER = {
    "_abc", "_codecs", "_frozen_importlib_external", "_io", "_signal", "_thread", "_warnings", "_weakref",
    "abc", "codecs", "encodings", "encodings.aliases", "encodings.cp437", "encodings.utf_8", "io", "marshal",
    "posix", "time", "winreg", "zipimport",
}  # fmt: skip
# Of `os` what the lean one needs; `_collections_abc` here would mean that something asked it for more (lean_os.py).
OS = {"stat", "_stat", "posixpath", "genericpath"}
if sys.version_info >= (3, 13):
    OS |= {"errno"}  # posixpath imports it, and it is built in
NOTHING_ASKED = INTERPRETER | OS | {"gc", "_json"}
GPU = NOTHING_ASKED | {"_ctypes", "_struct", "errno", "fcntl", "itertools", "struct"}

MOST_READ = 550 << 10  # bytes, in a usual start; it was 655,000 before functions were deferred
MOST_MODULES = 115


@pytest.fixture(scope="module")
def simulated(machine):
    """A host whose state no other test has touched: what others left there may be read by each start."""
    return SimulatedHost(Path(make(str(machine.work / "imports"), gpus=8).directory))


def imported(hook_stub, state, *arguments, own=False):
    """Return the modules that a run of the hook imports, this package's aside; own: those of this package."""
    with open(hook_stub) as file:
        interpreter, options = file.readline().removeprefix("#!").split()
    command = [interpreter, options, "-X", "importtime", str(hook_stub), *map(str, arguments), "prestart"]
    done = subprocess.run(command, input=json.dumps(state), capture_output=True, text=True, check=False, env={})
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines} - {"imported package"}
    return {name for name in names if (name.split(".")[0] == "oci_gpu_hook") == own}


# Tells what a start has read of the file of modules, as it ends: bytes, modules, functions that are deferred.
TELLS = """\
import posix, sys
leave = posix._exit
def tell(status):
    sizes = {name: size for name, (_, size, _) in marshal.loads(posix.pread(file, size_of_head, 8))[2].items()}
    read = sum(size for name, size in sizes.items() if name not in index)
    own = [name for name in sys.modules if name.startswith("oci_gpu_hook")]
    posix.write(1, repr((read, len(own), [each.__qualname__ for each in Deferred.read.values()])).encode())
    leave(status)
posix._exit = tell
"""


def read_by(hook_stub, work, state, *arguments):
    """Return how many bytes a run of the hook reads, how many modules, and which deferred functions it calls."""
    lines = Path(hook_stub).read_text().splitlines(keepends=True)
    after = next(number for number, line in enumerate(lines) if line.startswith("    exec(head[0]")) + 1
    own = '    Deferred, index, size_of_head = scope["Deferred"], head[2], size\n'
    program = work / "tells.py"
    program.write_text("".join((TELLS, *lines[:after], own, *lines[after:])))
    interpreter, options = lines[0].removeprefix("#!").split()
    command = [interpreter, options, str(program), *map(str, arguments), "prestart"]
    done = subprocess.run(command, input=json.dumps(state), capture_output=True, text=True, check=False, env={})
    assert done.returncode == 0, done.stderr
    read, modules, functions = ast.literal_eval(done.stdout)
    return read, modules, functions


def state_of(container):
    known = container.state()
    return {name: known[name] for name in ("ociVersion", "id", "pid", "bundle")} | {"status": "creating"}


def test_a_container_that_asks_for_nothing(runtime, make_bundle, simulated, hook):
    with runtime.created(make_bundle("list=/", gpus=None)) as container:
        call = (f"{hook}.py", state_of(container), "--config", simulated.config)
        imported(*call)  # which compiles the configuration, if nobody has yet
        found = imported(*call)
    assert found <= NOTHING_ASKED, found - NOTHING_ASKED


def test_a_container_that_gets_a_gpu(runtime, make_bundle, simulated, hook):
    (simulated.state_dir / "mps").mkdir(mode=0o700, parents=True, exist_ok=True)  # as daemons leave it that have ended

    def start(name):
        bundle = make_bundle("list=/", gpus="0", name=name)
        bundle.config["hooks"].pop("prestart")  # this test is the engine
        with runtime.created(bundle) as container:
            return imported(f"{hook}.py", state_of(container), "--config", simulated.config)

    start("first")  # which makes the inventory, if nobody has yet
    found = start("second")
    assert found <= GPU, found - GPU


def test_a_start_reads_no_more_byte_code(runtime, make_bundle, simulated, hook, directory):
    """To read 100 KB costs a start some 0.35 ms of CPU, and as much again to keep what is read.

    What has come in addition is perhaps for errors or rare wishes: benchmarks/deferred.py has a start leave it in the
    file. What a usual start does not need at all belongs into a module of its own.
    """

    def start(name):
        bundle = make_bundle("list=/", gpus="0", name=name)
        bundle.config["hooks"].pop("prestart")  # this test is the engine
        with runtime.created(bundle) as container:
            return read_by(f"{hook}.py", directory, state_of(container), "--config", simulated.config)

    start("first")
    read, modules, functions = start("second")
    assert functions == []
    assert modules <= MOST_MODULES
    assert read <= MOST_READ or sys.version_info[:2] != (3, 11)  # others have code of other sizes


@pytest.mark.parametrize("count", [False, True], ids=["by-name", "by-count"])
def test_nvidias_start_reads_no_other_vendors_code(runtime, make_bundle, simulated, hook, count):
    def start(name):
        env = ("OCI_GPU_COUNT=1",) if count else ()
        bundle = make_bundle("list=/", gpus=None if count else "0", env=env, name=name)
        bundle.config["hooks"].pop("prestart")  # this test is the engine
        with runtime.created(bundle) as container:
            return imported(f"{hook}.py", state_of(container), "--config", simulated.config, own=True)

    start("first")
    found = start("second")
    others = ("oci_gpu_hook.devices.amd", "oci_gpu_hook.devices.intel", "oci_gpu_hook.devices.kernel",
              "oci_gpu_hook.devices.cdi", "oci_gpu_hook.request.amd", "oci_gpu_hook.request.other_kinds",
              "oci_gpu_hook.devices.nvidia.platforms", "oci_gpu_hook.devices.nvidia.wsl",
              "oci_gpu_hook.devices.nvidia.tegra", "oci_gpu_hook.devices.nvidia.csv_files")  # fmt: skip
    assert [name for name in found if name.startswith(others)] == []
    assert any(name.startswith("oci_gpu_hook.devices.nvidia") for name in found)
    assert ("oci_gpu_hook.lifecycle.kinds" in found) == count


def test_another_vendors_node_costs_nothing_of_nvidias(runtime, make_bundle, hook, machine):
    """As `--device /dev/dri/renderD128` puts it into the bundle of a container that asks for nothing."""
    directory = machine.work / "imports-mixed"
    if not directory.exists():
        make(str(directory), platforms=("nvidia", "amd"), gpus=1)
    host = SimulatedHost(directory)

    def start(name, nodes):
        bundle = make_bundle("list=/", gpus=None, name=name)
        bundle.config["hooks"].pop("prestart")  # this test is the engine
        for node in nodes:
            number = os.stat(host.dev / node).st_rdev
            entry = {"path": f"/dev/{node}", "type": "c", "major": os.major(number), "minor": os.minor(number)}
            bundle.config["linux"].setdefault("devices", []).append(entry | {"fileMode": 0o666})
        with runtime.created(bundle) as container:
            return imported(f"{hook}.py", state_of(container), "--config", host.config, own=True)

    nvidias, amds = "oci_gpu_hook.devices.nvidia", "oci_gpu_hook.devices.amd"
    render = max(path.name for path in (host.dev / "dri").glob("renderD*"))
    for nodes, kind, other in (([f"dri/{render}"], amds, nvidias), (["nvidiactl", "nvidia0"], nvidias, "")):
        start(f"first-{kind}", nodes)
        found = {name.rpartition(".")[0] for name in start(f"second-{kind}", nodes)}
        assert kind in found
        assert other not in found


def test_a_container_that_asks_by_annotation(runtime, make_bundle, simulated, hook):
    """oci-gpu-runtime leaves an annotation, too, so all containers of Docker and containerd have one."""

    def start(name):
        bundle = make_bundle("list=/", gpus=None, name=name)
        bundle.config["annotations"] = {"io.oci-gpu-hook.devices": "0"}
        bundle.config["hooks"].pop("prestart")  # this test is the engine
        with runtime.created(bundle) as container:
            return imported(f"{hook}.py", state_of(container), "--config", simulated.config)

    start("first")
    found = start("second")
    assert found <= GPU, found - GPU


def test_a_host_that_lacks_a_part_of_the_driver(runtime, make_bundle, hook, directory):
    """Most hosts lack some part, and every start there says so."""
    host = SimulatedHost(Path(make(str(directory / "host"), gpus=1).directory))
    Path(f"{host.driver_root}/usr/bin/nvidia-smi").unlink()

    def start(name):
        bundle = make_bundle("list=/", gpus="0", name=name, config=host.config)
        bundle.config["hooks"].pop("prestart")  # this test is the engine
        with runtime.created(bundle) as container:
            return imported(f"{hook}.py", state_of(container), "--config", host.config)

    time.sleep(0.2)  # a configuration younger than 0.1 s is not compiled yet (base/config/source.py)
    start("first")
    found = start("second")
    assert found <= GPU, found - GPU

"""Asks NVML, in a child process so that a libnvidia-ml that hangs or crashes does no harm.

The child's program is nvml_probe.py. That takes 0.1 s with persistence mode, and seconds for each GPU without it, so
the answer is stored with the inventory.
"""

from __future__ import annotations

import os
import sys

import oci_gpu_hook
from oci_gpu_hook.base import limits
from oci_gpu_hook.base.document import parse
from oci_gpu_hook.base.errors import DriverError, HookError, one_line, quoted, reason
from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory, MigDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

_PROBE: Final = os.path.join(os.path.dirname(__file__), "nvml_probe.py")
_GRACE: Final = 1.0  # seconds to wait for a killed child; one that is stuck in the kernel is abandoned
_UNLISTED: Final[Mapping[str, Any]] = {
    "index": -1,
    "fault": "NVML does not count it, so the driver could not start it",
}
_AFTER_ALL: Final = "g"  # sorts after every hex digit
_REMEDY: Final = "run nvidia-smi on the host, which asks the same questions; see dmesg for errors of the driver"


def complete(inventory: Inventory, hidden: frozenset[int] = frozenset()) -> Inventory:
    """Return the inventory completed by NVML. Raises DriverError if NVML cannot be asked.

    hidden: minors of the GPUs that a device cgroup keeps from this process. NVML does not count those and numbers the
    others from 0 on, so none of this says anything about them, and numbers stay those of the host.
    """
    answer = ask(library_of(inventory), module_directories())
    told = _by_bus(answer["gpus"], [gpu.bus_id for gpu in inventory.gpus])
    if hidden:
        told |= {gpu.bus_id: {**told[gpu.bus_id], "index": gpu.index} for gpu in inventory.gpus if gpu.bus_id in told}
    working = {bus_id: gpu for bus_id, gpu in told.items() if "error" not in gpu}
    gpus = tuple(
        gpu
        if gpu.minor in hidden and gpu.bus_id not in told
        else _completed(gpu, told.get(gpu.bus_id, _UNLISTED), working)
        for gpu in inventory.gpus
    )
    known = {gpu.bus_id for gpu in inventory.gpus}
    strange = [gpu["error"] for bus_id, gpu in told.items() if bus_id not in known and "error" in gpu]
    warnings = [one_line(f"NVML: {error}") for error in strange]
    return inventory.replace(
        cuda_version=answer["cudaVersion"], gpus=gpus, detailed=True, warnings=(*inventory.warnings, *warnings)
    )


def ask(library: str, directories: Sequence[str], timeout: float = limits.NVML_SECONDS) -> dict[str, Any]:
    """Run the child, and return its answer. Raises DriverError if it hangs or crashes, or if NVML fails."""
    return ask_program(_PROBE, (library, *directories), timeout)


def ask_program(program: str, words: Sequence[str], timeout: float = limits.NVML_SECONDS) -> dict[str, Any]:
    """Do what `ask` does with another program. words: its arguments, first the library that it loads."""
    what = "cannot ask NVML"
    try:
        data, status = _run([sys.executable or "/usr/bin/python3", "-I", "-S", "-B", program, *words], timeout)
    except OSError as error:
        raise DriverError(what, reason(error), _REMEDY, "OGH1406") from None
    if status is None:
        raise DriverError(what, f"it gave no answer within {timeout:g} s", _REMEDY, "OGH1406")
    if os.WIFSIGNALED(status):
        raise DriverError(what, f"{quoted(words[0])} crashed (signal {os.WTERMSIG(status)})", _REMEDY, "OGH1406")
    try:
        answer = parse(data, "answer of NVML")
    except HookError as error:
        raise DriverError(what, error.why, _REMEDY, "OGH1406") from None
    if type(answer) is not dict or "error" in answer:
        why = answer["error"] if type(answer) is dict else f"it answered {quoted(answer)}"
        raise DriverError(what, one_line(str(why)), _REMEDY, "OGH1406")
    return answer


def _run(command: Sequence[str], timeout: float) -> tuple[bytes, int | None]:
    """Run a program with an empty environment; return its output and wait status, None if it took too long."""
    from select import POLLIN, poll
    from time import monotonic

    readable, writable = os.pipe()
    try:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, writable, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        pid = os.posix_spawn(command[0], list(command), {}, file_actions=actions)
    except OSError:
        os.close(readable)
        raise
    finally:
        os.close(writable)
    output = bytearray()
    deadline = monotonic() + timeout
    try:
        watch = poll()
        watch.register(readable, POLLIN)
        while len(output) <= limits.NVML_ANSWER:
            if not watch.poll(max(0.0, deadline - monotonic()) * 1000):
                break
            chunk = os.read(readable, 65536)
            if not chunk:
                return bytes(output), _wait(pid, max(_GRACE, deadline - monotonic()))
            output += chunk
    finally:
        os.close(readable)
    _wait(pid, 0.0)
    return b"", None


def _wait(pid: int, patience: float) -> int | None:
    """Return the wait status of a child, which is killed after `patience` seconds."""
    from signal import SIGKILL
    from time import monotonic, sleep

    for last in (False, True):
        deadline = monotonic() + (_GRACE if last else patience)
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return None if last else status
            if monotonic() >= deadline:
                break
            sleep(0.001)
        os.kill(pid, SIGKILL)
    return None


def library_of(inventory: Inventory) -> str:
    """Return the path of the driver's NVML. Raises DriverError."""
    for library in inventory.libraries:
        if library.soname == "libnvidia-ml.so.1" and library.bits == 64:
            return library.host_path
    raise DriverError(
        "cannot ask NVML", "the driver has no libnvidia-ml", "install the driver's management library", "OGH1406"
    )


def module_directories() -> list[str]:
    """Return the directories of pynvml: beside this package, or Python's own. Raises DriverError."""
    import site

    beside = os.path.dirname(os.path.dirname(os.path.abspath(oci_gpu_hook.__file__)))
    for directory in (beside, *sys.path, *site.getsitepackages()):
        if directory.startswith("/") and os.path.exists(os.path.join(directory, "pynvml.py")):
            return [directory]
    remedy = "install nvidia-ml-py for the Python that runs the hook"
    raise DriverError("cannot ask NVML", f"{sys.executable} has no module pynvml", remedy, "OGH1406")


def _by_bus(told: Sequence[Mapping[str, Any]], bus_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return the answers about each GPU by bus id, in NVML's order, which is that of the PCI bus.

    A GPU that NVML counts but cannot open has no bus id. It is one of `bus_ids` between its neighbours in the order.
    """
    opened = {gpu["busId"] for gpu in told if "busId" in gpu}
    unplaced = sorted(bus_id for bus_id in bus_ids if bus_id not in opened)
    found: dict[str, Mapping[str, Any]] = {}
    last = ""
    for position, gpu in enumerate(told):
        bus_id = gpu.get("busId")
        if bus_id is None:
            following = min((later["busId"] for later in told[position:] if "busId" in later), default=_AFTER_ALL)
            bus_id = next((one for one in unplaced if last < one < following), f"unknown, {position}")
            if bus_id in unplaced:
                unplaced.remove(bus_id)
        else:
            last = bus_id
        found[bus_id] = {"index": position, **gpu}
    return found


def _completed(gpu: Gpu, told: Mapping[str, Any], working: Mapping[str, Mapping[str, Any]]) -> Gpu:
    minors = {(mig.gpu_instance, mig.compute_instance): mig for mig in gpu.mig_devices}
    devices = tuple(_mig_device(device, minors) for device in told.get("migDevices", ()) if device["uuid"])
    mode = told.get("persistenceMode")
    error = told.get("error", "")
    return gpu.replace(
        index=told["index"],
        fault=gpu.fault or told.get("fault", "") or (one_line(f"NVML says: {error}") if error else ""),
        uuid=told.get("uuid") or gpu.uuid,
        name=told.get("name") or gpu.name,
        brand=told.get("brand", ""),
        architecture=told.get("architecture", ""),
        memory=told.get("memory", 0),
        persistence_mode=None if mode is None else bool(mode),
        mig_enabled=told.get("migEnabled", gpu.mig_enabled),
        mig_devices=devices or gpu.mig_devices,
        links=_links(gpu, told, working),
    )


def _mig_device(told: Mapping[str, Any], seen: Mapping[tuple[int, int], MigDevice]) -> MigDevice:
    instances = (told["gpuInstance"], told["computeInstance"])
    minors = seen.get(instances)
    return MigDevice(
        index=told["index"],
        uuid=told["uuid"],
        gpu_instance=instances[0],
        compute_instance=instances[1],
        profile=told["profile"],
        memory=told["memory"],
        gpu_instance_minor=minors.gpu_instance_minor if minors else -1,
        compute_instance_minor=minors.compute_instance_minor if minors else -1,
    )


def _links(gpu: Gpu, told: Mapping[str, Any], working: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[int, int], ...]:
    """Return (peer's index, NVLinks to it); through switches a GPU reaches every other GPU on them."""
    links = {working[peer]["index"]: count for peer, count in told.get("links", ()) if peer in working}
    for peer, other in working.items():
        shared = min(told.get("switchLinks", 0), other.get("switchLinks", 0))
        if peer != gpu.bus_id and shared:
            links[other["index"]] = links.get(other["index"], 0) + shared
    return tuple(sorted(links.items()))

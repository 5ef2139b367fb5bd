"""What only NVML can tell, asked of it in a child process: a libnvidia-ml that hangs or crashes takes nobody with it.

The child's program is nvml_probe.py. Asking costs 0.1 s with persistence mode and seconds per GPU without it, so the
answer is stored with the inventory.
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
_GRACE: Final = 1.0  # seconds a killed child is waited for; one that is stuck in the kernel is left behind
_REMEDY: Final = "run nvidia-smi on the host, which asks the same questions; see dmesg for errors of the driver"


def complete(inventory: Inventory) -> Inventory:
    """Return the inventory with what NVML tells. Raises DriverError where NVML cannot be asked."""
    answer = ask(_library(inventory), _module_directories())
    told = [gpu for gpu in answer["gpus"] if "error" not in gpu]
    by_bus = {gpu["busId"]: gpu for gpu in told if "busId" in gpu}
    indices = {gpu.bus_id: gpu.index for gpu in inventory.gpus}
    warnings = [one_line(f"NVML: {gpu['error']}") for gpu in answer["gpus"] if "error" in gpu]
    gpus = tuple(_completed(gpu, by_bus.get(gpu.bus_id, {}), by_bus, indices) for gpu in inventory.gpus)
    return inventory.replace(
        cuda_version=answer["cudaVersion"], gpus=gpus, detailed=True, warnings=(*inventory.warnings, *warnings)
    )


def ask(library: str, directories: Sequence[str], timeout: float = limits.NVML_SECONDS) -> dict[str, Any]:
    """Run the child and return its answer. Raises DriverError: it hung, crashed, or NVML said no."""
    what = "cannot ask NVML"
    try:
        data, status = _run(
            [sys.executable or "/usr/bin/python3", "-I", "-S", "-B", _PROBE, library, *directories], timeout
        )
    except OSError as error:
        raise DriverError(what, reason(error), _REMEDY) from None
    if status is None:
        raise DriverError(what, f"it gave no answer within {timeout:g} s", _REMEDY)
    if os.WIFSIGNALED(status):
        raise DriverError(what, f"{quoted(library)} crashed (signal {os.WTERMSIG(status)})", _REMEDY)
    try:
        answer = parse(data, "answer of NVML")
    except HookError as error:
        raise DriverError(what, error.why, _REMEDY) from None
    if type(answer) is not dict or "error" in answer:
        why = answer["error"] if type(answer) is dict else f"it answered {quoted(answer)}"
        raise DriverError(what, one_line(str(why)), _REMEDY)
    return answer


def _run(command: Sequence[str], timeout: float) -> tuple[bytes, int | None]:
    """Run a program with an empty environment; return its output and wait status, None where it ran out of time."""
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
    """Return the wait status of a child that has `patience` seconds left to end; then it is killed."""
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


def _library(inventory: Inventory) -> str:
    for library in inventory.libraries:
        if library.soname == "libnvidia-ml.so.1" and library.bits == 64:
            return library.host_path
    raise DriverError("cannot ask NVML", "the driver has no libnvidia-ml", "install the driver's management library")


def _module_directories() -> list[str]:
    """Return where pynvml is: beside this package, or where Python keeps modules. Raises DriverError."""
    import site

    beside = os.path.dirname(os.path.dirname(os.path.abspath(oci_gpu_hook.__file__)))
    for directory in (beside, *sys.path, *site.getsitepackages()):
        if directory.startswith("/") and os.path.exists(os.path.join(directory, "pynvml.py")):
            return [directory]
    remedy = "install nvidia-ml-py for the Python that runs the hook"
    raise DriverError("cannot ask NVML", f"{sys.executable} has no module pynvml", remedy)


def _completed(
    gpu: Gpu, told: Mapping[str, Any], by_bus: Mapping[str, Mapping[str, Any]], indices: Mapping[str, int]
) -> Gpu:
    minors = {(mig.gpu_instance, mig.compute_instance): mig for mig in gpu.mig_devices}
    devices = tuple(_mig_device(device, minors) for device in told.get("migDevices", ()) if device["uuid"])
    mode = told.get("persistenceMode")
    return gpu.replace(
        uuid=told.get("uuid") or gpu.uuid,
        name=told.get("name") or gpu.name,
        brand=told.get("brand", ""),
        architecture=told.get("architecture", ""),
        memory=told.get("memory", 0),
        persistence_mode=None if mode is None else bool(mode),
        mig_enabled=told.get("migEnabled", gpu.mig_enabled),
        mig_devices=devices or gpu.mig_devices,
        links=_links(gpu, told, by_bus, indices),
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


def _links(
    gpu: Gpu, told: Mapping[str, Any], by_bus: Mapping[str, Mapping[str, Any]], indices: Mapping[str, int]
) -> tuple[tuple[int, int], ...]:
    """Return (peer's index, NVLinks to it); by way of switches a GPU reaches every other that they reach."""
    links = {indices[peer]: count for peer, count in told.get("links", ()) if peer in indices}
    for peer, other in by_bus.items():
        shared = min(told.get("switchLinks", 0), other.get("switchLinks", 0))
        if peer != gpu.bus_id and peer in indices and shared:
            links[indices[peer]] = links.get(indices[peer], 0) + shared
    return tuple(sorted(links.items()))

"""The child process that meters GPUs: `python -I -S usage_probe.py LIBRARY DIRECTORY…`.

It answers each byte on stdin with one line of JSON on stdout, and ends at the end of stdin. It is a separate program
because what it loads may hang or crash; it stays because NVML takes long to start. LIBRARY and the directories are
those of nvml_probe.py. Values that a GPU or driver does not support are left out.
"""

from __future__ import annotations

import ctypes
import json  # noqa: TID253
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

_SAMPLES_OF: Final = 2.0  # seconds; NVML takes samples once to six times a second
_WHOLE: Final = 100
_SENSOR: Final = 0  # nvml.h, NVML_TEMPERATURE_GPU
_LISTS: Final = (
    ("compute", "nvmlDeviceGetComputeRunningProcesses"),
    ("graphics", "nvmlDeviceGetGraphicsRunningProcesses"),
    ("mps", "nvmlDeviceGetMPSComputeRunningProcesses"),
)


def main(arguments: list[str]) -> int:
    """Answer until the end of stdin: {"gpus": […]}, or {"error"}. A GPU that cannot be used has an "error"."""
    library, *directories = arguments
    sys.path += directories
    trouble = ""
    meter = None
    try:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        import pynvml

        pynvml.nvmlInit()
        meter = _Meter(pynvml)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent reports it
        trouble = str(error) or type(error).__name__
    while sys.stdin.buffer.read(1):
        answer = meter.answer() if meter else {"error": trouble}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


class _Meter:
    """The questions, each of which NVML may refuse. reason: of its last refusal."""

    def __init__(self, pynvml: Any) -> None:
        self.nvml = pynvml
        self.reason = ""

    def answer(self) -> dict[str, Any]:
        count = self.ask("nvmlDeviceGetCount")
        if count is None:
            return {"error": f"it cannot count the GPUs: {self.reason}"}
        return {"gpus": [self.gpu(index) for index in range(count)]}

    def ask(self, name: str, *arguments: Any) -> Any:
        function: Callable[..., Any] | None = getattr(self.nvml, name, None)
        if function is None:
            return None
        try:
            answer = function(*arguments)
        except self.nvml.NVMLError as error:
            self.reason = str(error)
            return None
        return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer

    def gpu(self, index: int) -> dict[str, Any]:
        handle = self.ask("nvmlDeviceGetHandleByIndex", index)
        uuid = handle and self.ask("nvmlDeviceGetUUID", handle)
        if not uuid:
            return {"error": self.reason}
        rates = self.ask("nvmlDeviceGetUtilizationRates", handle)
        return _without_none(
            {
                "uuid": uuid,
                "minor": self.ask("nvmlDeviceGetMinorNumber", handle),
                "utilization": rates and rates.gpu,
                "memoryUtilization": rates and rates.memory,
                "power": self.ask("nvmlDeviceGetPowerUsage", handle),
                "powerLimit": self.ask("nvmlDeviceGetEnforcedPowerLimit", handle),
                "temperature": self.ask("nvmlDeviceGetTemperature", handle, _SENSOR),
                **self.memory(handle),
                "processes": self.processes(handle),
                "samples": self.samples(handle),
                "migDevices": self.mig_devices(handle),
            }
        )

    def mig_devices(self, handle: Any) -> list[dict[str, Any]]:
        mode = self.ask("nvmlDeviceGetMigMode", handle)
        if not mode or mode[0] != 1:
            return []
        found = []
        for index in range(self.ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
            device = self.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
            uuid = device and self.ask("nvmlDeviceGetUUID", device)
            if uuid:
                found.append({"uuid": uuid, **self.memory(device), "processes": self.processes(device)})
        return found

    def memory(self, handle: Any) -> dict[str, int]:
        # Of the second version, `used` is without what the driver keeps for itself, as nvidia-smi shows it.
        version = getattr(self.nvml, "nvmlMemory_v2", None)
        memory = (version and self.ask("nvmlDeviceGetMemoryInfo", handle, version)) or self.ask(
            "nvmlDeviceGetMemoryInfo", handle
        )
        return {"memoryUsed": memory.used, "memoryTotal": memory.total} if memory else {}

    def processes(self, handle: Any) -> list[dict[str, Any]]:
        found = {}
        for kind, name in _LISTS:  # a client of MPS may be in the list of computing processes too
            for process in self.ask(name, handle) or ():
                found[process.pid] = _without_none({"pid": process.pid, "kind": kind, "memory": process.usedGpuMemory})
        return list(found.values())

    def samples(self, handle: Any) -> dict[int, int] | None:
        """Return the last sample of each process that was at work, None where the driver takes none."""
        since = int((time.time() - _SAMPLES_OF) * 1_000_000)
        try:
            samples = self.nvml.nvmlDeviceGetProcessUtilization(handle, since)
        except self.nvml.NVMLError as error:
            return {} if error.value == self.nvml.NVML_ERROR_NOT_FOUND else None
        except AttributeError:
            return None
        samples = sorted(samples, key=lambda sample: sample.timeStamp)
        return {sample.pid: sample.smUtil for sample in samples if sample.pid and sample.smUtil <= _WHOLE}


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The child process that asks NVML, and answers in JSON on stdout: `python -I -S nvml_probe.py LIBRARY DIRECTORY…`.

It is a separate program because what it loads may hang or crash. LIBRARY is the driver's libnvidia-ml. It is loaded
first, so that the one in this driver root is used (glibc finds a loaded library by its SONAME). The directories contain
the module pynvml. Values that a GPU or driver does not support are left out.
"""

from __future__ import annotations

import ctypes
import json  # noqa: TID253
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

_MEBIBYTE: Final = 1024 * 1024
_USELESS: Final = (15, 16)  # nvml.h, NVML_ERROR_GPU_IS_LOST, NVML_ERROR_RESET_REQUIRED
_SWITCH: Final = 2  # nvml.h, NVML_NVLINK_DEVICE_TYPE_SWITCH
# nvml.h, nvmlBrandType_t, in the spelling of NVIDIA_REQUIRE_*
_BRANDS: Final = (
    "unknown",
    "quadro",
    "tesla",
    "nvs",
    "grid",
    "geforce",
    "titan",
    "nvidiavapps",
    "nvidiavpc",
    "nvidiavcs",
    "nvidiavws",
    "nvidiacloudgaming",
    "quadrortx",
    "nvidiartx",
    "nvidia",
    "geforcertx",
    "titanrtx",
)


def main(arguments: list[str]) -> int:
    """Print {"driverVersion", "cudaVersion", "gpus": […]}, or {"error"}. A GPU that cannot be used has an "error"."""
    library, *directories = arguments
    sys.path += directories
    try:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent reports it
        answer: dict[str, Any] = {"error": str(error) or type(error).__name__}
    else:
        answer = _Probe(pynvml).answer()
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    return 0


class _Probe:
    """The questions, each of which NVML may refuse. trouble: its error for a GPU that cannot be used."""

    def __init__(self, pynvml: Any) -> None:
        self.nvml = pynvml
        self.trouble = ""

    def answer(self) -> dict[str, Any]:
        version = self.ask("nvmlSystemGetCudaDriverVersion_v2") or self.ask("nvmlSystemGetCudaDriverVersion") or 0
        count = self.ask("nvmlDeviceGetCount")
        if count is None:
            return {"error": "it cannot count the GPUs"}
        return {
            "driverVersion": self.ask("nvmlSystemGetDriverVersion") or "",
            "cudaVersion": f"{version // 1000}.{version % 1000 // 10}" if version else "",
            "gpus": [self.gpu(index) for index in range(count)],
        }

    def ask(self, name: str, *arguments: Any) -> Any:
        """Return NVML's answer, None if it has none: not supported, no such function, GPU lost."""
        function: Callable[..., Any] | None = getattr(self.nvml, name, None)
        if function is None:
            return None
        try:
            answer = function(*arguments)
        except self.nvml.NVMLError as error:
            if getattr(error, "value", None) in _USELESS:
                self.trouble = str(error)
            return None
        return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer

    def gpu(self, index: int) -> dict[str, Any]:
        try:
            handle = self.nvml.nvmlDeviceGetHandleByIndex(index)
        except self.nvml.NVMLError as error:
            return {"error": str(error)}
        self.trouble = ""
        brand = self.ask("nvmlDeviceGetBrand", handle)
        capability = self.ask("nvmlDeviceGetCudaComputeCapability", handle)
        memory = self.ask("nvmlDeviceGetMemoryInfo", handle)
        mode = self.ask("nvmlDeviceGetMigMode", handle)
        found = {
            "busId": self.bus_id("nvmlDeviceGetPciInfo", handle),
            "uuid": self.ask("nvmlDeviceGetUUID", handle),
            "name": self.ask("nvmlDeviceGetName", handle),
            "brand": _BRANDS[brand] if brand is not None and brand < len(_BRANDS) else None,
            "architecture": f"{capability[0]}.{capability[1]}" if capability else None,
            "memory": memory and memory.total,
            "persistenceMode": self.ask("nvmlDeviceGetPersistenceMode", handle),
            "migEnabled": mode and mode[0] == 1,
            "migDevices": self.mig_devices(handle) if mode and mode[0] == 1 else None,
            **self.links(handle),
        }
        if found["busId"] is None or self.trouble:
            found["error"] = self.trouble or "it cannot tell where the GPU is"
        return {name: value for name, value in found.items() if value is not None}

    def bus_id(self, name: str, *arguments: Any) -> str | None:
        info = self.ask(name, *arguments)
        if info is None:
            return None
        text = info.busId.decode("ascii", "replace") if isinstance(info.busId, bytes) else str(info.busId)
        domain, _, rest = text.lower().partition(":")
        return f"{domain:0>8}:{rest}"

    def mig_devices(self, handle: Any) -> list[dict[str, Any]]:
        found = []
        for index in range(self.ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
            device = self.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
            if device is None:
                continue
            attributes = self.ask("nvmlDeviceGetAttributes_v2", device) or self.ask("nvmlDeviceGetAttributes", device)
            memory = self.ask("nvmlDeviceGetMemoryInfo", device)
            found.append(
                {
                    "index": index,
                    "uuid": self.ask("nvmlDeviceGetUUID", device) or "",
                    "gpuInstance": self.ask("nvmlDeviceGetGpuInstanceId", device),
                    "computeInstance": self.ask("nvmlDeviceGetComputeInstanceId", device),
                    "profile": (self.ask("nvmlDeviceGetName", device) or "").partition(" MIG ")[2],
                    "memory": attributes.memorySizeMB * _MEBIBYTE if attributes else memory.total if memory else 0,
                }
            )
        return found

    def links(self, handle: Any) -> dict[str, Any]:
        """Return the active NVLinks, {"links": [[peer's bus id, number]]}, and the number of those to switches."""
        peers: dict[str, int] = {}
        switches = 0
        for link in range(getattr(self.nvml, "NVML_NVLINK_MAX_LINKS", 18)):
            if not self.ask("nvmlDeviceGetNvLinkState", handle, link):
                continue
            if self.ask("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link) == _SWITCH:
                switches += 1
            elif peer := self.bus_id("nvmlDeviceGetNvLinkRemotePciInfo", handle, link):
                peers[peer] = peers.get(peer, 0) + 1
        return {"links": sorted([peer, count] for peer, count in peers.items()), "switchLinks": switches}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

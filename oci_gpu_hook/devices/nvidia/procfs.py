"""Reads what the kernel driver shows in /proc about itself and its GPUs. It opens no device, so it never waits for one.

Formats: NVIDIA open-gpu-kernel-modules, kernel-open/nvidia/nv-procfs.c and nvlink_caps.c; Linux fs/proc/devices.c.
Functions that take a text are pure; those that read files take a `proc_root` or a path.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import DriverError, quoted, reason
from oci_gpu_hook.base.files import number_in, read_text
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_VERSION_LINE: Final = "NVRM version:"
_KERNEL_MODULE: Final = "Kernel Module"
_DIGITS: Final = frozenset("0123456789")
_MODIFY: Final = "ModifyDeviceFiles: "


class GpuInformation(Record):
    """A GPU in /proc. uuid is "" until the driver has initialised the GPU; minor is -1 with old drivers."""

    proc_name: str
    bus_id: str
    minor: int
    uuid: str
    name: str


def driver_version(text: str) -> str:
    """Return the version in /proc/driver/nvidia/version, such as 580.95.05. Raises DriverError.

    The proprietary module writes `NVIDIA UNIX x86_64 Kernel Module  VERSION`, the open one `NVIDIA UNIX Open Kernel
    Module for x86_64  VERSION`.
    """
    for line in text.split("\n"):
        if line.startswith(_VERSION_LINE):
            words = line.partition(_KERNEL_MODULE)[2].split()
            for word in words[2:] if words[:1] == ["for"] else words[:1]:
                if word[0] in _DIGITS and not set(word) - _DIGITS - {"."}:
                    return word
                break
    why = f"names no version: {quoted(text)}"
    raise DriverError("/proc/driver/nvidia/version", why, "install a release of the NVIDIA driver", "OGH1401")


def gpus(proc_root: str) -> tuple[GpuInformation, ...]:
    """Return the GPUs in the order of their indices, which is the order of the PCI bus. Raises DriverError."""
    directory = f"{proc_root}/driver/nvidia/gpus"
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise DriverError(
            f"cannot list {quoted(directory)}", reason(error), "run the hook as root", "OGH1401"
        ) from None
    found = []
    for name in names:
        # An old driver shows nothing about a GPU that it cannot wake (nv-procfs.c, rm_ref_dynamic_power).
        text = read_text(f"{directory}/{name}/information") or ""
        if (gpu := gpu_information(name, text)) is not None:
            found.append(gpu)
    return tuple(sorted(found, key=lambda gpu: gpu.bus_id))


def gpu_information(proc_name: str, text: str) -> GpuInformation | None:
    """Parse a GPU's `information`; None for a GPU that the driver was told to exclude."""
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.split("\n"))}
    if fields.get("GPU Excluded", fields.get("Blacklisted")) == "Yes":
        return None
    minor = number_in(fields.get("Device Minor"))
    uuid = fields.get("GPU UUID", "")
    return GpuInformation(
        proc_name=proc_name,
        bus_id=bus_id(fields.get("Bus Location") or proc_name),
        minor=-1 if minor is None else minor,
        uuid="" if "?" in uuid else uuid,
        name=fields.get("Model", ""),
    )


def bus_id(address: str) -> str:
    """Return a PCI address in NVML's form, with a domain of eight hex digits: 00000000:00:06.0."""
    domain, _, rest = address.lower().partition(":")
    return f"{domain:0>8}:{rest}"


def device_major(text: str, name: str) -> int:
    """Return the major number of a driver's character devices in /proc/devices, 0 if it has none."""
    for line in text.partition("Block devices:")[0].split("\n"):
        number, _, found = line.strip().partition(" ")
        if found == name and number.isdecimal():
            return int(number)
    return 0


def mig_minors(text: str) -> dict[str, int]:
    """Parse mig-minors: capability → minor of /dev/nvidia-caps/nvidia-capN. Invalid lines are skipped."""
    minors = {}
    for line in text.split("\n"):
        try:
            capability, minor = mig_minors_line(line)
        except ValueError:
            continue
        minors[capability] = minor
    return minors


def mig_minors_line(line: str) -> tuple[str, int]:
    """Parse a line such as `gpu0/gi1/ci0/access 13` or `config 1`. Raises ValueError."""
    capability, _, minor = line.partition(" ")
    if not _is_mig_capability(capability) or not minor.isdecimal():
        raise ValueError(f"not a line of mig-minors: {quoted(line)}")
    return capability, int(minor)


def mig_capability_path(capability: str) -> str:
    """Return the path of a MIG capability's file below /proc. Raises ValueError if it is not a capability."""
    if not _is_mig_capability(capability):
        raise ValueError(f"not a MIG capability: {quoted(capability)}")
    base = "/proc/driver/nvidia/capabilities"
    if capability in ("config", "monitor"):
        return f"{base}/mig/{capability}"
    gpu, _, instance = capability.partition("/")
    return f"{base}/{gpu}/mig/{instance}"


def _is_mig_capability(text: str) -> bool:
    if text in ("config", "monitor"):
        return True
    words = text.split("/")
    kinds = {3: ("gpu", "gi"), 4: ("gpu", "gi", "ci")}.get(len(words))
    if kinds is None or words[-1] != "access":
        return False
    return all(
        word.startswith(kind) and word[len(kind) :].isdecimal() for word, kind in zip(words[:-1], kinds, strict=True)
    )


def params_for_containers(text: str) -> str | None:
    """Return `params` without the permission to create device nodes, None if it does not have that line.

    The driver's programs create missing nodes while `ModifyDeviceFiles` is 1.
    """
    lines = text.split("\n")
    if f"{_MODIFY}1" not in lines:
        return None
    return "\n".join(f"{_MODIFY}0" if line == f"{_MODIFY}1" else line for line in lines)


def files_for_containers(proc_root: str) -> tuple[tuple[str, str], ...]:
    """Return (name, text) for the files of /proc/driver/nvidia in containers."""
    files = []
    for name in ("params", "registry", "version"):
        text = read_text(f"{proc_root}/driver/nvidia/{name}")
        if text is not None:
            files.append((name, (params_for_containers(text) or text) if name == "params" else text))
    return tuple(files)

"""Meters GPUs by NVML, in a child process that stays: a libnvidia-ml that hangs or crashes does no harm.

The child's program is usage_probe.py. While it runs, GPUs without persistence mode stay initialised.
"""

from __future__ import annotations

import os
import sys

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.document import parse
from oci_gpu_hook.base.errors import DriverError, HookError, one_line, reason
from oci_gpu_hook.devices.nvidia import nvml
from oci_gpu_hook.devices.use import DeviceUse, ProcessUse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from subprocess import Popen
    from typing import Any, Final, Self

    from oci_gpu_hook.devices.nvidia.model import Inventory

_PROBE: Final = os.path.join(os.path.dirname(__file__), "usage_probe.py")
_WHAT: Final = "cannot ask NVML"
_REMEDY: Final = "run nvidia-smi on the host, which asks the same questions"
_MAJOR: Final = 195  # of /dev/nvidiaN: Linux, Documentation/admin-guide/devices.txt


class Meter:
    """Answers what the GPUs are used for, as often as it is asked. Used in a `with` block."""

    def __init__(self, inventory: Inventory) -> None:
        """Find NVML. Raises DriverError if the driver has none, or this Python no binding of it."""
        self._words = (nvml.library_of(inventory), *nvml.module_directories())
        self._child: Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            self._end(self._child)

    def read(self, seconds: float = limits.NVML_SECONDS) -> dict[str, DeviceUse]:
        """Return the use of each GPU and MIG device by its UUID. Raises DriverError; the next call tries again."""
        child = self._child or self._start()
        data = _ask(child, seconds)
        if not data:
            why = "it crashed" if data is None else f"it gave no answer within {seconds:g} s"
            self._end(child)
            raise DriverError(_WHAT, why, _REMEDY, "OGH1406")
        return _uses(data)

    def _start(self) -> Popen[bytes]:
        import subprocess

        command = [sys.executable or "/usr/bin/python3", "-I", "-S", "-B", _PROBE, *self._words]
        pipe = subprocess.PIPE
        try:
            self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env={})
        except OSError as error:
            raise DriverError(_WHAT, reason(error), _REMEDY, "OGH1406") from None
        return self._child

    def _end(self, child: Popen[bytes]) -> None:
        from subprocess import TimeoutExpired

        self._child = None
        child.kill()
        for stream in (child.stdin, child.stdout):
            if stream:
                stream.close()
        try:
            child.wait(1)
        except TimeoutExpired:  # stuck in the kernel
            return


def _ask(child: Popen[bytes], seconds: float) -> bytes | None:
    """Return the child's answer, a line; b"" for none in time or one that is too long, None if the child has ended."""
    from select import POLLIN, poll
    from time import monotonic

    assert child.stdin  # noqa: S101  for mypy: the child was started with pipes
    assert child.stdout  # noqa: S101
    try:
        os.write(child.stdin.fileno(), b"\n")
    except OSError:
        return None
    give_up = monotonic() + seconds
    watch = poll()
    watch.register(child.stdout.fileno(), POLLIN)
    answer = bytearray()
    while not answer.endswith(b"\n"):
        if len(answer) > limits.NVML_ANSWER or not watch.poll(max(0.0, give_up - monotonic()) * 1000):
            return b""
        chunk = os.read(child.stdout.fileno(), 1 << 16)
        if not chunk:
            return None
        answer += chunk
    return bytes(answer)


def _uses(data: bytes) -> dict[str, DeviceUse]:
    try:
        answer = parse(data, "answer of NVML")
        if "error" in answer:
            raise DriverError(_WHAT, one_line(str(answer["error"])), _REMEDY, "OGH1406")
        return {use.uuid: use for told in answer["gpus"] if "uuid" in told for use in _of_gpu(told)}
    except (HookError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DriverError):
            raise
        raise DriverError(_WHAT, f"it answered something else: {one_line(str(error))}", _REMEDY, "OGH1406") from None


def _of_gpu(told: Mapping[str, Any]) -> list[DeviceUse]:
    power, limit, minor = (told.get(name) for name in ("power", "powerLimit", "minor"))
    whole = DeviceUse(
        uuid=told["uuid"],
        utilization=told.get("utilization"),
        memory_utilization=told.get("memoryUtilization"),
        memory_used=told.get("memoryUsed"),
        memory_total=told.get("memoryTotal"),
        power=None if power is None else power / 1000,
        power_limit=None if limit is None else limit / 1000,
        temperature=told.get("temperature"),
        processes=_processes(told),
        node=None if minor is None else (_MAJOR, minor),
    )
    parts = [
        DeviceUse(
            uuid=part["uuid"],
            memory_used=part.get("memoryUsed"),
            memory_total=part.get("memoryTotal"),
            processes=_processes(part),
        )
        for part in told.get("migDevices", ())
    ]
    return [whole, *parts]


def _processes(told: Mapping[str, Any]) -> tuple[ProcessUse, ...]:
    """Return the processes of a GPU or MIG device. One that has no sample was idle, where there are samples."""
    samples = told.get("samples")
    return tuple(
        [
            ProcessUse(
                pid=process["pid"],
                kind=process["kind"],
                memory=process.get("memory"),
                utilization=None if samples is None else samples.get(str(process["pid"]), 0),
            )
            for process in told.get("processes", ())
        ]
    )

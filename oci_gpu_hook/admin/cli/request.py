"""Show what a container asks for, from which source, and what of it has less effect than its author may expect.

It reads the bundle's config.json and the configuration, and needs no driver.
"""

from __future__ import annotations

from oci_gpu_hook.admin.cli import bundle, living, near_misses, option
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import one_line, quoted
from oci_gpu_hook.request import parse
from oci_gpu_hook.request.json_form import to_json
from oci_gpu_hook.request.model import DEFAULT_KIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Final

    from oci_gpu_hook.request.model import Request


_SOURCES: Final = {
    "annotations": "annotations",
    "mounts": "volume mounts below /var/run/nvidia-container-devices",
    "swarm": "environment (a variable of swarm-resource)",
    "environment": "environment",
    "legacy-image": "environment (CUDA_VERSION of an old CUDA image)",
}
_GIB: Final = 1 << 30
_MIB: Final = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("bundle", metavar="CONTAINER", help="the directory of its config.json, or a running container")
    option.describe(parser, (living.RUNTIME_ROOT,))
    parser.add_argument("--json", action="store_true", help="as JSON: null, or schemas/request.schema.json")


def run(options: argparse.Namespace) -> int:
    """Print the request. Raises HookError if it cannot be served as written."""
    config = configs.load(options.config)
    container = bundle.read(options.bundle, options.runtime_root)
    reading = parse.read(container, config)
    if options.json:
        import json

        print(json.dumps(to_json(reading.request) if reading.request else None))
        return 0
    for line in described(reading.request) if reading.request else ("The container asks for no GPU.",):
        print(one_line(line))
    for warning in (*reading.warnings, *near_misses.of(container)):
        print(one_line(f"warning: {warning}"))
    return 0


def described(request: Request) -> Iterator[str]:
    """Yield the lines that describe a request."""
    if request.kind != DEFAULT_KIND:
        yield f"{request.kind}:{' ' * max(20 - len(request.kind), 0)} {_devices(request)}"
        yield f"asked for by:         {_SOURCES[request.source]}"
        yield from _waits(request)
        yield from _beside(request)
        return
    yield f"GPUs:                 {_gpus(request)}"
    yield f"asked for by:         {_SOURCES[request.source]}"
    yield f"driver capabilities:  {', '.join(request.driver_capabilities) or 'none'}"
    for number, requirement in enumerate(request.requirements):
        yield f"{'requirements:' if not number else '':<21} {quoted(requirement)}"
    yield from _waits(request)
    if request.mig_config_devices:
        yield f"MIG configuration:    {quoted(request.mig_config_devices)}"
    if request.mig_monitor_devices:
        yield f"MIG monitoring:       {quoted(request.mig_monitor_devices)}"
    if request.imex_channels:
        yield f"IMEX channels:        {', '.join(map(str, request.imex_channels))}"
    if request.features:
        yield f"features:             {', '.join(request.features)}"
    yield from _beside(request)


def _waits(request: Request) -> Iterator[str]:
    if request.wait:
        what = "GPUs" if request.kind == DEFAULT_KIND else "devices"
        yield f"waits:                up to {request.wait} s for {what} to become free"


def _beside(request: Request) -> Iterator[str]:
    for other in request.beside:
        yield f"beside:               {_devices(other)} of {other.kind}"


def _devices(request: Request) -> str:
    words = ", ".join(request.devices)
    if request.count is not None:
        words = f"{request.count}, whichever {'is' if request.count == 1 else 'are'} free"
    return words + _part(request) + (", for this container alone" if request.exclusive else "")


def _part(request: Request) -> str:
    parts = [f"{_amount(request.memory_limit)} of memory"] if request.memory_limit else []
    parts += [f"{request.cores}% of the cores"] if request.cores else []
    return f", of each {' and '.join(parts)}" if parts else ""


def _gpus(request: Request) -> str:
    words = ", ".join(request.devices) or "none (driver files only)"
    if request.count is not None:
        kind = (
            f"MIG device{'s' * (request.count != 1)} {words}" if request.devices else f"GPU{'s' * (request.count != 1)}"
        )
        words = f"{request.count} {kind}, whichever {'is' if request.count == 1 else 'are'} free"
    if request.memory:
        words += f", each with at least {_amount(request.memory)}"
    return words + _part(request) + (", for this container alone" if request.exclusive else "")


def _amount(size: int) -> str:
    if size % _GIB and size % _MIB == 0:
        return f"{size // _MIB} MiB"
    return f"{size // _GIB} GiB" if size % _GIB == 0 else f"{size} bytes"

"""Give a running container GPUs: device access, nodes and the driver's libraries, as at a start, all or nothing.

CONTAINER is the name or the id of a container, the start of an id, or the number of a process in it. A program that is
started in the container afterwards (docker exec, podman exec) can use the GPUs. A container that is restarted gets what
it asks for itself, not what was attached.
"""

from __future__ import annotations

import sys

from oci_gpu_hook.admin.cli import living
from oci_gpu_hook.admin.cli.option import Option
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import InvalidInput, one_line, quoted
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.lifecycle import attach
from oci_gpu_hook.lifecycle.census import of_running
from oci_gpu_hook.request import values
from oci_gpu_hook.request.model import ATTACHED, Request
from oci_gpu_hook.request.nvidia import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Final

    from oci_gpu_hook.base.config.model import Config


OPTIONS: Final = (
    *living.OPTIONS,
    living.devices(),
    Option(
        flag="--count", metavar="N", read=int, default=None, is_either=True, help="as many GPUs, whichever are free"
    ),
    Option(flag="--memory", metavar="SIZE", help="with --count: least memory of each, as 40GiB"),
    Option(flag="--exclusive", is_switch=True, help="for this container alone"),
    Option(
        flag="--capabilities",
        metavar="NAME,…",
        read=living.names,
        default="compute,utility",
        help="driver capabilities (default: %(default)s)",
    ),
)


def run(options: Namespace) -> int:
    """Attach, and say what the container has got."""
    config = configs.of_this_user(configs.load(options.config))
    request = _request(options, config)
    meant = living.meant(options)
    done = attach.attach(meant, request, config)
    for text in done.warnings:
        print(one_line(f"oci-gpu: warning: {text}"), file=sys.stderr)
    called = of_running(meant).told
    print(one_line(f"{called}: attached {', '.join(done.uuids)}; a restart of the container does not keep them"))
    return 0


def _request(options: Namespace, config: Config) -> Request:
    """Return the request that the options make. Raises InvalidInput."""
    if options.count is not None and options.count < 1:
        raise InvalidInput(f"--count {options.count}", "is less than 1", "give the number of GPUs to attach", "OGH1902")
    if options.memory and options.count is None:
        raise InvalidInput("--memory", "says which GPUs a count means", "give --count as well", "OGH1902")
    for name in options.devices or ():
        kind = vendors.kind_of(name)
        if kind not in vendors.KINDS:
            why = f"is of {kind}, and a running container can be given GPUs of {vendors.KINDS[0]} only"
            raise InvalidInput(f"--devices {quoted(name)}", why, "start the container with it", "OGH1908")
    what = f"--capabilities={quoted(','.join(options.capabilities))}"
    wanted = capabilities.named(options.capabilities, what, config.supported_driver_capabilities)
    return Request(
        devices=options.devices or (),
        count=options.count,
        memory=values.size(options.memory, "--memory") if options.memory else 0,
        exclusive=options.exclusive,
        driver_capabilities=tuple(sorted({*wanted})),
        source=ATTACHED,
    )

"""Give out metrics for Prometheus: devices by state, leases, waits, starts, refusals and repairs, what GPUs are used
for, and by which container.

Without an option they are printed. --output writes a file for the textfile collector of node_exporter, as a whole or
not at all. --listen answers Prometheus itself; it needs the Python module prometheus_client.
"""  # noqa: D205  the help text of the command, wrapped by argparse

from __future__ import annotations

import argparse  # noqa: TID253  a command for people
import os
import sys
import time

from oci_gpu_hook.admin.metering import exposition, families
from oci_gpu_hook.admin.metering.look import Lookout
from oci_gpu_hook.base import counts
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import HookError, one_line
from oci_gpu_hook.base.files import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.admin.metering.families import Family
    from oci_gpu_hook.base.config.model import Config

_LOOPBACK: Final = "127.0.0.1"
_PORTS: Final = 65536


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--output", metavar="FILE", help="write them into a file, such as /var/lib/…/oci-gpu.prom")
    where.add_argument(
        "--listen",
        metavar="ADDRESS",
        type=_address,
        help="answer requests at HOST:PORT, or at PORT of this host alone, until interrupted",
    )
    parser.add_argument(
        "--runtime-root",
        metavar="DIR",
        action="append",
        default=[],
        help="where a further runtime keeps its state, for names of its containers",
    )


def run(options: argparse.Namespace) -> int:
    """Give out the metrics. Raises HookError, OSError if the file cannot be written."""
    config = configs.load(options.config)
    with Lookout(config, tuple(options.runtime_root)) as lookout:
        if options.listen:
            host, port = options.listen
            exposition.serve(host, port, lambda: _measured(lookout, config))
        data = exposition.text(_measured(lookout, config))
    if options.output:
        replace_file(os.path.abspath(options.output), data, mode=0o644)
    else:
        sys.stdout.buffer.write(data)
    return 0


def _measured(lookout: Lookout, config: Config) -> tuple[Family, ...]:
    """Return the metrics of the moment; what could not be read is said on stderr, and by a metric."""
    look = None
    try:
        look = lookout.look()
    except HookError as error:
        warnings = [str(error)]
    else:
        warnings = [*look.warnings]
    for warning in warnings:
        print(one_line(f"oci-gpu: warning: {warning}"), file=sys.stderr)
    uptime = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    return families.of(look, counts.read(configs.of_this_user(config).state_dir), uptime)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < _PORTS or (":" in text and not host):
        raise argparse.ArgumentTypeError("give HOST:PORT or PORT")
    return host.removeprefix("[").removesuffix("]") or _LOOPBACK, int(port)

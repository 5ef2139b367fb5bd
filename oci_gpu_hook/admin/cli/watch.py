"""Watch over running containers: what they lose of their GPUs is put back, within a second of a reload of systemd.

Runs until it is told to end (SIGTERM), as the service oci-gpu-watch, and writes what it does as JSON lines. GPUs whose
errors only a reset ends are marked sick, so that counts pass them over, until `oci-gpu gpus heal`. When the
driver, the MIG layout or the set of GPUs changes it also refreshes the inventory, and the CDI files that this host has.
"""

from __future__ import annotations

import argparse  # noqa: TID253  a command for people

from oci_gpu_hook.admin.metering import look
from oci_gpu_hook.base import duration, log
from oci_gpu_hook.base.config import load as configs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "--interval",
        metavar="TIME",
        type=_interval,
        help="from look to look while nothing happens, such as 30s or 5m (default: [watch] interval of config.toml)",
    )
    parser.add_argument("--once", action="store_true", help="look at everything once, put back what is lost, and end")


def run(options: argparse.Namespace) -> int:
    """Watch until told to end. Exit status 0."""
    from oci_gpu_hook.admin.cli.cdi import DIRECTORY
    from oci_gpu_hook.admin.watch.inventory import Keeper
    from oci_gpu_hook.admin.watch.kernel_log import KernelLog
    from oci_gpu_hook.admin.watch.loop import Watch
    from oci_gpu_hook.admin.watch.told import Teller
    from oci_gpu_hook.lifecycle.healing import Healer
    from oci_gpu_hook.lifecycle.overdrawn import Overdrawn
    from oci_gpu_hook.lifecycle.overrun import Overruns
    from oci_gpu_hook.lifecycle.unlisted import Leftovers

    config = configs.of_this_user(configs.load(options.config))
    look.check_readable(config, to_change=True)
    log.configure(config)
    interval = options.interval or config.watch_interval
    tell = Teller(config.log_level)
    keeper = Keeper(config, options.config, DIRECTORY, tell)
    watch = Watch(Healer(config, tell, interval), keeper, tell, interval)
    kernel_log = KernelLog(config, tell, on_sick=keeper.refresh_cdi)
    if kernel_log.fd >= 0:
        watch.wait_for(kernel_log.fd, kernel_log.read)
    watch.more += [kernel_log.read, Leftovers(config, tell).look]
    watch.more += [Overruns(config, tell).look, Overdrawn(config, tell).look]
    if options.once:
        watch.once()
        return 0
    tell("info", "watching", interval=interval)
    watch.run()
    tell("info", "ended")
    return 0


def _interval(text: str) -> int:
    found = duration.seconds(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 30s, 5m or 1h")
    return found

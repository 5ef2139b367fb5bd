"""Show which container holds which GPU, and which GPUs are free; release a lease manually.

A lease ends with its container, so `release` is only for containers that this host cannot see. It refuses to release a
living container's lease, unless forced, because the container would still use the GPU.
"""

from __future__ import annotations

import sys
import time

from oci_gpu_hook.admin.cli import leases_json, leases_picture
from oci_gpu_hook.admin.cli.console import console
from oci_gpu_hook.admin.metering import look
from oci_gpu_hook.allocation import query, release
from oci_gpu_hook.base import streams
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.document import dump
from oci_gpu_hook.base.errors import AllocationError, InvalidInput, one_line, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.lifecycle.census import Census

_REDRAW: Final = 1.0  # seconds between two updates of --watch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--json", action="store_true", help="print JSON (schemas/leases.schema.json)")
    parser.add_argument(
        "--all",
        action="store_true",
        help="with --json: also free devices and who waits (leases-all.schema.json)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print the ids of the containers that hold GPUs")
    parser.add_argument("--no-headers", action="store_true", help="print the table without its first line")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="redraw the table every second until interrupted; with --json or into a file, print each change",
    )
    actions = parser.add_subparsers(metavar="ACTION")
    release = actions.add_parser(
        "release",
        help="release the lease of a container",
        description=_release.__doc__,
        formatter_class=parser.formatter_class,
    )
    release.add_argument(
        "container", metavar="NAME|ID|PID", help="the container's name, its id or the beginning of that, or its process"
    )
    release.add_argument("--force", action="store_true", help="even if the container is alive and uses its GPUs")
    parser.set_defaults(container=None)


def run(options: argparse.Namespace) -> int:
    """Show the leases, or release one. Raises HookError if the record cannot be used."""
    config = configs.of_this_user(configs.load(options.config))
    look.check_readable(config, to_change=options.container is not None)
    if options.container is not None:
        return _release(options.container, config, force=options.force)
    if options.watch:
        _watch(config, options)
    elif options.json:
        import json

        found = leases_json.of_everything(config) if options.all else leases_json.of_leases(config)
        print(json.dumps(found, indent=2))
    elif options.quiet:
        for lease in query.current(config).leases:
            print(one_line(lease.container))
    else:
        _print(config, options)
    return 0


def _watch(config: Config, options: argparse.Namespace) -> None:
    """Redraw the table until interrupted; into a file or pipe, write what has changed."""
    try:
        if options.json or not sys.stdout.isatty():
            _follow(config, options)
        else:
            _redraw(config, options)
    except KeyboardInterrupt:  # this is how people end it
        return


def _redraw(config: Config, options: argparse.Namespace) -> None:
    from rich.live import Live

    out = console()
    headers = not options.no_headers
    with Live(
        leases_picture.of(config, out.width, headers=headers), console=out, screen=True, auto_refresh=False
    ) as live:
        while True:
            time.sleep(_REDRAW)
            live.update(leases_picture.of(config, out.width, headers=headers), refresh=True)


def _follow(config: Config, options: argparse.Namespace) -> None:
    """Write a line of JSON, or the table, now and whenever another container holds or awaits something."""
    before: object = None
    while True:
        found = leases_json.of_everything(config)
        state = [found["leases"], found["devices"], found["waiting"]]
        if state != before:
            before = state
            if options.json:
                print(dump(found).decode(), flush=True)
            else:
                print(f"{found['time']}")
                _print(config, options)
                sys.stdout.flush()
        time.sleep(_REDRAW)
        if streams.output_is_gone():
            return


def _print(config: Config, options: argparse.Namespace) -> None:
    out = console()
    out.print(leases_picture.of(config, out.width, headers=not options.no_headers))


def _release(text: str, config: Config, *, force: bool) -> int:
    """Drop the lease of a container, so that its GPUs can be granted to others."""
    table = query.current(config)
    leases = table.leases
    meant = _meant(text, leases, leases_picture.census(table, config))
    if len({lease.container for lease in meant}) > 1:
        why = f"could be any of {', '.join(dict.fromkeys(quoted(lease.container) for lease in meant))}"
        raise InvalidInput(f"container {quoted(text)}", why, "give more of the id", "OGH1901")
    if len(meant) > 1:
        why = f"is the id of several: pid {', '.join(str(lease.holder.pid) for lease in meant)}"
        raise InvalidInput(f"container {quoted(text)}", why, "give the pid of the one you mean", "OGH1901")
    if not meant:
        if release.release_by_hand(text, config, force=force):  # its process had ended, so it was no longer shown
            return 0
        known = ", ".join(dict.fromkeys(quoted(lease.name) for lease in leases))
        remedy = f"these have one: {known}" if known else "no container has a lease, so there is nothing to release"
        raise InvalidInput(f"container {quoted(text)}", "has no lease", remedy, "OGH1901")
    (lease,) = meant
    if not release.release_by_hand(lease.container, config, pid=lease.holder.pid, force=force):
        why = "is still running and would keep its GPUs"
        raise AllocationError(f"container {quoted(lease.container)}", why, "stop it, or use --force", "OGH1310")
    print(f"released the GPUs of container {quoted(lease.container)}")
    return 0


def _meant(text: str, leases: Sequence[Lease], census: Census) -> list[Lease]:
    """Return the leases that a text means.

    It may be an id, a name, a process, a pod, the beginning of an id, or the last part of a Mesos name.
    """
    for is_meant in (
        lambda lease: lease.container == text,
        lambda lease: bool(text) and census.of_lease(lease).name == text,
        lambda lease: str(lease.holder.pid) == text,
        lambda lease: bool(text) and lease.pod == text,
        lambda lease: bool(text) and lease.container.startswith(text),
        lambda lease: bool(text) and lease.container.endswith(f".{text}"),
    ):
        if found := [lease for lease in leases if is_meant(lease)]:
            return found
    return []

"""Show what was logged of starts: granted, attached, refused, released.

This reads the file of `[log] file`, those that it was rotated to, and what the host's log (journald) has of refusals
and grave warnings; what is in both is shown once. Without `[log] file` only the latter were logged.
"""

from __future__ import annotations

import sys
import time

from oci_gpu_hook.base import streams
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import InvalidInput, one_line, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Iterator
    from typing import Final

    from oci_gpu_hook.admin.logs.line import Line
    from oci_gpu_hook.admin.logs.names import Names
    from oci_gpu_hook.admin.logs.reading import Logs

_BEFORE_FOLLOWING: Final = 10  # lines


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is logged, until interrupted")
    parser.add_argument(
        "-n", "--lines", metavar="N", type=int, help="the last N lines only (default: all; with --follow: 10)"
    )
    parser.add_argument(
        "--container",
        metavar="NAME|ID",
        default="",
        help="only this container's: its name, or the beginning of its id",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one object per line (schemas/log.schema.json)")


def run(options: Namespace) -> int:
    """Show the lines. Raises HookError if there is no log, or none of the container."""
    from oci_gpu_hook.admin.logs.names import Names
    from oci_gpu_hook.admin.logs.reading import Logs

    if options.lines is not None and options.lines < 0:
        raise InvalidInput(
            "--lines", f"expected 0 or more, found {options.lines}", "leave it out for all lines", "OGH1915"
        )
    config = configs.of_this_user(configs.load(options.config))
    logs, names = Logs(config.log_file), Names(config)
    try:
        if not _show(logs, names, options) and not options.follow and not options.json and options.lines != 0:
            rest = "" if config.log_file else "; without [log] file in config.toml only refusals are"
            print(f"Nothing was logged{rest}.")
    except KeyboardInterrupt:  # this is how people end it
        if not options.follow:
            raise
    finally:
        logs.close()
    return 0


def _show(logs: Logs, names: Names, options: Namespace) -> int:
    """Show the lines; return how many there were before any that are followed. Raises HookError as `run` does."""
    shown = 0
    for line in _last(_meant(logs.past(), names, options.container), options):
        _print(line, names, as_json=options.json)
        shown += 1
    if options.follow:
        sys.stdout.flush()
        names.go_on()
        for line in _meant(logs.coming(streams.output_is_gone), names, options.container):
            _print(line, names, as_json=options.json)
            sys.stdout.flush()
    elif not shown and options.container:
        remedy = "`oci-gpu log` shows all; without [log] file in config.toml only refusals are logged"
        raise InvalidInput(f"container {quoted(options.container)}", "is in no line of the log", remedy, "OGH1919")
    return shown


def _meant(found: Iterable[Line], names: Names, container: str) -> Iterator[Line]:
    return (line for line in found if not container or names.means(container, line))


def _last(found: Iterator[Line], options: Namespace) -> Iterable[Line]:
    number = options.lines if options.lines is not None else _BEFORE_FOLLOWING if options.follow else None
    if number is None:
        return found
    from collections import deque

    return deque(found, number)


def _print(line: Line, names: Names, *, as_json: bool) -> None:
    engine, name = names.of(line)
    if as_json:
        import json

        named = {key: text for key, text in (("engine", engine), ("name", name)) if text}
        print(json.dumps({**line.fields, "log": line.log, **named}))
        return
    from oci_gpu_hook.oci import naming

    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.time))
    called = name or naming.short(line.container)
    about = f"{called} ({engine}): " if engine and called else f"{called}: " if called else ""
    print(one_line(f"{when}  {line.level:7}  {about}{line.words}"))

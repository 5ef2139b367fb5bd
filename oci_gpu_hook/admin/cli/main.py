"""`oci-gpu [--config FILE] COMMAND`: imports only the command's module, and runs it."""

from __future__ import annotations

import os
import sys

from oci_gpu_hook.base.errors import HookError, one_line, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import Final

# Each is a module of this package with SUMMARY, add_arguments(parser) and run(options) -> exit status.
COMMANDS: Final = (
    "info",
    "doctor",
    "request",
    "plan",
    "leases",
    "gpus",
    "top",
    "metrics",
    "verify",
    "repair",
    "attach",
    "detach",
    "watch",
    "cdi",
    "install",
    "uninstall",
    "hook-path",
    "simulate",
    "completion",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit status: 0 done, 1 failed with a reason on stderr, 2 wrong usage; doctor has others."""
    from oci_gpu_hook.admin.cli import arguments as command_line

    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = command_line.command_of(given)
    options = command_line.parser((chosen,) if chosen in COMMANDS else COMMANDS).parse_args(given)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except HookError as error:
        return _fail(str(error), options)
    except BrokenPipeError:  # the reader of our output, such as head(1), has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        where = f"{quoted(os.fsdecode(error.filename))}: " if isinstance(error.filename, str | bytes) else ""
        remedy = "" if os.geteuid() == 0 else "; run it as root"
        return _fail(f"{where}{reason(error)}{remedy}", options)
    except Exception as error:  # noqa: BLE001  a bug: people get a line of it, and all of it by --debug
        remedy = "please report it with what `oci-gpu --debug` and the same command prints"
        return _fail(f"internal error: {type(error).__name__}: {error}; {remedy}", options)
    return status


def _fail(message: str, options: Namespace) -> int:
    if options.debug:
        import traceback

        traceback.print_exc()
    print(f"oci-gpu: error: {one_line(message)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

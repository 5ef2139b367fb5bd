"""`oci-gpu [--config FILE] COMMAND`: imports only the command's module, and runs it."""

from __future__ import annotations

import errno
import gc
import os
import sys

from oci_gpu_hook import __version__
from oci_gpu_hook.admin.cli.commands import COMMANDS
from oci_gpu_hook.base import streams
from oci_gpu_hook.base.errors import BUG, HookError, coded, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import Final

_VERSION: Final = ("--version", "-V")
_HELP: Final = ("--help", "-h")
_WRONG_USAGE: Final = ("OGH1902", "OGH1915")
_NOT_READ: Final = "OGH1903"
_NOT_WRITTEN: Final = "OGH1911"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit status: 0 done, 1 failed with a reason on stderr, 2 wrong usage; doctor has others."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    _open_closed_streams()
    try:
        if not given or given[0] in (*_VERSION, *_HELP):
            print(_of_itself(given), end="")
            return _flushed(0)
        status = _run(given)
        sys.stdout.flush()
    except SystemExit as end:  # from argparse, once it has shown help or complained
        status = end.code if type(end.code) is int else 0
        return _flushed(status)
    except BrokenPipeError:  # the reader of our output, such as head(1), has seen enough
        _discard_output()
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return _not_written(error)
    return status


def _of_itself(given: Sequence[str]) -> str:
    """Return the version or the overview of the commands; nothing that a command needs is imported."""
    if given and given[0] in _VERSION:
        return f"oci-gpu {__version__}\n"
    from oci_gpu_hook.admin.cli import overview

    return overview.text()


def _run(given: Sequence[str]) -> int:
    """Run the command that the words say, and report its errors. Raises OSError if stdout cannot be written to."""
    gc.disable()  # what is imported stays: to look for garbage among it takes as long as a small command
    from oci_gpu_hook.admin.cli import usual

    options = usual.read(given)
    if options is None:
        from oci_gpu_hook.admin.cli import arguments as command_line

        chosen = command_line.command_of(given)
        if chosen and chosen not in COMMANDS:
            return command_line.unknown(chosen, tuple(COMMANDS), given[: given.index(chosen)])
        parser = command_line.parser((chosen,) if chosen else ())
        options = parser.parse_args(given)
        if not chosen:
            parser.print_help()
            return 0
    gc.freeze()
    gc.enable()
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except HookError as error:
        return _fail(error, options)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None:
            raise
        refused = os.geteuid() != 0 and error.errno in (errno.EACCES, errno.EPERM)
        remedy = "run it as root" if refused else "check that it is there and can be used"
        return _fail(HookError(quoted(os.fsdecode(error.filename)), reason(error), remedy, _NOT_READ), options)
    except Exception as error:  # noqa: BLE001  a bug: people get a line of it, and all of it by --debug
        remedy = "please report it with what `oci-gpu --debug` and the same command prints"
        return _fail(HookError("internal error", f"{type(error).__name__}: {error}", remedy, BUG), options)
    return status


def _open_closed_streams() -> None:
    """Let output to closed descriptors go nowhere; otherwise Python has no stream to write to."""
    streams.fill()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  as long as the process


def _flushed(status: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        return _not_written(error)
    return status


def _discard_output() -> None:
    """Have what is still in the buffer of stdout go nowhere when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())


def _not_written(error: OSError) -> int:
    remedy = "" if os.geteuid() == 0 else "; if it is not about the output, run it as root"
    print(f"oci-gpu: error: {coded(f'{reason(error)}{remedy}', _NOT_WRITTEN)}", file=sys.stderr)
    _discard_output()
    return 1


def _fail(error: HookError, options: Namespace) -> int:
    """Tell people on stderr what is wrong and, where JSON was asked for, programs on stdout; return the exit status."""
    if options.debug:
        import traceback

        traceback.print_exc()
    print(f"oci-gpu: error: {coded(str(error), error.code)}", file=sys.stderr)
    if getattr(options, "json", False):
        from oci_gpu_hook.base.document import dump

        parts = {"code": error.code, "what": error.what, "why": error.why, "remedy": error.remedy}
        print(dump({"error": parts}).decode())
    return 2 if error.code in _WRONG_USAGE else 1


if __name__ == "__main__":
    sys.exit(main())

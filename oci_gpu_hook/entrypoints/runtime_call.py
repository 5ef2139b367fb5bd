"""Parses the command lines of `create` and `run` of runc and crun, and reports errors where engines look for them."""

from __future__ import annotations

import os
import time

from oci_gpu_hook.base import log, streams
from oci_gpu_hook.base.document import dump
from oci_gpu_hook.base.errors import coded
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

# Options with a value, before the command, of runc 1.0 to 1.4 and crun 1.0 to 1.23; front/runtime.c has them too.
_VALUES: Final = (
    *("--log", "--log-format", "--log-level", "--root", "--criu", "--rootless", "--cgroup-manager"),
    *("--bundle", "-b", "--console-socket", "--pid-file", "--pidfd-socket", "--preserve-fds"),
)
_SWITCHES: Final = ("--debug", "--systemd-cgroup")
_CREATES: Final = ("create", "run")
FOR_FRONT: Final = "--prepare-for-front="  # front/runtime.c puts it before the words of a call


class Call(Record):
    """A `create` or `run`. log, log_format: the runtime's options of these names, "" if absent."""

    bundle: str
    container: str
    log: str
    log_format: str


def read_call(words: Sequence[str]) -> Call | None:
    """Return the call that a command line makes, None if it does not create a container.

    An unknown option may or may not take the next word; the container's id is the last word in either case.
    """
    options: dict[str, str] = {}
    creates = unclear = False
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if word in _VALUES:
            options[word] = next(rest, "")
        elif equals and name in _VALUES:
            options[name] = value
        elif word.startswith("-b"):
            options["-b"] = word[2:]  # crun accepts -bDIR
        elif word in _CREATES:
            creates = True
        elif word.startswith("-"):
            unclear = unclear or word not in _SWITCHES
        elif not creates and not unclear:
            return None
    if not creates:
        return None
    return Call(
        bundle=os.path.abspath(options.get("--bundle") or options.get("-b") or "."),
        container=words[-1],
        log=options.get("--log", ""),
        log_format=options.get("--log-format", ""),
    )


def command_at(words: Sequence[str]) -> int:
    """Return the index of the command: the first word that is neither an option nor the value of a known option."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in _VALUES else 1
    return at


def complain(call: Call | None, message: str, code: str) -> None:
    """Report an error where engines look for it: in the runtime's log (in runc's two formats), and on stderr."""
    line = f"oci-gpu-runtime: error: {coded(message, code)}"
    if call and call.log:
        _log(call, line)
    streams.say(line)
    log.refused("oci-gpu-runtime", message, code)


def _log(call: Call, message: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = f'time="{stamp}" level=error msg={dump(message).decode()}'
    if call.log_format == "json":
        line = dump({"level": "error", "msg": message, "time": stamp}).decode()
    try:
        fd = os.open(call.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        os.write(fd, f"{line}\n".encode())
    except OSError:
        pass  # stderr has the message

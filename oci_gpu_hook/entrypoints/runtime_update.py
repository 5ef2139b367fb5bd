"""Handles `update` of a container with GPUs: adds what it was granted to the list of devices that an engine passes.

With any changed limit Podman 5 and 6 pass their own list of devices, `[{"allow": false, "access": "rwm"}]`, from
which crun makes a new device program for the container. Anything unexpected is passed to the real runtime unchanged: a
container's limits are the engine's business. The front (front/runtime.c) passes only those updates on to Python whose
resources may name devices.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits, log
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.document import dump, member, parse
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.base.files import read_file
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.entrypoints.runtime_call import command_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

_COMMAND: Final = "update"
_OPTIONS: Final = ("--resources", "-r", "-resources")
_STDIN: Final = "-"
_WHAT: Final = "resources"


class Update(Record):
    """The command line of an update. before: the global options. at: the index of the name of the resources' file."""

    before: tuple[str, ...]
    words: tuple[str, ...]
    at: int
    source: str
    container: str


def with_grant(words: Sequence[str], real_runtime: str) -> Sequence[str]:
    """Return a call's command line; for an update, one whose resources include the container's granted devices.

    It then reads the resources from stdin.
    """
    update = read_update(words)
    if update is None:
        return words
    try:
        data = _read_stdin() if update.source == _STDIN else _read_again(update.source)
        merged = _merged(data, update, real_runtime) if data else None
    except (HookError, OSError, ValueError) as error:
        log.warning("device access not kept", container=update.container, reason=str(error))
        return words
    if merged is None:
        return words
    _put_on_stdin(merged)
    start = update.words[update.at][: -len(update.source)]  # --resources=FILE and -rFILE are one word
    return (*update.words[: update.at], start + _STDIN, *update.words[update.at + 1 :])


def read_update(words: Sequence[str]) -> Update | None:
    """Return the update with a file of resources that a command line makes, None for any other call."""
    command = command_at(words)
    if words[command : command + 1] != [_COMMAND]:
        return None
    at, source = 0, ""
    names = []
    rest = enumerate(words[command + 1 :], command + 1)
    for index, word in rest:
        name, equals, value = word.partition("=")
        if word in _OPTIONS:
            at, source = next(rest, (0, ""))
        elif equals and name in _OPTIONS[::2]:
            at, source = index, value
        elif word.startswith("-r") and word[:3] != "-re":
            at, source = index, word[2:]  # crun accepts -rFILE
        elif not word.startswith("-"):
            names.append(word)
    if not source or not names:
        return None
    return Update(before=tuple(words[:command]), words=tuple(words), at=at, source=source, container=names[-1])


def _merged(data: bytes, update: Update, real_runtime: str) -> bytes | None:
    """Return the resources with the granted devices added, None if there is nothing to add."""
    resources = parse(data, _WHAT)
    devices = member(resources, "devices", list, _WHAT)
    if devices is None:
        return None
    rules = [rule for rule in _granted(update, real_runtime) if rule not in devices]
    if not rules:
        return None
    devices += rules
    return dump(resources)


def _granted(update: Update, real_runtime: str) -> list[dict[str, Any]]:
    """Return rules for the devices that the container was granted."""
    from oci_gpu_hook.apply.journal import reader
    from oci_gpu_hook.devices.edits import type_of

    config, _ = configs.load_or_defaults(configs.DEFAULT_PATH)
    config = configs.of_this_user(config)
    log.configure(config, container=update.container)
    state = _state(update, real_runtime)
    container, bundle, pid = (member(state, name, kind, "state") for name, kind in _IN_STATE.items())
    if not (container and bundle and pid):
        return []
    entries = reader.of_container(config, container, bundle)
    nodes = [numbers for entry in entries if entry.pid == pid and entry.is_alive() for numbers in entry.nodes]
    return [
        {"allow": True, "type": type_of(node), "major": node[0], "minor": node[1], "access": "rw"} for node in nodes
    ]


_IN_STATE: Final[dict[str, type]] = {"id": str, "bundle": str, "pid": int}


def _state(update: Update, real_runtime: str) -> Any:
    """Return the container's state from the real runtime; its pid identifies the container whose rules change."""
    import subprocess

    command = [real_runtime, *update.before, "state", update.container]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limits.RUNTIME_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(str(error)) from None
    if done.returncode or len(done.stdout) > limits.STATE:
        return {}
    return parse(done.stdout, "state")


def _read_stdin() -> bytes:
    """Return the text on stdin, "" if it is too long, and put it back for the real runtime."""
    fd = os.memfd_create("oci-resources")
    data = b""
    while piece := os.read(0, 1 << 16):
        os.write(fd, piece)
        if len(data) <= limits.UPDATE:
            data += piece
    _move_to_stdin(fd)
    return data if len(data) <= limits.UPDATE else b""


def _read_again(path: str) -> bytes:
    """Return a file's contents, "" if the real runtime could not read them a second time, as from a pipe."""
    import stat

    return read_file(path, limits.UPDATE) if stat.S_ISREG(os.stat(path).st_mode) else b""


def _put_on_stdin(data: bytes) -> None:
    fd = os.memfd_create("oci-resources")
    while data:
        data = data[os.write(fd, data) :]
    _move_to_stdin(fd)


def _move_to_stdin(fd: int) -> None:
    os.lseek(fd, 0, os.SEEK_SET)
    os.dup2(fd, 0)
    os.close(fd)

"""The hook that engines start: `oci-gpu-hook [--config FILE] STAGE`, with the OCI state on stdin.

`prestart` and `createRuntime` give the container the GPUs that it asks for; `poststop` undoes what outlives it; the
other stages of the OCI runtime specification (config.md, "POSIX-platform Hooks") do nothing. Exit status: 0 done or
nothing to do, 1 refused or failed with one line on stderr, 2 wrong usage. For a container that asks for no GPU only
this module, `oci.container` and `request.prefilter` are imported; all else is imported when it is needed.
"""

from __future__ import annotations

import gc
import os
import sys
import time

from oci_gpu_hook.base import limits, streams
from oci_gpu_hook.base.config.load import DEFAULT_PATH, load_or_defaults
from oci_gpu_hook.base.errors import BUG, HookError, coded, described_bug, shortage
from oci_gpu_hook.base.files import read_all
from oci_gpu_hook.oci import container as containers
from oci_gpu_hook.request.prefilter import is_cut_off, may_ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Final, NoReturn

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.lifecycle.granted import Granted
    from oci_gpu_hook.oci.container import Container, State
    from oci_gpu_hook.request.model import Request

# Before all other arguments: report that a process has ended that was to do the work (RESIDENT_ENDED, STANDBY_ENDED and
# PREPARING_ENDED of front/front.h).
ENDED: Final = "--ended="
_USAGE: Final = """usage: oci-gpu-hook [--config FILE] STAGE
       oci-gpu-hook [--config FILE] --cdi [OPTION…] createContainer

STAGE is prestart or createRuntime (attach GPUs), poststop (give them back), or another stage of the OCI runtime
specification, for which there is nothing to do. The OCI state is read from stdin."""
_ATTACH: Final = ("prestart", "createRuntime")
_RELEASE: Final = ("poststop",)
_ADJUST: Final = ("createContainer",)
_NOTHING: Final = ("createContainer", "startContainer", "poststart")


def main(arguments: Sequence[str]) -> NoReturn:
    """Run the hook, and end the process."""
    gc.disable()  # the process ends before a collection would pay off
    streams.fill()
    words = arguments[1:]
    if words and words[0].startswith(ENDED):
        from oci_gpu_hook.entrypoints import broken_off

        broken_off.report_for_hook(words[0].removeprefix(ENDED), _read_arguments(words[1:])[0])
    status = run(words)
    os._exit(status)  # a regular exit costs more than a quarter of the interpreter's start


def console() -> NoReturn:
    """Run the hook from pip's console script. Engines start the executable that `oci-gpu hook-path` prints."""
    main(sys.argv)


def run(arguments: Sequence[str], granted: Granted | None = None) -> int:
    """Carry out the command line; return the exit status. granted: what this process has granted to the container."""
    config_path, stage, words = _read_arguments(arguments)
    if words is None and stage in _NOTHING:
        return 0
    if stage not in (_ATTACH + _RELEASE if words is None else _ADJUST):
        streams.say(_USAGE)
        return 2
    try:
        if words is not None:
            adjust(config_path, words)
        elif stage in _RELEASE:
            release(config_path)
        else:
            attach(config_path, granted)
    except HookError as error:
        return _fail(str(error), error.code)
    except Exception as error:  # noqa: BLE001  a bug: engines show one line, so it names the place
        return _fail(_what_went_wrong(error), BUG)
    return 0


def attach(config_path: str, granted: Granted | None = None) -> None:
    """Give the container the GPUs that it asks for, if any; `granted`, if that is for it. Raises HookError."""
    started = time.perf_counter()
    state_json = read_all(0, limits.STATE, "OCI state")
    state = containers.read_state(state_json)
    if granted and granted.is_for(state):
        granted.attach(state, started)
        return
    config, trouble = load_or_defaults(config_path)
    if state.status == "stopped":
        # An oci-hooks file has one argument list for all of its stages, so the state must tell poststop from prestart.
        # What the container asked for does not tell what it was given while it ran.
        _release(state, config)
        return
    config_json = containers.read_config(state.bundle)
    if not (may_ask(config_json, state_json, config.swarm_resource) or is_cut_off(config_json)):
        return
    try:
        container, request = _request(config_json, state, config)
        if request and trouble:
            raise trouble
    except HookError:
        _configure_log(state, config)
        raise
    if request is None:
        if not trouble:
            _hold(container, config)
        return

    from oci_gpu_hook.lifecycle import start

    start.start(container, request, config, started)


def release(config_path: str) -> None:
    """Undo what outlives the container whose state is on stdin. Raises HookError."""
    state = containers.read_state(read_all(0, limits.STATE, "OCI state"))
    config, _ = load_or_defaults(config_path)
    _release(state, config)


def adjust(config_path: str, words: Sequence[str]) -> None:
    """Add what an engine cannot add to a container by a CDI specification of this project. Raises HookError.

    words: the options of the hook in that specification (devices.nvidia.cdi_hook).
    """
    state = containers.read_state(read_all(0, limits.STATE, "OCI state"))
    config, _ = load_or_defaults(config_path)

    from oci_gpu_hook.lifecycle import cdi_container

    cdi_container.adjust(containers.read_config(state.bundle), state, words, config)


def _release(state: State, config: Config) -> None:
    from oci_gpu_hook.lifecycle import teardown

    teardown.stop(state.id, state.bundle, config)


def _request(config_json: bytes, state: State, config: Config) -> tuple[Container, Request | None]:
    from oci_gpu_hook.request import parse

    container = containers.parse_config(config_json, state)
    reading = parse.read(container, config)
    if reading.request is not None:
        return container, reading.request
    if reading.warnings and config.log_file:
        log = _configure_log(state, config)
        for text in reading.warnings:
            log.warning("not given", text=text)
    return container, None


def _hold(container: Container, config: Config) -> None:
    """Record the devices that others have put into the container, if any. Raises AllocationError."""
    if not (container.nodes or container.bound_nodes):
        return
    from oci_gpu_hook.base import log
    from oci_gpu_hook.base.config.load import of_this_user
    from oci_gpu_hook.lifecycle import injected

    if injected.is_possible(container):
        config = of_this_user(config)
        log.configure(config, container=container.id)
        injected.hold(container, config)


def _configure_log(state: State, config: Config) -> ModuleType:
    from oci_gpu_hook.base import log

    log.configure(config, container=state.id)
    return log


def _read_arguments(arguments: Sequence[str]) -> tuple[str, str, list[str] | None]:
    """Return the configuration file, the stage, and the words between --cdi and the stage.

    The stage is "" if the usage is wrong; the words are None without --cdi.
    """
    rest = list(arguments)
    path = DEFAULT_PATH
    if rest and rest[0] == "--config" and len(rest) > 1:
        path = rest[1]
        del rest[:2]
    elif rest and rest[0].startswith("--config="):
        path = rest.pop(0).removeprefix("--config=")
    if len(rest) > 1 and rest[0] == "--standby":  # a process was to do this; the front has not found it
        del rest[:2]
    if len(rest) > 1 and rest[0] == "--cdi":
        return path, rest[-1], rest[1:-1]
    return path, rest[0] if len(rest) == 1 else "", None


def _fail(message: str, code: str) -> int:
    streams.say(f"oci-gpu-hook: error: {coded(message, code)}")
    from oci_gpu_hook.base import log

    log.refused("oci-gpu-hook", message, code)
    return 1


def _what_went_wrong(error: Exception) -> str:
    if not (isinstance(error, OSError) and shortage(error)):
        from oci_gpu_hook.base import log

        log.error("internal error", exc_info=True)
    return describe_bug(error)


def describe_bug(error: Exception) -> str:
    """Return one line that says what went wrong, where, and what to do about it."""
    if isinstance(error, OSError) and (short := shortage(error)):  # possible anywhere, even in an import
        return str(short)
    return f"{described_bug(error)}; please report this with the bundle's config.json"

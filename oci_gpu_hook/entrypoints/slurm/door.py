"""The door of Slurm: `oci-gpu-slurm COMMAND USER CONTAINER [BUNDLE]`, which oci.conf has slurmstepd call.

| command | called by slurmstepd | does |
|---|---|---|
| `run` | as the job's user, in the step's cgroup | gives the container the GPUs of the step, and runs it |
| `state`, `kill`, `delete` | as root, when the step is over | what the runtime does, as the job's user |

The runtime's state is in the user's state directory. Exit status: the real runtime's, or 1 with one line on stderr,
which is the step's.
"""

from __future__ import annotations

import gc
import os

from oci_gpu_hook.base import limits, log, state, streams
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import BUG, ApplyError, HookError, coded, quoted, reason
from oci_gpu_hook.base.files import read_file, replace_file
from oci_gpu_hook.entrypoints import runtime
from oci_gpu_hook.entrypoints.hook import describe_bug
from oci_gpu_hook.entrypoints.runtime_call import Call
from oci_gpu_hook.entrypoints.slurm import bundle as bundles
from oci_gpu_hook.entrypoints.slurm import choice, namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, NoReturn

    from oci_gpu_hook.base.config.model import Config

NAME: Final = "oci-gpu-slurm"
DIRECTORY: Final = "slurm"
_STATES: Final = ("state.json", "status")  # what runc and crun keep of a container once it is made
_USAGE: Final = f"usage: {NAME} run USER CONTAINER BUNDLE\n       {NAME} state|kill|delete USER CONTAINER"
_AFTERWARDS: Final = {"state": ("state",), "kill": ("kill",), "delete": ("delete", "--force")}


def main(arguments: Sequence[str], real_runtime: str) -> NoReturn:
    """Run as a process that is here for nothing else. arguments: with the path of the executable first."""
    gc.disable()
    streams.fill()
    words = list(arguments[1:])
    try:
        if len(words) == 4 and words[0] == "run":
            run(words[1], words[2], words[3], real_runtime, _hook(arguments[0]))
        elif len(words) == 3 and words[0] in _AFTERWARDS:
            _afterwards(words[0], words[1], words[2], real_runtime)
    except HookError as error:
        _complain(str(error), error.code)
    except Exception as error:  # noqa: BLE001  a bug: Slurm shows one line, so it names the place
        _complain(describe_bug(error), BUG)
    else:
        streams.say(_USAGE)
        os._exit(2)
    os._exit(1)


def run(user: str, container: str, bundle: str, real_runtime: str, hook: str) -> NoReturn:
    """Start the container of a bundle with the GPUs of its step. Raises HookError."""
    _become(user)
    config, trouble = configs.load_or_defaults(configs.DEFAULT_PATH)
    path = os.path.join(bundle, "config.json")
    try:
        document = parse(read_file(path, limits.CONFIG_JSON), path)
    except OSError as error:
        raise ApplyError(f"cannot read {quoted(path)}", reason(error), "see slurmd's log", "OGH1712") from None
    namespace.enter(namespace.taken_from(document))
    config = configs.of_this_user(config)
    log.configure(config, container=container)
    if trouble:
        log.warning("warning", text=str(trouble))
    said = bundles.variables(document)
    devices = () if bundles.declines(said) else choice.given(said, config)
    choice.check_others(said, devices, config)
    bundles.choose(document, devices)
    try:
        replace_file(path, dump(document))
    except OSError as error:
        raise ApplyError(f"cannot write {quoted(path)}", reason(error), "see slurmd's log", "OGH1712") from None
    root = _root(config)
    if os.path.lexists(os.path.join(root, container)):  # a job that is queued again has the number that it had
        _drop(root, container, real_runtime)
    call = Call(bundle=bundle, container=container, log="", log_format="")
    prepared = runtime.prepare(call, hook, real_runtime)
    # crun fails where it may make no cgroup, runc goes on; the container stays in those of the step.
    general = ("--cgroup-manager=disabled",) if os.path.basename(real_runtime) == "crun" else ()
    runtime.become(real_runtime, (*general, "--root", root, "run", "--bundle", bundle, container), prepared)


def _afterwards(command: str, user: str, container: str, real_runtime: str) -> NoReturn:
    _become(user)
    namespace.enter(namespace.own())
    config, _ = configs.load_or_defaults(configs.DEFAULT_PATH)
    root = _root(configs.of_this_user(config))
    if command == "state" and not any(os.path.lexists(f"{root}/{container}/{name}") for name in _STATES):
        _drop(root, container, real_runtime)  # it was killed while it was made; the runtime knows it not
    words = ("--root", root, *_AFTERWARDS[command], container)
    runtime.become(real_runtime, (*words, "KILL") if command == "kill" else words, None)


def _become(user: str) -> None:
    """Be the job's user, where this is root and the job is not root's."""
    if os.geteuid() == 0 and user != "root":
        namespace.become(user)


def _root(config: Config) -> str:
    """Return the directory of the runtime's state. Raises StateError."""
    return state.directory(config.state_dir, DIRECTORY)


def _drop(root: str, container: str, real_runtime: str) -> None:
    """Take away what is left of a container whose runtime was killed."""
    import subprocess

    command = [real_runtime, "--root", root, "delete", "--force", container]
    for words in (command, ["/bin/rm", "-rf", "--one-file-system", "--", os.path.join(root, container)]):
        subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)


def _hook(executable: str) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(executable)), "oci-gpu-hook")


def _complain(message: str, code: str) -> None:
    streams.say(f"{NAME}: error: {coded(message, code)}")
    log.refused(NAME, message, code)

"""Start a container with a GPU under each engine of this host, run COMMAND in it, show what happened, and remove it.

Engines are Docker, Podman, containerd (by ctr), runc and crun; without IMAGE the container has the host's shell and C
library.

Exit status: with one engine the container's own, 124 if it did not end in time; with several 0 if each that could be
tried ended with 0, otherwise 1.
"""

from __future__ import annotations

import os
import sys

from oci_gpu_hook.base.config.load import DEFAULT_PATH
from oci_gpu_hook.base.errors import HookError, InvalidInput, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Final

    from oci_gpu_hook.admin.trials.engines import Wanted
    from oci_gpu_hook.admin.trials.trial import Outcome

_ALL: Final = "all"
ENGINES: Final = ("docker", "podman", "containerd", "runc", "crun")
_TIMEOUT: Final = 600.0
_USAGE: Final = "oci-gpu run [IMAGE] -- COMMAND"
# Only built-in commands of the shell, so that any image with one will do; nvidia-smi is the driver's.
_LOOK: Final = r"""
[ ! -e /usr/bin/nvidia-smi ] || nvidia-smi -L
for node in /dev/nvidia[0-9]* /dev/dri/renderD* /dev/kfd /dev/dxg /dev/nvmap /dev/nvgpu /dev/nvhost-gpu; do
    [ ! -e "$node" ] || { echo "$node"; found=1; }
done
[ -n "$found" ] || { echo "no device node of a GPU in /dev"; exit 1; }
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--engine", choices=(*ENGINES, _ALL), default=_ALL, help="the engine (default: every one)")
    parser.add_argument("--count", metavar="N", help="how many GPUs (default: 1, unless --devices names some)")
    parser.add_argument("--devices", metavar="LIST", help="which GPUs: indices, UUIDs, names of CDI, or all")
    parser.add_argument("--memory", metavar="SIZE", help="the least memory of each, such as 40GiB")
    parser.add_argument("--exclusive", action="store_true", help="for this container alone")
    parser.add_argument("--capabilities", metavar="LIST", default="compute,utility", help="(default: %(default)s)")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=_TIMEOUT, help="(default: %(default).0f)")
    parser.add_argument(
        "words", metavar="[IMAGE] [-- COMMAND ...]", nargs="*", help="(default: show the GPUs, in a small image)"
    )
    parser.set_defaults(given=tuple(sys.argv[1:]), hint=f"; a command comes after --: {_USAGE}")


def run(options: Namespace) -> int:
    """Start the containers. Raises HookError if no engine is there, or the one that is named cannot be tried."""
    from oci_gpu_hook.admin.trials import engines

    wanted = _wanted(options)
    there = engines.installed()
    if options.engine != _ALL:
        if options.engine not in there:
            raise HookError(options.engine, "is not on PATH", f"there are: {', '.join(there) or 'none'}", "OGH1912")
        return _shown(options.engine, wanted, options.timeout).status
    if not there:
        raise HookError(
            "run", f"none of {', '.join(ENGINES)} is on PATH", "install one (apt-get install runc)", "OGH1912"
        )
    ended = []
    for engine in there:
        try:
            ended.append(_shown(engine, wanted, options.timeout).status)
        except engines.NotTried as error:
            print(one_line(f"{engine}: {error}"))
        except HookError as error:
            print(one_line(f"{engine}: {error}"))
            ended.append(1)
    if not ended:
        raise HookError("run", "no engine could be tried", "the lines above say why", "OGH1912")
    return 1 if any(ended) else 0


def _shown(engine: str, wanted: Wanted, timeout: float) -> Outcome:
    """Run a container, and say before and after what is done."""
    from oci_gpu_hook.admin.trials import trial

    print(f"{engine}: {' '.join(wanted.env)}")
    sys.stdout.flush()  # before what the container prints
    outcome = trial.run(engine, wanted, timeout)
    if outcome.words:
        print(one_line(outcome.words))
    ended = f"did not end within {timeout:.0f} s" if outcome.status == 124 else f"exit status {outcome.status}"
    print(f"{engine}: {ended}, {outcome.seconds:.1f} s")
    if outcome.status:
        print(f"{engine}: `oci-gpu doctor` says whether it is set up, `oci-gpu log` what was refused")
    return outcome


def _wanted(options: Namespace) -> Wanted:
    from oci_gpu_hook.admin.trials.engines import Wanted

    image, command = _parted(options)
    env = [f"NVIDIA_DRIVER_CAPABILITIES={options.capabilities}"]
    env += [f"OCI_GPU_DEVICES={options.devices}"] if options.devices else []
    count = options.count or ("" if options.devices else "1")
    settings = {"COUNT": count, "MEMORY": options.memory, "EXCLUSIVE": "true" if options.exclusive else ""}
    env += [f"OCI_GPU_{name}={value}" for name, value in settings.items() if value]
    return Wanted(
        image=image,
        command=command or ("/bin/sh", "-c", _LOOK),
        env=tuple(env),
        config=os.path.abspath(options.config),
        has_own_config=options.config != DEFAULT_PATH,
    )


def _parted(options: Namespace) -> tuple[str, tuple[str, ...]]:
    """Return IMAGE and COMMAND: argparse does not say where `--` was, so that is looked up."""
    words = tuple(options.words)
    given = options.given
    command = tuple(given[given.index("--") + 1 :]) if "--" in given else ()
    before = words[: len(words) - len(command)]
    if "nvidia-smi" in before[:1]:
        raise InvalidInput("IMAGE", "nvidia-smi is a command, and no image", f"write {_USAGE}", "OGH1915")
    if len(before) > 1:
        image, *rest = before
        remedy = f"write oci-gpu run {image} -- {' '.join(rest)}"
        raise InvalidInput("COMMAND", f"needs -- before it: {' '.join(before)}", remedy, "OGH1915")
    return (before[0] if before else ""), command

"""The commands of `oci-gpu`, in the order in which they are shown, and what each does in a line of the help.

Each is a module of this package (`_` for `-`) with run(options) -> exit status; its docstring is the description. It
says what it can be told in OPTIONS or ACTIONS (values of `option`), or by add_arguments(parser) in argparse's way. The
lines are here and not there, so that no command's module is imported to list them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

COMMANDS: Final[Mapping[str, str]] = {
    "info": "show the driver and the GPUs of this host",
    "doctor": "check whether this host can give containers its GPUs, and say what to do if not",
    "request": "show what a container asks for",
    "plan": "show what a container would get, and why",
    "leases": "show who holds which GPU, or release a lease",
    "gpus": "show the state of each GPU, or heal a sick one",
    "top": "show what each GPU is used for, and by which container",
    "metrics": "provide metrics for Prometheus",
    "log": "show what was granted and refused",
    "verify": "tell whether running containers still have their GPUs",
    "repair": "put back what running containers have lost of their GPUs",
    "attach": "give a running container GPUs",
    "detach": "take GPUs from a running container",
    "watch": "put back what running containers lose, as it happens",
    "cdi": "write and look at CDI specifications",
    "install": "set a container engine up to give containers GPUs",
    "uninstall": "undo `oci-gpu install`",
    "run": "start a container with a GPU under each engine, to see whether it works",
    "hook-path": "print the executable to register with an engine",
    "simulate": "make a host with GPUs in a directory, for machines that have none",
    "config": "show the configuration, check it, or print the defaults",
    "completion": "print what makes bash, zsh or fish complete this command",
    "help": "show the help of a command or an error, or list the commands",
    "version": "print the version",
}

"""The running container that `attach` and `detach` are told: its options, and which it is."""

from __future__ import annotations

import argparse  # noqa: TID253  of commands for people
import math

from oci_gpu_hook.lifecycle import running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.oci.runtime_states import Running

_LONGEST = 3600  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the container on the command line."""
    parser.add_argument("container", metavar="CONTAINER", help="a running container")
    runtime_root(parser)


def runtime_root(parser: argparse.ArgumentParser) -> None:
    """Describe the option that names a runtime whose containers are not found otherwise."""
    parser.add_argument(
        "--runtime-root", metavar="DIR", default="", help="where the runtime keeps its state, if not at a usual place"
    )


def meant(options: argparse.Namespace) -> Running:
    """Return the container meant. Raises InvalidInput."""
    return running.anyone(options.container, options.runtime_root)


def names(text: str) -> tuple[str, ...]:
    """Return the names in a list with commas. A list without any, as of a variable that is unset, is no list of all."""
    found = tuple([name for name in map(str.strip, text.split(",")) if name])
    if not found:
        raise argparse.ArgumentTypeError("names nothing")
    return found


def seconds(text: str) -> float:
    """Return a number of seconds."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found <= _LONGEST:
        raise argparse.ArgumentTypeError(f"give a number of seconds from 0 to {_LONGEST}")
    return found

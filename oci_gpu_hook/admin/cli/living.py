"""The running container that `attach` and `detach` are told: its options, and which it is."""

from __future__ import annotations

from oci_gpu_hook.admin.cli.option import Option
from oci_gpu_hook.lifecycle import running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Final

    from oci_gpu_hook.oci.runtime_states import Running

_LONGEST = 3600  # seconds

# Names a runtime whose containers are not found otherwise.
RUNTIME_ROOT: Final = Option(
    flag="--runtime-root", metavar="DIR", help="where the runtime keeps its state, if not at a usual place"
)
OPTIONS: Final = (Option(flag="container", metavar="CONTAINER", help="a running container"), RUNTIME_ROOT)


def devices() -> Option:
    """Return the option that names devices of the container or for it."""
    return Option(
        flag="--devices",
        metavar="NAME,…",
        read=names,
        default=None,
        is_either=True,
        help="these GPUs: indices, UUIDs, MIG devices",
    )


def meant(options: Namespace) -> Running:
    """Return the container meant. Raises InvalidInput."""
    return running.anyone(options.container, options.runtime_root)


def names(text: str) -> tuple[str, ...]:
    """Return the names in a list with commas. A list without any, as of a variable that is unset, is no list of all."""
    found = tuple([name for name in map(str.strip, text.split(",")) if name])
    if not found:
        raise _wrong("names nothing")
    return found


def seconds(text: str) -> float:
    """Return a number of seconds."""
    try:
        found = float(text)
    except ValueError:
        found = -1
    if not 0 <= found <= _LONGEST:
        raise _wrong(f"give a number of seconds from 0 to {_LONGEST}")
    return found


def _wrong(text: str) -> Exception:
    """Return the error of a value, in argparse's form."""
    from argparse import ArgumentTypeError

    return ArgumentTypeError(text)

"""The running container that `attach` and `detach` are told: its options, and which it is."""

from __future__ import annotations

from oci_gpu_hook.lifecycle import running

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from oci_gpu_hook.oci.runtime_states import Running


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

"""Print the version."""

from __future__ import annotations

from oci_gpu_hook import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(_parser: ArgumentParser) -> None:
    """Describe the options: there are none."""


def run(_options: Namespace) -> int:
    """Print it."""
    print(f"oci-gpu {__version__}")
    return 0

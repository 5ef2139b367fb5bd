"""Take out of a container engine's files what `oci-gpu install` put in. A file that nobody touched since is as it was
before, to the byte. Nothing is restarted; the executables stay, for other engines may call them.
"""  # noqa: D205  the help text of the command, wrapped by argparse

from __future__ import annotations

from oci_gpu_hook.admin.cli import install
from oci_gpu_hook.admin.engines import known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Final

SUMMARY: Final = "take the changes of `oci-gpu install` back"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    install.add_common_arguments(parser)


def run(options: Namespace) -> int:
    """Uninstall, or show what uninstalling would do."""
    steps = known.module(options.engine).uninstall(install.target_of(options))
    install.carry_out(steps, dry_run=options.dry_run)
    return 0

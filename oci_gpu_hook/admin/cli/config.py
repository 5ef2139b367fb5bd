"""Show the configuration in force, check the file, or print a file with the defaults.

With --config FILE of `oci-gpu` itself it is that file, otherwise the usual one.
"""

from __future__ import annotations

import os
import sys

from oci_gpu_hook.base.config import load, shown
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--show", action="store_true", help="every key with its value in force, as TOML (the default)")
    what.add_argument(
        "--check", action="store_true", help="say what is wrong with the file; exit status 1 if anything is"
    )
    what.add_argument("--default", action="store_true", help="a configuration file with every default")


def run(options: Namespace) -> int:
    """Show, check, or print. Raises ConfigError if the file cannot be used."""
    if options.default:
        print(shown.text(Config()), end="")
        return 0
    config = load.load(options.config)
    for warning in config.warnings:
        print(f"oci-gpu: warning: {one_line(f'{options.config}: {warning}')}", file=sys.stderr)
    if options.check:
        is_there = os.path.exists(options.config)
        if not config.warnings:
            print(f"{options.config}: {'no errors' if is_there else 'does not exist; the defaults are used'}")
        return 1 if config.warnings else 0
    print(shown.text(config), end="")
    return 0

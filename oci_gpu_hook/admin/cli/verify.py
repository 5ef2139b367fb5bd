"""Tell whether running containers still have what they were given: nodes, rights, libraries, of the running driver.

CONTAINER is the name or the id of a container or the beginning of its id, PID a process in it; without either, all
containers that were given GPUs are checked.
"""

from __future__ import annotations

import json  # noqa: TID253  a command for people

from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import one_line
from oci_gpu_hook.lifecycle import running, verify
from oci_gpu_hook.lifecycle.census import of_running

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Final

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.apply.operations.inspection import Finding

_SHOWN: Final = ("kind", "what", "why", "remedy", "repairable")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("container", metavar="CONTAINER|PID", nargs="?", help="a running container")
    which.add_argument("--all", action="store_true", help="every running container that was given GPUs (the default)")
    parser.add_argument("--json", action="store_true", help="print JSON (schemas/verify.schema.json)")


def run(options: argparse.Namespace) -> int:
    """Print what is lost; exit status 1 if anything is. Raises HookError if there is no such container."""
    config = configs.of_this_user(configs.load(options.config))
    entries = [running.named(options.container, config)] if options.container else running.everything(config)
    found = [(entry, verify.verify(entry, config)) for entry in entries]
    if options.json:
        print(json.dumps([to_json(entry, findings) for entry, findings in found], indent=2))
    else:
        for entry, findings in found:
            show(entry, findings)
        if not found:
            print("No running container was given GPUs.")
    return 1 if any(findings for _, findings in found) else 0


def to_json(entry: Entry, findings: Sequence[Finding]) -> dict[str, object]:
    """Return the form that `schemas/verify.schema.json` describes."""
    return {
        "container": entry.id,
        "pid": entry.pid,
        "gpus": list(entry.gpus),
        "driver": entry.driver or None,
        "restart": any(finding.kind == verify.DRIVER for finding in findings),
        "findings": [{name: getattr(finding, name) for name in _SHOWN} for finding in findings],
    }


def show(entry: Entry, findings: Sequence[Finding]) -> None:
    """Print the findings about a container for people."""
    called = of_running(entry).told
    if not findings:
        print(one_line(f"{called}: has what it was given"))
    for finding in findings:
        print(one_line(f"{called}: {finding}"))

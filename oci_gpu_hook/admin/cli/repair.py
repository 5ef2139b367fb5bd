"""Put back what running containers have lost of what they were given: nodes, rights, libraries, the ld cache.

CONTAINER is the name or the id of a container or the beginning of its id, PID a process in it. Only what the container
was given is put back.
What needs a restart, such as files of a driver that no longer runs, is refused.
"""

from __future__ import annotations

import sys

from oci_gpu_hook.apply import cleanup
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import BUG, HookError, InvalidInput, coded, described_bug, one_line
from oci_gpu_hook.lifecycle import repair, running, unlisted
from oci_gpu_hook.lifecycle.census import of_running

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.lifecycle.unlisted import GivenBack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("container", metavar="CONTAINER|PID", nargs="?", help="a running container")
    which.add_argument("--all", action="store_true", help="every running container; also clean up after ended ones")


def run(options: argparse.Namespace) -> int:
    """Repair the containers, and print what was repaired; exit status 1 if one could not be."""
    config = configs.of_this_user(configs.load(options.config))
    if options.all:
        for container_id in cleanup.reconcile(config):
            print(one_line(f"{container_id}: ended without poststop; what it left was removed"))
    left = unlisted.give_back(config)
    for each in left:
        print(one_line(f"{each.container}: gave back {', '.join(each.uuids)}: the attachment had been interrupted"))
    entries = _meant(options.container, left, config) if options.container else running.everything(config)
    if options.all and not entries:
        print("No running container was given GPUs.")
    status = 0
    for entry in entries:
        called = of_running(entry).told
        try:
            mended = repair.repair(entry, config)
        except Exception as error:  # noqa: BLE001  one container must not keep the others from being repaired
            why, code = (str(error), error.code) if isinstance(error, HookError) else (described_bug(error), BUG)
            print(f"oci-gpu: error: {coded(f'{called}: {why}', code)}", file=sys.stderr)
            status = 1
            continue
        for finding in mended:
            print(one_line(f"{called}: put back: {finding.what} ({finding.why})"))
        if not mended:
            print(one_line(f"{called}: has what it was given"))
    return status


def _meant(name: str, left: Sequence[GivenBack], config: Config) -> list[Entry]:
    """Return the entry of the container meant; none for one that had a lease and nothing else. Raises InvalidInput."""
    try:
        return [running.named(name, config)]
    except InvalidInput:
        ids = [each.container for each in left]
        found = running.meant(name)
        if not any(one.startswith(name) for one in ids) and (found is None or found.id not in ids):
            raise
        return []

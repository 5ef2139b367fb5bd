"""Take GPUs from a running container: nothing in it can open them any more, and others can be granted them.

CONTAINER is the name or the id of a container, the start of an id, or the number of a process in it. While a process of
the container has a GPU open the command refuses, and lists those processes; --force ends them first. What `attach` has
brought goes with the last GPU.
"""

from __future__ import annotations

from oci_gpu_hook.admin.cli import living
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import one_line
from oci_gpu_hook.lifecycle import detach

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    living.add_arguments(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--devices", metavar="NAME,…", type=living.names, help="these GPUs: indices, UUIDs, MIG devices")
    which.add_argument("--all", action="store_true", help="all GPUs that it has")
    parser.add_argument("--force", action="store_true", help="end the processes that have one open: TERM, then KILL")
    parser.add_argument(
        "--grace", metavar="SECONDS", type=living.seconds, default=10.0, help="between the two (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Detach, and say what was taken and who was ended for it."""
    config = configs.of_this_user(configs.load(options.config))
    meant = living.meant(options)
    done = detach.detach(meant, options.devices or (), config, force=options.force, grace=options.grace)
    for pid, name in done.ended:
        print(one_line(f"{meant.id}: ended process {pid} ({name})"))
    print(one_line(f"{meant.id}: detached {', '.join(done.uuids)}"))
    return 0

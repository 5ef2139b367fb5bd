"""Take GPUs from a running container: nothing in it can open them any more, and others can be granted them.

CONTAINER is the name or the id of a container, the start of an id, or the number of a process in it. While a process of
the container has a GPU open the command refuses, and lists those processes; --force ends them first. What `attach` has
brought goes with the last GPU.
"""

from __future__ import annotations

from oci_gpu_hook.admin.cli import living
from oci_gpu_hook.admin.cli.option import Option
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import one_line
from oci_gpu_hook.lifecycle import detach
from oci_gpu_hook.lifecycle.census import of_running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Final


OPTIONS: Final = (
    *living.OPTIONS,
    living.devices(),
    Option(flag="--all", is_switch=True, is_either=True, help="all GPUs that it has"),
    Option(flag="--force", is_switch=True, help="end the processes that have one open: TERM, then KILL"),
    Option(
        flag="--grace",
        metavar="SECONDS",
        read=living.seconds,
        default=10.0,
        help="between the two (default: %(default)s)",
    ),
)


def run(options: Namespace) -> int:
    """Detach, and say what was taken and who was ended for it."""
    config = configs.of_this_user(configs.load(options.config))
    meant = living.meant(options)
    done = detach.detach(meant, options.devices or (), config, force=options.force, grace=options.grace)
    called = of_running(meant).told
    for pid, name in done.ended:
        print(one_line(f"{called}: ended process {pid} ({name})"))
    print(one_line(f"{called}: detached {', '.join(done.uuids)}"))
    return 0

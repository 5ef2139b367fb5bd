"""Print the executable to register with an engine, and install it first if it is missing or outdated."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("--runtime", action="store_true", help="oci-gpu-runtime instead of oci-gpu-hook")
    parser.add_argument("--python", action="store_true", help="the Python stub instead of the static front")
    parser.add_argument("--directory", metavar="DIR", default="", help="install the executables in DIR")
    parser.add_argument("--real-runtime", metavar="FILE", default="", help="the OCI runtime behind oci-gpu-runtime")
    parser.add_argument("--interpreter", metavar="FILE", default="", help="the Python that starts the hook")


def run(options: Namespace) -> int:
    """Install the executables and print the path of one."""
    from oci_gpu_hook.admin.install.executables import write
    from oci_gpu_hook.base.errors import HookError, one_line

    written = write(options.directory, options.real_runtime, options.interpreter)
    for warning in written.warnings:
        print(one_line(f"oci-gpu: warning: {warning}"), file=sys.stderr)
    path = {
        (False, False): written.hook,
        (False, True): written.hook_stub,
        (True, False): written.runtime,
        (True, True): written.runtime_stub,
    }[options.runtime, options.python]
    if not path:
        raise HookError(
            "oci-gpu-runtime", "found neither runc nor crun on PATH", "name the runtime with --real-runtime", "OGH1803"
        )
    print(path)
    return 0

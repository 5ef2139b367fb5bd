"""Show what a container would get, and why, without changing anything.

BUNDLE is the directory of an OCI bundle (config.json and the rootfs it names). What is shown is what the hook does when
an engine starts that bundle now: both take the same steps.
"""

from __future__ import annotations

import os
import sys
import time

from oci_gpu_hook import config as configs
from oci_gpu_hook import container as containers
from oci_gpu_hook import image, plan, start
from oci_gpu_hook.allocation import grant as allocation
from oci_gpu_hook.apply.rootfs import Rootfs
from oci_gpu_hook.details import needs_details
from oci_gpu_hook.errors import InvalidInput, quoted, reason
from oci_gpu_hook.inventory import cache as inventories
from oci_gpu_hook.request import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from oci_gpu_hook.config import Config
    from oci_gpu_hook.container import Container
    from oci_gpu_hook.plan import Plan
    from oci_gpu_hook.start import Clock

SUMMARY = "show what a container would get, and why"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("bundle", metavar="BUNDLE", help="directory with config.json")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON (schemas/plan.schema.json)")
    parser.add_argument("--timings", action="store_true", help="print what each step took, in milliseconds")


def run(options: argparse.Namespace) -> int:
    """Print the plan; exit status 0, also for a container that asks for nothing."""
    clock = start.Clock(time.perf_counter())
    made = preview(containers.of_bundle(options.bundle), configs.load(options.config), clock)
    if options.json:
        import json

        print(json.dumps(plan.to_json(made) if made else None, indent=2))
    elif made is None:
        print("The container asks for no GPU; the hook would leave it as it is.")
    else:
        _explain(made)
    if options.timings:
        for step, duration in clock.laps:
            print(f"{step:12} {duration:8.3f} ms", file=sys.stderr)
    return 0


def preview(container: Container, config: Config, clock: Clock) -> Plan | None:
    """Return the plan for a bundle that no engine has started; None where it asks for nothing. Raises HookError."""
    request = parse.parse(container, config)
    clock.lap("request")
    if request is None:
        return None
    host = inventories.load(config, detailed=needs_details(request))
    clock.lap("inventory")
    gpus = allocation.preview(request, host, config)
    clock.lap("allocation")
    try:
        fd = os.open(container.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        remedy = "check root.path in config.json"
        raise InvalidInput(f"container rootfs {quoted(container.rootfs)}", reason(error), remedy) from None
    with Rootfs(fd) as rootfs:
        facts = image.look(rootfs, container, config)
    clock.lap("image")
    made = plan.make(request, host, gpus, facts, config)
    clock.lap("plan")
    return made


def _explain(made: Plan) -> None:
    asked = "no GPU" if not made.gpus else ", ".join(f"GPU {g.gpu.index} ({g.uuid})" for g in made.gpus)
    capabilities = ", ".join(made.request.driver_capabilities) or "none"
    print(f"Asked for by: {made.request.source}")
    print(f"Gets:         {asked}")
    print(f"Capabilities: {capabilities}")
    for decision in made.decisions:
        print(f"Decided:      {decision}")
    for warning in made.warnings:
        print(f"Warning:      {warning}")
    print("\nDevice nodes")
    for node in made.edits.device_nodes:
        print(f"  {node.path}  {node.major}:{node.minor} {node.permissions}")
    print("\nMounts")
    for mount in made.edits.mounts:
        print(f"  {mount.container_path}  from {mount.host_path} ({','.join(mount.options)})")
    print("\nLinks")
    for link in made.links:
        print(f"  {link.path} -> {link.target}")
    print(f"\nLibraries in the ld cache: {len(made.ld_cache)}")

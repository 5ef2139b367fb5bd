"""Show what a container would get, and why, without changing anything.

CONTAINER is the directory of an OCI bundle (config.json and the rootfs it names), or the name or id of a running
container. It shows what the hook would do if an engine started that bundle now; both run the same code. A running
container keeps what it has. Exit status 1: the container would not start; the line shown is what its engine would show.

Without a CONTAINER, say what the container would ask by: --env, --annotation, --count and their like. The image is
taken to be like Debian's then, unless --image-root names another one, unpacked.
"""

from __future__ import annotations

import os
import sys
import time

from oci_gpu_hook.admin.cli import bundle, imagined, living, narrative, near_misses, option
from oci_gpu_hook.admin.cli.narrative import Preview
from oci_gpu_hook.allocation import query
from oci_gpu_hook.apply import transaction
from oci_gpu_hook.apply.process import is_hosts_root
from oci_gpu_hook.apply.rootfs.as_mounted import AsMounted
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import AllocationError, HookError, InvalidInput, one_line, quoted, reason
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.edits import ContainerEdits
from oci_gpu_hook.devices.nvidia import snapshot
from oci_gpu_hook.lifecycle import described
from oci_gpu_hook.lifecycle.clock import Clock
from oci_gpu_hook.lifecycle.readmission import previewed
from oci_gpu_hook.request import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from oci_gpu_hook.allocation.model import Lease
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.lifecycle.admission import Admission
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.plan.plan import Plan
    from oci_gpu_hook.request.model import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("bundle", metavar="CONTAINER", nargs="?", help="directory with config.json, or a container")
    option.describe(parser, (living.RUNTIME_ROOT,))
    imagined.add_arguments(parser)
    parser.add_argument("--files", action="store_true", help="list every mount, link and entry of the ld cache")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON (schemas/plan.schema.json)")
    parser.add_argument("--timings", action="store_true", help="print what each step took, in milliseconds")


def run(options: argparse.Namespace) -> int:
    """Print the plan; exit status 0, also for a container that asks for nothing, 1 if it would not start."""
    if options.bundle and imagined.is_told(options):
        raise InvalidInput("plan", "takes a CONTAINER, or --env and its like", "leave one of them out", "OGH1902")
    if options.bundle:
        return _show(bundle.read(options.bundle, options.runtime_root), options)
    return imagined.with_container(options, lambda container: _show(container, options))


def _show(container: Container, options: argparse.Namespace) -> int:
    clock = Clock(time.perf_counter())
    config, trouble = configs.load_or_defaults(options.config)
    request = None
    try:
        reading = parse.read(container, config)
        request = reading.request
        clock.lap("request")
        if request is not None and trouble:
            raise trouble
        seen = preview(container, request, config, clock) if request else None
    except HookError as error:
        if options.json:
            raise
        narrative.show_failure(container, config, request, error)
        return 1
    if options.json:
        import json

        from oci_gpu_hook.apply import json_form

        print(json.dumps({**json_form.to_json(seen.plan), **narrative.shares(seen)} if seen else None, indent=2))
    elif seen is None:
        warnings = (*reading.warnings, *near_misses.of(container), *([str(trouble)] if trouble else []))
        narrative.show_nothing(container, config, warnings)
    else:
        narrative.show(seen, files=options.files)
    if container.pid and not options.json:
        _tell_attached(container, config)
    if options.timings:
        for step, duration in clock.laps:
            print(f"{step:12} {duration:8.3f} ms", file=sys.stderr)
    return 0


def _tell_attached(container: Container, config: Config) -> None:
    from oci_gpu_hook.lifecycle import settling

    entry = settling.entry_of(container.id, container.pid, configs.of_this_user(config))
    if entry and entry.attached:
        what = f"attached to it while it runs: {', '.join(entry.attached)}; a restart does not keep them"
        print(one_line(what))


def preview(container: Container, request: Request, config: Config, clock: Clock) -> Preview:
    """Return the plan for a bundle that no engine has started. Raises HookError."""
    config = configs.of_this_user(config)
    admission = previewed(container, request, config, clock)
    try:
        fd = os.open(container.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        remedy = "check root.path in config.json"
        raise InvalidInput(f"container rootfs {quoted(container.rootfs)}", reason(error), remedy, "OGH1904") from None
    found, hosts = os.fstat(fd), os.stat("/")
    if (found.st_dev, found.st_ino) == (hosts.st_dev, hosts.st_ino):
        os.close(fd)
        raise is_hosts_root(container.rootfs)
    with AsMounted(fd, container) as rootfs:
        made = _rehearsed(admission, container, rootfs, clock)
        clock.lap("rehearsal")
    try:
        leases = query.current(config).leases
        own = (container.id, container.pid)
        held: tuple[Lease, ...] | None = tuple([each for each in leases if (each.container, each.holder.pid) != own])
    except AllocationError:  # this user may not read the record; the choice did not use it either
        held = None
    whole = None
    for part in (admission, *admission.beside):  # whose kinds the host has decided, where the request leaves them open
        if part.request.kind in vendors.KINDS:
            whole = snapshot.load(config, detailed=part.snapshot.inventory.detailed)
    edits = admission.described_edits() if admission.is_described else ContainerEdits()
    return Preview(container=container, config=config, inventory=whole, held=held, plan=made, described=edits)


def _rehearsed(admission: Admission, container: Container, rootfs: AsMounted, clock: Clock) -> Plan:
    """Return the plan as it would be carried out; the parts that only a runtime can do are not rehearsed."""
    made = admission.plan(rootfs, clock)
    if not admission.is_described:
        return transaction.rehearse(made, container, rootfs)
    needs = described.needs_runtime(made.edits, container)
    if not needs:
        return transaction.rehearse(made, container, rootfs)
    return made.replace(warnings=(*made.warnings, *needs))

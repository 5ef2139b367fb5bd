"""Starts a container that asks for GPUs: admits it, and puts what it was granted into it."""

from __future__ import annotations

from oci_gpu_hook.apply import transaction
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.process import Process, Site, check_process, open_rootfs
from oci_gpu_hook.apply.systemd import units
from oci_gpu_hook.apply.watch import Watch
from oci_gpu_hook.base import counts, log, state
from oci_gpu_hook.base.config.load import of_this_user
from oci_gpu_hook.devices.edits import numbers, of_devices
from oci_gpu_hook.lifecycle.admission import NO_SNAPSHOTS, Admitted
from oci_gpu_hook.lifecycle.clock import Clock
from oci_gpu_hook.lifecycle.journaling import Starting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oci_gpu_hook.apply.mps.daemon import Daemon
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.vendor import Snapshot
    from oci_gpu_hook.lifecycle.admission import Admission
    from oci_gpu_hook.lifecycle.restriction import Restriction
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.plan.plan import Plan
    from oci_gpu_hook.request.model import Request


def start(  # noqa: PLR0913
    container: Container,
    request: Request,
    config: Config,
    started: float,
    restriction: Restriction | None = None,
    *,
    snapshots: Mapping[str, Snapshot] = NO_SNAPSHOTS,
) -> None:
    """Give a container that is being started what it asks for. If this raises HookError, nothing was changed.

    started: time.perf_counter() at the hook's beginning. restriction: the GPUs that can be granted, None for all.
    snapshots: as in `Admitted`.
    """
    config = of_this_user(config)
    log.configure(config, container=container.id)
    check_process(container.pid)
    if journal.has_entry(config, container.id, container.pid):
        return  # registered twice, for prestart and createRuntime, or by oci-gpu-runtime too
    clock = Clock(started)
    with Admitted(container, request, config, clock=clock, restriction=restriction, snapshots=snapshots) as admission:
        if container.nodes or container.bound_nodes:
            from oci_gpu_hook.lifecycle import injected

            injected.hold_beside(admission)
        tidy(config)
        made, warnings = (_put_limited if admission.is_limited else _put)(admission, clock)
        clock.lap("apply")
    counts.started(config.state_dir, clock.seconds(waits=request.wait > 0))
    for text in (*made.warnings, *warnings):
        log.tell(text, grave=text in made.unmet)
    if config.log_file:
        gpus = list(admission.uuids)
        log.info("attached", gpus=gpus, mounts=len(made.edits.mounts), milliseconds=clock.milliseconds())


def _put(admission: Admission, clock: Clock, daemon: Daemon | None = None) -> tuple[Plan, tuple[str, ...]]:
    """Put what was granted into the container; return the plan, and warnings. Raises HookError.

    daemon: that holds the container to its parts of devices; it comes up meanwhile.
    """
    container, config = admission.container, admission.config
    with (
        Process(container.pid) as process,
        Watch(container.id, process.mountinfo(), container.rootfs),
        open_rootfs(container, process) as rootfs,
    ):
        planned = made = admission.plan(rootfs, clock)
        if admission.is_described:
            from oci_gpu_hook.lifecycle import described

            made = described.left(planned, container)
        site = Site(container=container, process=process, rootfs=rootfs, config=config)
        nodes = [numbers(node) for node in of_devices(made.edits.device_nodes)]

        def confirm() -> None:
            admission.confirm(planned)
            if daemon:
                daemon.wait()

        return made, transaction.carry_out(made, site, nodes, Starting(site), confirm)


def _put_limited(admission: Admission, clock: Clock) -> tuple[Plan, tuple[str, ...]]:
    """Do the same for a container that gets parts of devices, with the daemon that holds it to them."""
    from oci_gpu_hook.lifecycle import limiting

    daemon = limiting.begin(admission.limiter(), admission.container, admission.config)
    try:
        return _put(admission, clock, daemon)
    except BaseException:
        daemon.end()
        raise


def tidy(config: Config) -> None:
    """Undo what is left of containers that ended without `poststop`, as far as that is quick."""
    if journal.dead(config) or units.ended_scopes() or _has_ended_daemons(config):
        from oci_gpu_hook.apply import cleanup

        cleanup.take_back_dead(config)


def _has_ended_daemons(config: Config) -> bool:
    """Tell whether a daemon may have outlived its container. Cheap where no container has a part of a GPU.

    The directory stays when the last daemon has ended.
    """
    if not state.has_any(config.state_dir, "mps"):
        return False
    from oci_gpu_hook.apply.mps import place

    return any(map(place.has_ended, place.names(config.state_dir)))

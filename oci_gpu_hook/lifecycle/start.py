"""The start of a container that asks for GPUs: inventory, allocation, plan, apply."""

from __future__ import annotations

import time

from oci_gpu_hook.allocation import allocate as allocation
from oci_gpu_hook.allocation import release
from oci_gpu_hook.apply import transaction
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.process import Process
from oci_gpu_hook.base import log
from oci_gpu_hook.base.config.load import of_this_user
from oci_gpu_hook.base.errors import DriverError, HookError
from oci_gpu_hook.devices.nvidia import for_request
from oci_gpu_hook.devices.nvidia import snapshot as inventories
from oci_gpu_hook.oci.container import check_process
from oci_gpu_hook.plan import image, plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.nvidia.snapshot import Held
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.plan.plan import Plan
    from oci_gpu_hook.request.model import Request


def start(container: Container, request: Request, config: Config, started: float) -> None:
    """Give a container that is being started what it asks for. Raises HookError, and then has changed nothing.

    started: time.perf_counter() when the hook began.
    """
    config = of_this_user(config)
    log.configure(config, container=container.id)
    check_process(container.pid)
    if _is_attached(container, config):
        return  # registered for prestart and for createRuntime, or started through the runtime's front as well
    clock = Clock(started)
    try:
        held = for_request.hold(request, config)
    except HookError as error:
        log.error("refused", reason=str(error))
        raise
    host = held.inventory
    clock.lap("inventory")
    gpus = allocation.grant(request, host, container, config)  # logs a refusal of its own
    clock.lap("allocation")
    try:
        with Process(container.pid) as process, transaction.open_rootfs(container, process) as rootfs:
            facts = image.look(rootfs, container, config)
            clock.lap("image")
            made = plan.make(request, host, gpus, facts, config)
            clock.lap("plan")
            transaction.attach(made, container, process, rootfs, config, confirm=lambda: _confirm(made, held, config))
            clock.lap("apply")
    except BaseException as error:
        log.error("failed", reason=str(error), gpus=[granted.uuid for granted in gpus])
        release.withdraw(container.id, container.pid, config)
        raise
    for text in made.warnings:
        log.warning("warning", text=text)
    if config.log_file:
        uuids = [granted.uuid for granted in gpus]
        log.info("attached", gpus=uuids, mounts=len(made.edits.mounts), milliseconds=clock.milliseconds())


class Clock:
    """Milliseconds that each step took, in the order of the steps."""

    def __init__(self, started: float) -> None:
        self._last = started
        self.laps: list[tuple[str, float]] = []
        self.lap("request")

    def lap(self, step: str) -> None:
        """End a step."""
        now = time.perf_counter()
        self.laps.append((step, (now - self._last) * 1000))
        self._last = now

    def milliseconds(self) -> dict[str, str]:
        """Return the laps as the log has them, e.g. {"plan": "0.412"}."""
        return {step: f"{duration:.3f}" for step, duration in self.laps}


def _confirm(made: Plan, held: Held, config: Config) -> None:
    """Raise DriverError where the host's driver has been exchanged since the plan was made: its files may be mixed.

    What else has changed is no matter, such as a GPU's persistence daemon that has come up.
    """
    if inventories.holds(held, config):
        return
    now = inventories.load(config, detailed=held.inventory.detailed)
    again = plan.make(made.request, now, made.gpus, made.image, config)
    if (again.edits.mounts, again.driver_version) != (made.edits.mounts, made.driver_version):
        what = f"NVIDIA driver {made.driver_version}"
        raise DriverError(what, "was exchanged while the container started", "start the container again")


def _is_attached(container: Container, config: Config) -> bool:
    """Tell whether the container has its GPUs already; clean up after a former one of its name that nobody stopped."""
    if not journal.has_entry(config, container.id):
        return False
    from oci_gpu_hook.apply import cleanup
    from oci_gpu_hook.apply.journal import reader

    entry = reader.read(config, container.id)
    if entry is None:
        return False
    alive = entry.is_alive()
    if not alive:
        cleanup.detach(container.id, config)  # its hook was killed, or no engine ran its poststop
    return alive and entry.pid == container.pid

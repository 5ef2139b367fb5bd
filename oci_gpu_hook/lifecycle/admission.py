"""Admits a container: determines the devices that it is granted and the plan of what it gets.

All that give a container GPUs use this module: the hook, the runtime, the Mesos agent's launch, `repair`, and `oci-gpu
plan`, which changes nothing. They differ in where the devices come from: `Admitted` grants them and withdraws them if a
later step fails, `previewed` returns what would be granted, `readmitted` returns those that the container was given
before.
"""

from __future__ import annotations

from time import monotonic

from oci_gpu_hook.allocation import allocate
from oci_gpu_hook.apply import image_facts
from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import DriverError, HookError
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.edits import restricted
from oci_gpu_hook.plan import plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.edits import ContainerEdits
    from oci_gpu_hook.devices.model import Device
    from oci_gpu_hook.devices.vendor import Snapshot
    from oci_gpu_hook.lifecycle.arrival import Arrival
    from oci_gpu_hook.lifecycle.clock import Clock
    from oci_gpu_hook.lifecycle.restriction import Restriction
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.plan.plan import Plan
    from oci_gpu_hook.request.model import Request


class Admission(Record):
    """A container, its request, the devices that it gets, and the inventory from which they were chosen."""

    container: Container
    request: Request
    config: Config
    snapshot: Snapshot
    devices: tuple[Device, ...]

    @property
    def uuids(self) -> tuple[str, ...]:
        """The UUIDs of the devices, for NVIDIA_VISIBLE_DEVICES."""
        return tuple(device.uuid for device in self.devices)

    def device_edits(self) -> ContainerEdits:
        """Return the part of the plan that does not depend on the rootfs: nodes, and the groups that may use them."""
        return plan.of_devices(self.request, self.snapshot.inventory, self.devices)

    def plan(self, rootfs: Rootfs, clock: Clock | None = None) -> Plan:
        """Read the facts of the container's image, and return the plan. Raises HookError."""
        facts = image_facts.look(rootfs, self.container, self.config, self.request.kind)
        if clock:
            clock.lap("image")
        made = plan.make(self.request, self.snapshot.inventory, self.devices, facts, self.config)
        nodes = restricted(made.edits.device_nodes)
        if nodes:
            from oci_gpu_hook.lifecycle import container_user
            from oci_gpu_hook.plan import node_access

            user = container_user.of(self.container, nodes)
            made = made.replace(warnings=(*made.warnings, *node_access.warnings(user, nodes)))
        if clock:
            clock.lap("plan")
        return made

    def confirm(self, made: Plan) -> None:
        """Raise DriverError if the driver was replaced after the plan was made: files of two drivers may be mixed.

        Other changes, such as the start of a persistence daemon, do not matter.
        """
        vendor = vendors.of(self.request.kind)
        if vendor.is_fresh(self.snapshot, self.config):
            return
        now = vendor.snapshot(self.request, self.config).inventory
        again = plan.make(made.request, now, made.devices, made.image, self.config)
        if (again.edits.mounts, again.driver_version) != (made.edits.mounts, made.driver_version):
            what = f"NVIDIA driver {made.driver_version}"
            raise DriverError(what, "was exchanged while the container started", "start the container again")


class Admitted:
    """Grants a container its devices for a `with` block, and withdraws the grant if the block fails."""

    def __init__(
        self,
        container: Container,
        request: Request,
        config: Config,
        *,
        clock: Clock | None = None,
        restriction: Restriction | None = None,
    ) -> None:
        self._container = container
        self._request = request
        self._config = config
        self._clock = clock
        self._restriction = restriction
        self._uuids: tuple[str, ...] = ()
        self._arrival: Arrival | None = None

    def __enter__(self) -> Admission:
        """Raise DriverError, AllocationError or InvalidInput if the request cannot be granted; then nothing is held."""
        request, container, config = self._request, self._container, self._config
        began = monotonic()
        try:
            snapshot = self._snapshot(began)
        except HookError as error:
            log.error("refused", reason=str(error))
            raise
        self._lap("inventory")
        of_host = vendors.of(request.kind).devices(snapshot.inventory, config)
        if self._restriction:
            from oci_gpu_hook.lifecycle import restriction  # under Mesos alone

            of_host = restriction.devices_within(self._restriction, of_host, request)
        try:
            devices = allocate.allocate(request, of_host, container, config, began)  # it logs its own refusals
        except HookError as error:
            self._tell_wait(error)
            raise
        self._lap("allocation")
        self._uuids = tuple(device.uuid for device in devices)
        if self._restriction:  # from here on `all` and a count mean these devices
            request = request.replace(devices=self._uuids, count=None, memory=0)
        return Admission(container=container, request=request, config=config, snapshot=snapshot, devices=devices)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            self._tell_wait(error)
            log.error("failed", reason=str(error), gpus=list(self._uuids))
            from oci_gpu_hook.allocation import release

            release.withdraw(self._container.id, self._container.pid, self._config)

    def _snapshot(self, began: float) -> Snapshot:
        request, config = self._request, self._config
        if not request.wait:
            return vendors.of(request.kind).snapshot(request, config)
        from oci_gpu_hook.lifecycle.arrival import Arrival

        self._arrival = Arrival(self._container, request, config, began)
        return self._arrival.snapshot()

    def _tell_wait(self, error: BaseException) -> None:
        if self._arrival and isinstance(error, HookError):
            self._arrival.tell(error)

    def _lap(self, step: str) -> None:
        if self._clock:
            self._clock.lap(step)


def previewed(container: Container, request: Request, config: Config, clock: Clock) -> Admission:
    """Return what a start would be granted now, without recording it. Raises HookError."""
    from oci_gpu_hook.allocation import query

    vendor = vendors.of(request.kind)
    snapshot = vendor.snapshot(request, config)
    clock.lap("inventory")
    devices = query.preview(request, vendor.devices(snapshot.inventory, config), config)
    clock.lap("allocation")
    return Admission(container=container, request=request, config=config, snapshot=snapshot, devices=devices)


def readmitted(container: Container, request: Request, config: Config, uuids: Iterable[str]) -> Admission:
    """Return the admission of a running container by the UUIDs of the devices that it was granted.

    Raises DriverError if the host no longer has one of them.
    """
    vendor = vendors.of(request.kind)
    snapshot = vendor.snapshot(request, config)
    known = {device.uuid: device for device in vendor.devices(snapshot.inventory, config)}
    devices = []
    for uuid in uuids:
        if uuid not in known:
            raise DriverError(f"GPU {uuid}", "the host no longer has it", "restart the container")
        if known[uuid].fault:
            why = f"the driver has lost it: {known[uuid].fault}"
            raise DriverError(f"GPU {uuid}", why, "restart the container when the GPU works again, or with another")
        devices.append(known[uuid])
    return Admission(container=container, request=request, config=config, snapshot=snapshot, devices=tuple(devices))

"""Admits a container: determines the devices that it is granted and the plan of what it gets.

All that give a container GPUs use this module: the hook, the runtime and the Mesos agent's launch. `Admitted` grants
the devices and withdraws them if a later step fails. `readmission` has the two ways that grant nothing: what would be
granted, for `oci-gpu plan`, and what a container was given before, for `repair`.
"""

from __future__ import annotations

from time import monotonic

from oci_gpu_hook.allocation import allocate
from oci_gpu_hook.apply import image_facts
from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import BUG, DriverError, HookError
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.devices.edits import ContainerEdits, restricted
from oci_gpu_hook.plan import plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.model import Device, Limiter
    from oci_gpu_hook.devices.vendor import Snapshot
    from oci_gpu_hook.lifecycle.arrival import Arrival
    from oci_gpu_hook.lifecycle.clock import Clock
    from oci_gpu_hook.lifecycle.restriction import Restriction
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.oci.image import Image
    from oci_gpu_hook.plan.plan import Plan
    from oci_gpu_hook.request.model import Request


NO_SNAPSHOTS: Final[Mapping[str, Snapshot]] = {}


class Admission(Record):
    """A container, its request, the devices that it gets, and the inventory from which they were chosen.

    beside: the same for devices of other kinds.
    """

    container: Container
    request: Request
    config: Config
    snapshot: Snapshot
    devices: tuple[Device, ...]
    beside: tuple[Admission, ...] = ()

    @property
    def parts(self) -> tuple[Admission, ...]:
        """What was admitted of each kind."""
        return (self, *self.beside)

    @property
    def uuids(self) -> tuple[str, ...]:
        """The UUIDs of the devices, those of other kinds last."""
        return tuple(device.uuid for part in (self, *self.beside) for device in part.devices)

    @property
    def visible_devices(self) -> tuple[str, ...]:
        """The UUIDs that NVIDIA_VISIBLE_DEVICES takes."""
        return tuple(device.uuid for device in self.devices if device.kind in vendors.KINDS)

    @property
    def is_described(self) -> bool:
        """Whether any of it is by CDI specification files, which may bring more than nodes, files and links."""
        return bool(self.beside) or self.request.kind not in vendors.KINDS

    @property
    def is_limited(self) -> bool:
        """Whether the container is held to parts of its devices."""
        if self.config.sharing_enforce == "none":
            return False
        return self.request.is_share or True in [part.request.is_share for part in self.beside]

    def limiter(self) -> Limiter:
        """Return what holds the container to its parts. Raises InvalidInput, DriverError where nothing can."""
        from oci_gpu_hook.lifecycle import limiting

        part = next(part for part in (self, *self.beside) if part.request.is_share)
        return limiting.limiter(self.container, part.request, part.snapshot.inventory, part.devices)

    def device_edits(self) -> ContainerEdits:
        """Return nodes and groups, which need no rootfs, but for what CDI specifications describe."""
        if self.request.kind not in vendors.KINDS:  # what has its own room is of one kind, and comes first
            return ContainerEdits()
        return plan.of_devices(self.request, self.snapshot.inventory, self.devices)

    def described_edits(self) -> ContainerEdits:
        """Return what CDI specifications describe, all of it: none of it needs the rootfs."""
        from oci_gpu_hook.devices import compose

        parts = [part for part in (self, *self.beside) if part.request.kind not in vendors.KINDS]
        edits = compose.merged(
            *(plan.of_devices(part.request, part.snapshot.inventory, part.devices) for part in parts)
        )
        return compose.owned(edits, self.container.uid, self.container.gid)

    def plan(self, rootfs: Rootfs, clock: Clock | None = None) -> Plan:
        """Read the facts of the container's image, and return the plan. Raises HookError."""
        facts = image_facts.look(rootfs, self.container, self.config, self.request.kind)
        if clock:
            clock.lap("image")
        made = self.made(facts)
        if self.is_limited:
            from oci_gpu_hook.lifecycle import limiting

            made = limiting.added(made, self.limiter(), self.container, self.config)
        nodes = restricted(made.edits.device_nodes)
        if nodes:
            from oci_gpu_hook.lifecycle import container_user
            from oci_gpu_hook.plan import node_access

            user = container_user.of(self.container, nodes)
            made = made.replace(warnings=(*made.warnings, *node_access.warnings(user, nodes)))
        if clock:
            clock.lap("plan")
        return made

    def made(self, facts: Image) -> Plan:
        """Return the plan for an image of which the facts are known. Raises HookError."""
        made = plan.make(self.request, self.snapshot.inventory, self.devices, facts, self.config)
        if not self.is_described:
            return made
        from oci_gpu_hook.devices import compose

        others = [part.made(facts) for part in self.beside]
        made = plan.joined(made, others) if others else made
        return made.replace(edits=compose.owned(made.edits, self.container.uid, self.container.gid))

    def confirm(self, made: Plan) -> None:
        """Raise DriverError if the driver was replaced after the plan was made: files of two drivers may be mixed.

        Other changes, such as the start of a persistence daemon, do not matter.
        """
        parts = (self, *self.beside)
        if all(vendors.of(part.request.kind).is_fresh(part.snapshot, part.config) for part in parts):
            return
        now = [
            part.replace(snapshot=vendors.of(part.request.kind).snapshot(part.request, part.config)) for part in parts
        ]
        again = now[0].replace(beside=tuple(now[1:])).made(made.image)
        if (again.edits.mounts, again.driver_version) != (made.edits.mounts, made.driver_version):
            what = f"NVIDIA driver {made.driver_version}" if made.driver_version else "what describes its devices"
            raise DriverError(what, "was replaced while the container started", "start the container again", "OGH1409")


class Admitted:
    """Grants a container its devices for a `with` block, and withdraws the grant if the block fails.

    snapshots: inventories that this process has looked at for the same request a moment ago, by kind. Whether they
    still hold is asked later, by `Admission.confirm`.
    """

    def __init__(  # noqa: PLR0913
        self,
        container: Container,
        request: Request,
        config: Config,
        *,
        clock: Clock | None = None,
        restriction: Restriction | None = None,
        snapshots: Mapping[str, Snapshot] = NO_SNAPSHOTS,
    ) -> None:
        self._container = container
        self._request = request
        self._config = config
        self._clock = clock
        self._restriction = restriction
        self._snapshots = snapshots
        self._uuids: tuple[str, ...] = ()
        self._arrival: Arrival | None = None

    def __enter__(self) -> Admission:
        """Raise DriverError, AllocationError or InvalidInput if the request cannot be granted; then nothing is held."""
        began = monotonic()
        request = self._request
        if request.is_open:
            request = self._settled(request)
        if not request.beside:
            return self._granted(request, began)
        try:  # always in this order, so that of two which wait each other out one gets on
            first, *others = [self._granted(each, began) for each in (request, *request.beside)]
        except HookError:
            self._withdraw()
            raise
        return first.replace(beside=tuple(others))

    def _settled(self, request: Request) -> Request:
        """Return the request with the kinds that it leaves open. Raises InvalidInput."""
        from oci_gpu_hook.lifecycle import kinds

        if self._restriction:  # whose GPUs are NVIDIA's
            return request.replace(any_kind=False)
        try:
            return kinds.settled(request, self._config)
        except HookError as error:
            log.error("refused", reason=str(error), code=error.code)
            raise

    def _granted(self, request: Request, began: float) -> Admission:
        """Grant what is asked for of one kind."""
        container, config = self._container, self._config
        restriction = self._restriction if request.kind in vendors.KINDS else None
        try:
            snapshot = self._snapshot(request, began)
        except HookError as error:
            log.error("refused", reason=str(error), code=error.code)
            raise
        self._lap("inventory")
        of_host = vendors.of(request.kind).devices(snapshot.inventory, config)
        try:
            request = served(request, snapshot, of_host)
        except HookError as error:
            self._tell_wait(error)
            log.error("refused", reason=str(error), code=error.code)
            raise
        if restriction:
            from oci_gpu_hook.lifecycle.restriction import restricted_to

            of_host = restricted_to(restriction, of_host, request)
        try:
            # It logs its own refusals.
            devices = allocate.allocate(request, of_host, container, config, began=began, freed=freed)
        except HookError as error:
            self._tell_wait(error)
            raise
        self._lap("allocation")
        uuids = tuple(device.uuid for device in devices)
        self._uuids += uuids
        if restriction:  # from here on `all` and a count mean these devices
            request = request.replace(devices=uuids, count=None, memory=0)
        return Admission(container=container, request=request, config=config, snapshot=snapshot, devices=devices)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            self._tell_wait(error)
            log.error("failed", reason=str(error), code=getattr(error, "code", BUG), gpus=list(self._uuids))
            self._withdraw()

    def _withdraw(self) -> None:
        from oci_gpu_hook.allocation import release

        release.withdraw(self._container.id, self._container.pid, self._config)

    def _snapshot(self, request: Request, began: float) -> Snapshot:
        config = self._config
        if request.kind in self._snapshots:
            return self._snapshots[request.kind]
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


def served(request: Request, snapshot: Snapshot, devices: Sequence[Device]) -> Request:
    """Return the request without the names that are left to the engine. Raises InvalidInput."""
    names, warnings = vendors.of(request.kind).served(request, snapshot.inventory, devices)
    if not warnings:
        return request
    return request.replace(devices=names, warnings=(*request.warnings, *warnings))


def freed(config: Config) -> bool:
    """Give back what killed attachments hold, and tell whether there was something. Raises AllocationError."""
    from oci_gpu_hook.lifecycle import unlisted

    return unlisted.freed(config)

"""From a container and its request to the devices that it is granted and the plan of what it gets.

Every way of giving a container GPUs comes through here: the hook, the runtime, the Mesos agent's launch, `repair`, and
`oci-gpu plan`, which changes nothing. What differs between them is where the devices come from: `Admitted` grants them
and takes them back where what follows fails, `previewed` asks what would be granted, `readmitted` names those that the
container was given.
"""

from __future__ import annotations

from oci_gpu_hook.allocation import allocate, names, release
from oci_gpu_hook.allocation.model import Granted
from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import AllocationError, DriverError, HookError
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.nvidia import for_request
from oci_gpu_hook.devices.nvidia import snapshot as snapshots
from oci_gpu_hook.devices.nvidia.model import Inventory
from oci_gpu_hook.plan import image, plan
from oci_gpu_hook.request.model import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
    from oci_gpu_hook.base.config.config import Config
    from oci_gpu_hook.devices.edits import ContainerEdits
    from oci_gpu_hook.devices.nvidia.snapshot import Held
    from oci_gpu_hook.lifecycle.clock import Clock
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.plan.plan import Plan


class Admission(Record):
    """A container, what it asks for, and the devices that it gets, out of what the host had when that was decided."""

    container: Container
    request: Request
    config: Config
    snapshot: Held
    devices: tuple[Granted, ...]

    @property
    def uuids(self) -> tuple[str, ...]:
        """The UUIDs of the devices, as NVIDIA_VISIBLE_DEVICES takes them."""
        return tuple(device.uuid for device in self.devices)

    def device_edits(self) -> ContainerEdits:
        """Return the part of the plan that needs no rootfs: the nodes, and the groups that may use them."""
        return plan.of_devices(self.request, self.snapshot.inventory, self.devices)

    def plan(self, rootfs: Rootfs, clock: Clock | None = None) -> Plan:
        """Return what the container gets, by the facts of its image. Raises HookError."""
        facts = image.look(rootfs, self.container, self.config)
        if clock:
            clock.lap("image")
        made = plan.make(self.request, self.snapshot.inventory, self.devices, facts, self.config)
        if clock:
            clock.lap("plan")
        return made

    def confirm(self, made: Plan) -> None:
        """Raise DriverError where the driver has been replaced since the plan was made: its files may be mixed.

        Other changes do not matter, such as a persistence daemon that has come up.
        """
        if snapshots.holds(self.snapshot, self.config):
            return
        now = snapshots.load(self.config, detailed=self.snapshot.inventory.detailed)
        again = plan.make(made.request, now, made.gpus, made.image, self.config)
        if (again.edits.mounts, again.driver_version) != (made.edits.mounts, made.driver_version):
            what = f"NVIDIA driver {made.driver_version}"
            raise DriverError(what, "was exchanged while the container started", "start the container again")


class Restriction(Record):
    """The GPUs that a container may be granted at all, because something else has chosen them: by device minors.

    who: what has chosen them, and remedy: what to do about it, for messages.
    """

    minors: frozenset[int]
    who: str
    remedy: str


class Admitted:
    """Grants a container what it asks for, for a `with` block; withdraws the grant where the block fails."""

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

    def __enter__(self) -> Admission:
        """Raise DriverError, AllocationError or InvalidInput where nothing can be granted; then nothing is held."""
        request, container, config = self._request, self._container, self._config
        try:
            snapshot = for_request.hold(request, config)
        except HookError as error:
            log.error("refused", reason=str(error))
            raise
        self._lap("inventory")
        inventory = snapshot.inventory
        if self._restriction:
            inventory = _restricted(inventory, request, self._restriction)
        devices = allocate.grant(request, inventory, container, config)  # logs a refusal of its own
        self._lap("allocation")
        self._uuids = tuple(device.uuid for device in devices)
        if self._restriction:  # `all` and a count mean these devices from here on
            request = Request(**{**request.__dict__, "devices": self._uuids, "count": None, "memory": 0})
        return Admission(container=container, request=request, config=config, snapshot=snapshot, devices=devices)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            log.error("failed", reason=str(error), gpus=list(self._uuids))
            release.withdraw(self._container.id, self._container.pid, self._config)

    def _lap(self, step: str) -> None:
        if self._clock:
            self._clock.lap(step)


def previewed(container: Container, request: Request, config: Config, clock: Clock) -> Admission:
    """Return what a start would be granted now, and record nothing. Raises HookError."""
    from oci_gpu_hook.allocation import query

    snapshot = for_request.hold(request, config, whole=True)
    clock.lap("inventory")
    devices = query.preview(request, snapshot.inventory, config)
    clock.lap("allocation")
    return Admission(container=container, request=request, config=config, snapshot=snapshot, devices=devices)


def readmitted(container: Container, request: Request, config: Config, uuids: Iterable[str]) -> Admission:
    """Return what a running container was granted, by the UUIDs of its devices.

    Raises DriverError where the host does not have one of them any more.
    """
    snapshot = for_request.hold(request, config)
    gpus = snapshot.inventory.gpus
    known = {device.uuid: device for gpu in gpus for device in (Granted(gpu=gpu), *names.parts(gpu))}
    devices = []
    for uuid in uuids:
        if uuid not in known:
            raise DriverError(f"GPU {uuid}", "the host has it no more", "restart the container")
        devices.append(known[uuid])
    return Admission(container=container, request=request, config=config, snapshot=snapshot, devices=tuple(devices))


def _restricted(inventory: Inventory, request: Request, restriction: Restriction) -> Inventory:
    """Return the inventory with the GPUs that may be granted. Raises AllocationError for a request for others."""
    own = tuple(gpu for gpu in inventory.gpus if gpu.minor in restriction.minors)
    if request.count is None and request.devices != ("all",):
        for device in names.resolve(request.devices, inventory):
            if device.gpu.minor not in restriction.minors:
                why = f"{restriction.who} has not given it to this container"
                raise AllocationError(f"GPU {device.gpu.index}", why, restriction.remedy)
    elif request.count is not None and not request.devices and request.count > len(own):
        why = f"{restriction.who} has given this container {len(own)}"
        raise AllocationError(f"{request.count} GPUs", why, restriction.remedy)
    return Inventory(**{**inventory.__dict__, "gpus": own})

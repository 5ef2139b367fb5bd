"""The room of every kind that has none: a `devices.vendor.Vendor` over the host's CDI specifications."""

from __future__ import annotations

from oci_gpu_hook.base.errors import DriverError, HookError, InvalidInput, quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices import compose
from oci_gpu_hook.devices.cdi import compiled, names
from oci_gpu_hook.devices.cdi import devices as of_cdi
from oci_gpu_hook.devices.cdi.model import Inventory, Snapshot
from oci_gpu_hook.devices.edits import UNSAID, ContainerEdits
from oci_gpu_hook.devices.model import Contribution, Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container as Collection
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.cdi.model import Described
    from oci_gpu_hook.devices.model import Device, Limiter
    from oci_gpu_hook.devices.use import DeviceUse
    from oci_gpu_hook.devices.vendor import Request, Rootfs
    from oci_gpu_hook.oci.container import Container
    from oci_gpu_hook.oci.image import Image


_UNDESCRIBED: Final = "no CDI specification of this host has it any more"


class NoFacts(Record):
    """What CDI's edits depend on in an image: nothing."""


class Room:
    """The devices of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.TERMS = Terms(whole=f"{kind} device", part=f"{kind} device", partitioned="that are divided")

    def snapshot(self, request: Request, config: Config) -> Snapshot:
        """Return what the specification files have of the kind. Raises DriverError.

        A container whose engine may have served it already does not fail by files that cannot be read here.
        """
        try:
            return compiled.of_kind(self.kind, config)
        except DriverError as error:
            if not request.engine_serves:
                raise
            broken = (str(error),)
        return Snapshot(inventory=Inventory(kind=self.kind, directories=config.cdi_spec_dirs, broken=broken), facts=[])

    def inventory(self, config: Config) -> Inventory:
        """Return all that there is of the kind. Raises DriverError."""
        return compiled.of_kind(self.kind, config).inventory

    def is_fresh(self, snapshot: Snapshot, config: Config) -> bool:
        """Tell whether the files are as they were."""
        return compiled.is_fresh(snapshot, config)

    def not_yet(self, request: Request, inventory: Inventory, config: Config) -> str:
        """Say which device that is asked for no specification has yet, or which node the host lacks."""
        devices = self.devices(inventory, config)
        if request.count is not None:
            working = [device for device in devices if device.countable and not device.fault]
            return "" if len(working) >= request.count else f"more {self.TERMS.whole}s"
        for name in request.devices:
            try:
                names.resolve(self.kind, (name,), devices)
            except HookError:
                return f"the CDI device {quoted(f'{self.kind}={name}')}"
        return ""

    def devices(self, inventory: Inventory, config: Config) -> tuple[Device, ...]:
        """Return the devices; those that are several of the others come last."""
        return of_cdi.of(inventory, config.allocation_exclude, config.sharing_reserve)

    def running_driver(self, _config: Config) -> str:
        """Return nothing: CDI knows no driver."""
        return ""

    def made_node(self, _path: str, _config: Config) -> tuple[int, int] | None:
        """Return nothing: a node that the host does not have is not invented."""
        return None

    def resolve(self, wanted: Iterable[str], devices: Sequence[Device]) -> tuple[Device, ...]:
        """Return the devices that are named. Raises InvalidInput, DriverError."""
        return names.resolve(self.kind, wanted, devices)

    def served(
        self, request: Request, inventory: Inventory, devices: Sequence[Device]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names that stand for devices, and warnings of those that are left to the engine."""
        return names.served(request, inventory, devices)

    def lost(self, uuids: Iterable[str], config: Config) -> dict[str, str]:
        """Return those of the devices that no specification has any more, or whose nodes the host lacks, and why."""
        try:
            inventory = self.inventory(config)
        except HookError:
            return {}  # unknown
        devices = self.devices(inventory, config)
        found = {}
        for uuid in uuids:
            device = names.find(self.kind, uuid, devices)
            if device is None:
                found[uuid] = "this host no longer has it" if inventory.by_kernel else _UNDESCRIBED
            elif device.fault:
                found[uuid] = f"the host lacks a node of it ({device.fault})"
        return found

    def of_nodes(
        self,
        devices: Sequence[Device],
        _inventory: Inventory,
        numbers: Collection[tuple[int, int]],
        host_paths: Collection[str],
    ) -> tuple[Device, ...]:
        """Return the devices that can be used through such nodes: those with a node that no other has."""
        from oci_gpu_hook.devices.cdi import of_nodes

        return of_nodes.used(devices, numbers, host_paths)

    def no_profile(self, profile: str, _devices: Sequence[Device]) -> InvalidInput:
        """Return the error for a profile: CDI knows none."""
        what = f"{quoted(profile)} of {self.kind}"
        return InvalidInput(
            what, "is given with a count, and CDI has no sizes of devices", "ask by count or by name", "OGH1203"
        )

    def of_minors(self, devices: Sequence[Device], _minors: Collection[int]) -> tuple[Device, ...]:
        """Return all: who restricts by minors has chosen among the devices of another kind."""
        return tuple(devices)

    def image_facts(self, _rootfs: Rootfs, _container: Container, _config: Config) -> Record:
        """Return that nothing depends on the image."""
        return NoFacts()

    def contribution(
        self, request: Request, inventory: Inventory, devices: Sequence[Device], _image: Image, _config: Config
    ) -> Contribution:
        """Return the edits of the devices' entries. Raises DriverError for a node that the host lacks."""
        entries = self._entries(request, inventory, devices)
        files = [inventory.files[entry.file][0] for entry in entries]
        told = "shows it" if inventory.by_kernel else "describes it"
        names = [f"{self.kind}={entry.name}" for entry in entries]
        return Contribution(
            edits=self.device_edits(request, inventory, devices),
            links=tuple(dict.fromkeys(link for entry in entries for link in entry.links)),
            decisions=tuple(f"{name} is as {file} {told}" for name, file in zip(names, files, strict=True)),
            warnings=tuple(_hidden(names, entries)),
        )

    def device_edits(self, request: Request, inventory: Inventory, devices: Sequence[Device]) -> ContainerEdits:
        """Return all edits, as none needs the image. Raises DriverError for what the host lacks.

        Owners that no specification says are left unsaid: `compose.owned` knows them.
        """
        parts = []
        seen = set()
        for entry in self._entries(request, inventory, devices):
            if entry.file not in seen:  # what a file brings for any of its devices, once, before them
                seen.add(entry.file)
                parts.append(inventory.files[entry.file][1])
            parts.append(entry.edits)
        found = compose.merged(*parts)
        return found.replace(
            device_nodes=tuple(compose.filled(node, uid=UNSAID, gid=UNSAID) for node in found.device_nodes),
            mounts=tuple(compose.placed(mount) for mount in found.mounts),
        )

    def views(self, _devices: Sequence[Device]) -> tuple[str, ...]:
        """Return nothing: what specifications describe is mounted as it is."""
        return ()

    def used(self, _config: Config) -> dict[str, DeviceUse]:
        """Return nothing: specifications describe devices, and nothing meters them."""
        return {}

    def limiter(self, _request: Request, _inventory: Inventory, _devices: Sequence[Device]) -> Limiter:
        """Raise InvalidInput: nothing here can hold a container to a part of these devices."""
        why = "this project can hold containers to parts of NVIDIA's GPUs only"
        remedy = 'ask for whole devices, or set [sharing] enforce = "none", which reserves parts without enforcing them'
        raise InvalidInput(f"a part of a device of kind {quoted(self.kind)}", why, remedy, "OGH1216")

    def to_json(self, device: Device) -> dict[str, object]:
        """Return what `oci-gpu plan --json` shows of a device."""
        return {"kind": self.kind, "name": device.name, "id": device.uuid, "names": list(of_cdi.native(device).names)}

    def _entries(self, request: Request, inventory: Inventory, devices: Sequence[Device]) -> list[Described]:
        every = of_cdi.of(inventory)
        return names.entries(request, self.kind, every, devices)


def _hidden(names: Sequence[str], entries: Sequence[Described]) -> Iterator[str]:
    """Yield what a container does not get of one device, since another has a different node at that path.

    Engines say nothing of it: of two nodes at one path the later one counts.
    """
    found: dict[str, tuple[str, object]] = {}
    for name, entry in zip(names, entries, strict=True):
        for node in entry.edits.device_nodes:
            other, numbers = found.get(node.path, (name, None))
            found[node.path] = name, of_cdi.numbers_of(node)
            if other != name and numbers != found[node.path][1]:
                yield f"{quoted(node.path)} is a node of {name} in the container, and not the different one of {other}"

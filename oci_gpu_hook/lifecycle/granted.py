"""What oci-gpu-runtime has granted to a container that is being made, for the hook that the same process carries out.

A hook works out what its container is granted from the bundle's config.json and the host's inventory. The process that
did so a moment ago, and wrote that config.json, has it all at hand. What may be another by now is looked at again:
config.json is compared byte by byte, the lease is passed on under the lock of the table, and the driver's facts are
confirmed by the start (`Admission.confirm`).
"""

from __future__ import annotations

from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.oci import container as containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from oci_gpu_hook.base.config.model import Config
    from oci_gpu_hook.devices.vendor import Snapshot
    from oci_gpu_hook.oci.container import State
    from oci_gpu_hook.request.model import Request


class Granted(Record):
    """A grant to a container that is not there yet.

    container: its id. annotations: its own, without its image's and what the runtime adds. written, document: the
    config.json of its bundle as it was prepared, as bytes and parsed. snapshots: the inventories that it was granted
    from, by kind.
    """

    container: str
    bundle: str
    annotations: Mapping[str, str]
    written: bytes
    document: Mapping[str, Any]
    request: Request
    config: Config
    snapshots: Mapping[str, Snapshot]

    def is_for(self, state: State) -> bool:
        """Tell whether the container that an engine is starting is the one, with the bundle as it was prepared."""
        if (state.id, state.bundle) != (self.container, self.bundle) or state.status == "stopped":
            return False
        try:
            return containers.read_config(state.bundle) == self.written
        except InvalidInput:
            return False

    def attach(self, state: State, started: float) -> None:
        """Give the container what was granted. Raises HookError; then nothing was changed.

        started: time.perf_counter() when the hook began.
        """
        from oci_gpu_hook.lifecycle import start

        # Which annotations its image says was found out when it was prepared: it takes a look at the engine's records.
        document = {**self.document, "annotations": {}}
        container = containers.of_document(document, state.replace(annotations={}))
        container = container.replace(annotations=self.annotations, config=self.document)
        start.start(container, self.request, self.config, started, snapshots=self.snapshots)

"""A CDI specification as values. Source: Container Device Interface 1.1.0, SPEC.md and specs-go/config.go."""

from __future__ import annotations

from oci_gpu_hook.base.errors import LONGEST_VALUE, one_line
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oci_gpu_hook.devices.edits import ContainerEdits


class SpecDevice(Record):
    """A device in a specification: its name (the part of the qualified name after "=") and its edits."""

    name: str
    annotations: Mapping[str, str]
    edits: ContainerEdits


class Specification(Record):
    """A specification. edits: what a container gets once, with any of the devices."""

    cdi_version: str
    kind: str
    annotations: Mapping[str, str]
    devices: tuple[SpecDevice, ...]
    edits: ContainerEdits


class Problem(Record):
    """A problem in a specification file.

    line: counted from 1; 0 if the problem is not in a line. place: the field, as
    "devices[1].containerEdits.mounts[0].hostPath". what: the rule that is broken. remedy: what to write instead.
    """

    line: int
    place: str
    what: str
    remedy: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        # The names of annotations are the file's.
        place = self.place if len(self.place) <= LONGEST_VALUE else self.place[: LONGEST_VALUE - 1] + "…"
        return one_line(f"{where}{place + ': ' if place else ''}{self.what}; {self.remedy}")

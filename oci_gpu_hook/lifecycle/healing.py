"""Looks after the containers that run: puts back what they lose, of what they were given.

A look costs little, so that it can be repeated: whether a container's device rules are those that it was left with, and
whether systemd's drop-in is there, tells what reloads of systemd and updates by engines take away. Which containers
that shows to be different, and now and then each of them, are verified as a whole, and repaired.
"""

from __future__ import annotations

import os
from time import monotonic, time_ns

from oci_gpu_hook.apply.device_access import stamp
from oci_gpu_hook.apply.journal import reader
from oci_gpu_hook.apply.journal.entry import DIRECTORY, path_in
from oci_gpu_hook.apply.systemd import drop_in
from oci_gpu_hook.base import log
from oci_gpu_hook.base.errors import ApplyError, HookError
from oci_gpu_hook.base.processes import lives
from oci_gpu_hook.devices import vendors
from oci_gpu_hook.lifecycle import repair, verify
from oci_gpu_hook.lifecycle.patience import Patience
from oci_gpu_hook.request.model import DEFAULT_KIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from oci_gpu_hook.apply.device_access.stamp import Place
    from oci_gpu_hook.apply.journal.entry import Entry
    from oci_gpu_hook.base.config.model import Config

LOOKS: Final = 240  # after how many looks each container is verified as a whole
_AT_A_TIME: Final = 20  # containers that are verified in one look, beside those that look different
_UNSETTLED_NS: Final = 100_000_000  # a directory may change twice within one tick of the file system's clock


class Ward:
    """A container that is looked after."""

    def __init__(self, entry: Entry, file: tuple[int, int], due: float) -> None:
        self.entry = entry
        self.file = file  # inode and time of its journal entry
        self.due = due  # when it is verified as a whole
        self.place: Place | None = None  # of its device rules
        self.stamp: object = None  # of its device rules, when it was last verified
        self.has_drop_in = False  # then
        self.patience = Patience()
        self.told: dict[str, frozenset[str]] = {}  # what was said of it already, by event


class Healer:
    """Looks after all containers of a state directory.

    tell: logs an event with fields; its first argument is "info" or "warning". interval: seconds from look to look.
    """

    def __init__(self, config: Config, tell: Callable[..., object], interval: float) -> None:
        self._config = config
        self._tell = tell
        self._interval = interval
        self._wards: dict[str, Ward] = {}
        self._listed = 0  # the time of the journal's directory when it was listed, 0 if it is to be listed again
        self._has_looked = False
        _import_for_children()

    @property
    def units(self) -> frozenset[str]:
        """The systemd units of the containers."""
        return frozenset(ward.entry.unit for ward in self._wards.values() if ward.entry.unit)

    def suspect(self) -> None:
        """Have all containers verified as a whole by the next looks."""
        for ward in self._wards.values():
            ward.due = 0.0

    def look(self) -> bool:
        """Look at all containers, and repair those that have lost something; tell whether others are to be verified."""
        self._take_stock()
        now = monotonic()
        due = []
        for key, ward in [*self._wards.items()]:
            if self._is_different(ward):
                self._heal(key, ward)
            elif ward.due <= now:
                due.append((key, ward))
        for key, ward in due[:_AT_A_TIME]:
            self._heal(key, ward)
        self._has_looked = True
        return len(due) > _AT_A_TIME

    def _take_stock(self) -> None:
        """Read the journal's entries that are new or have changed, and forget those that are gone."""
        directory = os.path.join(self._config.state_dir, DIRECTORY)
        try:
            changed = os.stat(directory).st_mtime_ns
        except OSError:
            self._wards = {}
            return
        if changed == self._listed:
            return
        wards = {}
        for key in reader.keys(self._config):
            try:
                status = os.stat(path_in(directory, key))
            except OSError:
                continue
            file = (status.st_ino, status.st_mtime_ns)
            ward = self._wards.get(key)
            if ward is None or ward.file != file:
                ward = self._read(key, file, ward)
            if ward is not None:
                wards[key] = ward
        self._wards = wards
        self._listed = changed if time_ns() - changed > _UNSETTLED_NS else 0

    def _read(self, key: str, file: tuple[int, int], before: Ward | None) -> Ward | None:
        """Return what is known of a container whose entry is new or has changed, None if it cannot be read."""
        entry = reader.read(self._config, key)
        if entry is None:
            return None
        if before is not None:
            before.entry, before.file, before.place, before.due = entry, file, None, 0.0
            return before
        # What has just been started has everything. Those that run already when this begins may have lost it before.
        due = monotonic() + self._interval * (LOOKS + hash(key) % LOOKS) if self._has_looked else 0.0
        return Ward(entry, file, due)

    def _is_different(self, ward: Ward) -> bool:
        """Tell cheaply whether a container may have lost something."""
        if ward.place is None:
            if not ward.entry.is_alive():
                return False
            self._mark(ward)
            return False
        found = stamp.stamp_of(ward.place)
        if found is None:
            ward.place = None  # it has ended, or is in another cgroup by now
            ward.due = 0.0
            return False
        return found != ward.stamp or (ward.has_drop_in and not drop_in.exists(ward.entry.unit))

    def _mark(self, ward: Ward) -> None:
        """Take the container's device rules, and its drop-in, as they are now for those that it is to have."""
        ward.has_drop_in = bool(ward.entry.unit) and drop_in.exists(ward.entry.unit)
        try:
            ward.place = stamp.place_of(ward.entry.pid, ward.entry.cgroups_path)
            ward.stamp = stamp.stamp_of(ward.place)
        except (ApplyError, OSError):
            ward.place = None

    def _heal(self, key: str, ward: Ward) -> None:
        """Verify a container, and repair it unless that is to wait."""
        now = monotonic()
        entry = ward.entry
        if not ward.patience.allows(now) or not entry.is_alive() or lives(*entry.hook):
            return  # a start or an attachment that is under way looks after its container itself
        self._mark(ward)
        findings = verify.verify(entry, self._config, overused=False)
        if not entry.is_alive() or reader.read(self._config, key) != entry:
            return  # it has ended meanwhile, or was given something, or taken
        ward.due = now + self._interval * LOOKS
        self._tell_once(ward, "cannot be put back", [str(each) for each in findings if not each.repairable])
        if any(finding.kind == verify.UNKNOWN for finding in findings):
            ward.patience.note_repair(now)  # a look that has failed may have taken seconds
        elif any(finding.repairable for finding in findings):
            self._repair(ward)

    def _repair(self, ward: Ward) -> None:
        name = ward.entry.id
        refusals = []
        log.configure(self._config, container=name)
        try:
            for finding in repair.repair(ward.entry, self._config):
                self._tell("info", "put back", container=name, what=finding.what, reason=finding.why)
        except HookError as error:
            refusals = [str(error)]
        finally:
            log.configure(self._config)
        self._tell_once(ward, "not put back", refusals)
        pause = ward.patience.note_repair(monotonic())
        if pause and ward.patience.is_first_pause:
            why = "what was put back was lost again"
            self._tell("warning", "left alone for a while", container=name, seconds=int(pause), reason=why)
        self._mark(ward)
        ward.due = 0.0  # what changed while it was repaired would be taken for right otherwise

    def _tell_once(self, ward: Ward, event: str, texts: Sequence[str]) -> None:
        """Tell of a container what was not told of it by the last look."""
        said = frozenset(texts)
        for text in sorted(said - ward.told.get(event, frozenset())):
            self._tell("warning", event, container=ward.entry.id, reason=text)
        ward.told[event] = said


def _import_for_children() -> None:
    """Import what looks at containers need, which would otherwise be imported by the process of each look."""
    from oci_gpu_hook.lifecycle import container_user  # noqa: F401
    from oci_gpu_hook.plan import node_access  # noqa: F401

    vendors.of(DEFAULT_KIND)

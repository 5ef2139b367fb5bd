"""A tree of the host that no container may read, change or mount, and the proof that none has."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

SECRET = "of the host alone"


@dataclass
class Canary:
    """The tree. `full(rest)` has the path `rest` in it, `bare` is an empty directory; `seal` before the attack."""

    directory: Path
    _before: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("bare", "full"):
            (self.directory / name).mkdir(parents=True)
        (self.directory / "empty").touch()
        (self.directory / "secret").write_text(SECRET)

    @property
    def bare(self) -> Path:
        return self.directory / "bare"

    def full(self, rest: str) -> Path:
        """Return a directory, or for "" a file, such that what remains of a path after the trap exists there too."""
        if not rest:
            return self.directory / "empty"
        file = self.directory / "full" / rest
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        return self.directory / "full"

    @property
    def sealed(self) -> bool:
        return bool(self._before)

    def seal(self) -> None:
        self._before = fingerprint(self.directory)

    def is_untouched(self) -> bool:
        return fingerprint(self.directory) == self._before


def fingerprint(root: Path) -> dict[str, tuple]:
    """Return what can be told of every file and directory: kind, owner, size, both times, contents."""
    found = {}
    for directory, names, files in os.walk(root):
        for path in (directory, *(os.path.join(directory, name) for name in names + files)):
            info = os.lstat(path)
            facts = (info.st_mode, info.st_uid, info.st_gid, info.st_size, info.st_nlink, info.st_ino, info.st_rdev)
            times = (info.st_mtime_ns, info.st_ctime_ns)
            found[os.path.relpath(path, root)] = (*facts, *times, _contents(path))
    return found


def _contents(path: str) -> str:
    if os.path.islink(path):
        return os.readlink(path)
    if os.path.isfile(path):
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return ""

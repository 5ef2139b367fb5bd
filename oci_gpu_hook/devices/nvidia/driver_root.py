"""Resolves paths below the driver root, where absolute links begin at that root, as in a driver container.

The driver root belongs to the host and is trusted. Links are resolved only so that every path names the file itself.
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.base.files import read_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_MOST_LINKS: Final = 40  # as in the kernel, include/linux/namei.h MAXSYMLINKS


class DriverRoot:
    """A directory that is treated as `/`. Results are cached, since an object serves only one discovery."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path).rstrip("/")
        self._resolved: dict[str, str | None] = {"/": "/"}
        self._names: dict[str, tuple[str, ...]] = {}

    def host_path(self, path: str) -> str:
        """Return the host's path for a path of this root."""
        return f"{self._path}{path}" if path != "/" else self._path or "/"

    def resolve(self, path: str) -> str | None:
        """Return the path in this root without symbolic links; None if nothing is there."""
        return self._resolve(path, [_MOST_LINKS])

    def names(self, directory: str) -> tuple[str, ...]:
        """Return the names in a directory, sorted; none if there is no directory."""
        resolved = self.resolve(directory)
        if resolved is None:
            return ()
        if resolved not in self._names:
            try:
                self._names[resolved] = tuple(sorted(os.listdir(self.host_path(resolved))))
            except OSError:
                self._names[resolved] = ()
        return self._names[resolved]

    def read(self, path: str, limit: int) -> bytes | None:
        """Return the first `limit` bytes of a file, None if it cannot be read."""
        resolved = self.resolve(path)
        if resolved is None:
            return None
        try:
            return read_start(self.host_path(resolved), limit)
        except OSError:
            return None

    def _resolve(self, path: str, links_left: list[int]) -> str | None:
        if path in self._resolved:
            return self._resolved[path]
        above, _, name = path.rstrip("/").rpartition("/")
        parent = self._resolve(above or "/", links_left)
        if parent is None:
            found = None
        elif name in ("", "."):
            found = parent
        elif name == "..":
            found = os.path.dirname(parent)
        else:
            found = self._follow(parent, f"{parent.rstrip('/')}/{name}", links_left)
        self._resolved[path] = found
        return found

    def _follow(self, parent: str, path: str, links_left: list[int]) -> str | None:
        try:
            target = os.readlink(self.host_path(path))
        except OSError as error:
            return path if error.errno == errno.EINVAL else None  # EINVAL: exists, but is not a link
        links_left[0] -= 1
        if links_left[0] < 0:
            return None
        return self._resolve(target if target.startswith("/") else f"{parent}/{target}", links_left)

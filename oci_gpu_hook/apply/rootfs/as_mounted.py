"""Shows a rootfs as it will be when a runtime has made the mounts in config.json, before any runtime has.

Nothing is mounted, and nothing is changed in the rootfs. Paths are resolved here, name by name. At a path where the
runtime will mount something, resolution continues in the mount's source; a directory or file that the runtime would
have to create is represented by a nameless empty one. Everything is opened with O_PATH.
"""

from __future__ import annotations

import errno
import os
import stat

from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.oci.container import BundleMount, Container

_ENTRY: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS: Final = 40  # include/linux/namei.h, MAXSYMLINKS
_SHARED: Final = {"shared", "rshared"}
# Mounts of kernel file systems: the path of the host's equivalent, and the namespace for which the runtime makes a new
# one.
_KERNELS: Final = {
    "proc": ("/proc", "pid"),
    "sysfs": ("/sys", "network"),
    "cgroup": ("/sys/fs/cgroup", ""),
    "cgroup2": ("/sys/fs/cgroup", ""),
}


class _Place(Record):
    """What will replace the rootfs's own file at a path. mount: the number of its mount."""

    fd: int
    mount: int


class _Step(Record):
    """The state of a path's resolution: a path without links, a descriptor that belongs to this step, and its mount."""

    path: str
    fd: int
    mount: int


class AsMounted(Rootfs):
    """A bundle's rootfs with its mounts. These have negative numbers; mounts of the host in it keep the host's."""

    def __init__(self, fd: int, container: Container) -> None:
        super().__init__(fd)
        self._container = container
        self._own = {self.mount_id}
        self._read_only: set[int] = set()
        self._shared: set[int] = set()
        self._numbers = 0
        self._places: dict[str, _Place] = {}  # by path without links
        self._opened: dict[int, tuple[str, int]] = {}  # path and mount of each descriptor that `_attempt` has returned
        self._empty = _nameless_directory()
        self._file = os.memfd_create("empty")
        for mount in container.mounts:
            try:
                self._mount(mount)
            except (OSError, ValueError, RecursionError):  # ValueError: no path can contain that
                continue  # the runtime will fail, and run no hook

    def __exit__(self, *exception: object) -> None:
        for fd in {self._empty, self._file, *(place.fd for place in self._places.values())}:
            os.close(fd)
        super().__exit__(*exception)

    def mount_of(self, fd: int) -> int:
        """Return the number of a descriptor's mount."""
        return self._opened[fd][1] if fd in self._opened else syscalls.mount_id(fd)

    def entry(self, fd: int, name: str) -> tuple[int, int, int, int] | None:
        """Return mode, size, device number and mount of an entry of a directory, None if it does not exist."""
        path, mount = self._opened[fd]
        place = self._places.get(f"{path}/{name}")
        if place is None:
            found = syscalls.look(fd, name)
            return found and (*found[:3], mount)
        status = os.fstat(place.fd)
        return status.st_mode, status.st_size, status.st_rdev, place.mount

    def is_of_host(self, mount: int) -> bool:
        """Tell whether the mount with that number is a volume of the host."""
        return mount not in self._own

    def is_read_only(self, fd: int) -> bool:
        """Tell whether nothing can be created in the directory of a descriptor."""
        mount = self.mount_of(fd)
        return mount in self._read_only if mount < 0 else super().is_read_only(fd)

    @property
    def shared(self) -> frozenset[int]:
        """The numbers of shared mounts."""
        return frozenset(self._shared)

    def _attempt(self, unsafe_path: str, flags: int, _restrictions: int = 0) -> int:
        try:
            step = self._walk(unsafe_path, follow=not flags & os.O_NOFOLLOW)
        except OSError as error:
            return -(error.errno or errno.EIO)
        fd = step.fd
        if flags & os.O_DIRECTORY and not stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(fd)
            return -errno.ENOTDIR
        if not flags & os.O_PATH:
            try:
                fd = os.open(f"/proc/self/fd/{step.fd}", flags | os.O_CLOEXEC)
            except OSError as error:
                return -(error.errno or errno.EIO)
            finally:
                os.close(step.fd)
        self._opened[fd] = step.path, step.mount
        return fd

    def _walk(self, unsafe_path: str, *, follow: bool) -> _Step:
        """Resolve a path below the root. Raises OSError as openat2 with RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS."""
        trail = [_Step(path="", fd=os.dup(self.fd), mount=self.mount_id)]
        waiting = unsafe_path.split("/")[::-1]
        links = 0
        try:
            while waiting:
                name = waiting.pop()
                if name == ".." and len(trail) > 1:
                    os.close(trail.pop().fd)
                if name in ("", ".", ".."):
                    continue
                step = self._step(trail[-1], name)
                if stat.S_ISLNK(os.fstat(step.fd).st_mode) and (follow or waiting):
                    try:
                        target = _target(step.fd)
                    finally:
                        os.close(step.fd)
                    links += 1
                    if links > _MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    waiting += target.split("/")[::-1]
                    while target.startswith("/") and len(trail) > 1:
                        os.close(trail.pop().fd)
                else:
                    trail.append(step)
            return trail.pop()
        finally:
            for step in trail:
                os.close(step.fd)

    def _step(self, step: _Step, name: str) -> _Step:
        path = f"{step.path}/{name}"
        place = self._places.get(path)
        if place is not None:
            return _Step(path=path, fd=os.dup(place.fd), mount=place.mount)
        fd = os.open(name, _ENTRY, dir_fd=step.fd)
        there, here = syscalls.mount_id(fd), syscalls.mount_id(step.fd)
        # An existing mount stays, and belongs to the host.
        return _Step(path=path, fd=fd, mount=step.mount if there == here else there)

    def _mount(self, mount: BundleMount) -> None:
        """Add a mount. Raises OSError if the runtime could not mount it."""
        options = {*mount.options}
        is_bind = mount.type == "bind" or bool(options & {"bind", "rbind"})
        kernels, namespace = _KERNELS.get(mount.type, ("", ""))
        if is_bind:
            fd = os.open(os.path.join(self._container.bundle, mount.source), os.O_PATH | os.O_CLOEXEC)
        elif kernels:
            fd = os.open(kernels, os.O_PATH | os.O_CLOEXEC)
        else:
            fd = os.dup(self._empty)
        try:
            path = self._mountpoint(mount.destination, is_directory=stat.S_ISDIR(os.fstat(fd).st_mode))
            if "tmpcopyup" in options and not is_bind:
                os.close(fd)
                fd = self._walk(path, follow=True).fd  # it contains the directory's old contents
        except BaseException:
            os.close(fd)
            raise
        self._numbers -= 1
        for below in [each for each in self._places if each == path or each.startswith(f"{path}/")]:
            hidden = self._places.pop(below)
            if "tmpcopyup" in options and below != path:
                self._places[below] = hidden.replace(mount=self._numbers)  # a copy of that mount
            else:
                os.close(hidden.fd)
        self._places[path] = _Place(fd=fd, mount=self._numbers)
        if not is_bind and (not kernels or namespace in self._container.namespaces):
            self._own.add(self._numbers)
        if "ro" in options and mount.type != "tmpfs":  # runtimes make a read-only tmpfs read-only after the hooks
            self._read_only.add(self._numbers)
        if options & _SHARED:
            self._shared.add(self._numbers)

    def _mountpoint(self, destination: str, *, is_directory: bool, links: int = 0) -> str:
        """Return the path without links that a destination leads to, and add what the runtime will create of it."""
        try:
            step = self._walk(destination, follow=True)
        except FileNotFoundError:
            pass
        else:
            os.close(step.fd)
            return step.path
        above, name = os.path.split(destination.rstrip("/"))
        parent = self._mountpoint(above, is_directory=True, links=links)
        if name in (".", ".."):
            return parent if name == "." else parent.rpartition("/")[0]
        path = f"{parent}/{name}"
        if path != destination:  # the way there had links or dots, and may lead to something
            return self._mountpoint(path, is_directory=is_directory, links=links)
        step = self._walk(parent, follow=True)
        try:
            target = os.readlink(name, dir_fd=step.fd)  # a dangling link: the runtime creates its target
        except OSError:
            target = ""
        finally:
            os.close(step.fd)
        if target:
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            return self._mountpoint(os.path.join(parent, target), is_directory=is_directory, links=links + 1)
        self._places[path] = _Place(fd=os.dup(self._empty if is_directory else self._file), mount=step.mount)
        return path


def _target(fd: int) -> str:
    """Return where a link leads, which is held. Raises OSError (ELOOP) for a link of the kernel's."""
    target = os.readlink("", dir_fd=fd)
    if target.startswith("/") and syscalls.file_system_type(fd) == syscalls.PROC_SUPER_MAGIC:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return target


def _nameless_directory() -> int:
    """Return a descriptor of an empty directory that was removed."""
    import tempfile

    path = tempfile.mkdtemp(prefix="oci-gpu-plan-")
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.rmdir(path)

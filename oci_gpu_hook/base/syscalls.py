"""The system calls that Python lacks. The numbers and structs of all of them are here; nothing here decides anything.

Numbers: include/uapi/asm-generic/unistd.h (the same everywhere since Linux 5.1) and, for
older calls, arch/x86/entry/syscalls/syscall_64.tbl.
"""

from __future__ import annotations

import os
import sys
from errno import ENOENT
from struct import pack, unpack_from

from oci_gpu_hook.base.cpython.ctypes_c import addressof, get_errno, memory
from oci_gpu_hook.base.cpython.ctypes_c import syscall as _syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

_X86_64: Final = os.uname().machine == "x86_64"

# include/uapi/linux/openat2.h
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10
# include/uapi/linux/fcntl.h, mount.h
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_EMPTY_PATH: Final = 0x1000
_AT_STATX_DONT_SYNC: Final = 0x4000
AT_RECURSIVE: Final = 0x8000
_CLONE: Final = 1 | os.O_CLOEXEC  # OPEN_TREE_CLONE
_AT_FDCWD: Final = -100
_BY_DESCRIPTORS: Final = 0x04 | 0x40  # MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH
MOUNT_ATTR_RDONLY: Final = 0x01
MOUNT_ATTR_NOSUID: Final = 0x02
MOUNT_ATTR_NODEV: Final = 0x04
MOUNT_ATTR_NOEXEC: Final = 0x08
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MNT_DETACH: Final = 2
FSOPEN_CLOEXEC: Final = 1
FSMOUNT_CLOEXEC: Final = 1
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6
# include/uapi/linux/stat.h
_STATX_TYPE: Final = 0x1
_STATX_SIZE: Final = 0x200
_S_IFMT: Final = 0o170000
_S_IFCHR: Final = 0o020000
_S_IFBLK: Final = 0o060000
_STATX_BTIME: Final = 0x800
_STATX_BTIME_OFFSET: Final = 0x50
_STATX_MNT_ID: Final = 0x1000
_STATX_MNT_ID_UNIQUE: Final = 0x4000  # Linux 6.8: an id that is never reused; older kernels return MNT_ID
_STATX_INO_OFFSET: Final = 0x20  # stx_ino; at 0x88 follow stx_dev_major, stx_dev_minor, stx_mnt_id
_STATX_MNT_ID_OFFSET: Final = 0x90
_STATUS_SIZE: Final = 0x100  # of struct statx; struct statfs has 120 bytes on 64-bit architectures
# include/uapi/linux/sched.h
CLONE_FS: Final = 0x00000200
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUSER: Final = 0x10000000
# include/uapi/linux/magic.h
OVERLAYFS_SUPER_MAGIC: Final = 0x794C7630
PROC_SUPER_MAGIC: Final = 0x9FA0
TMPFS_MAGIC: Final = 0x01021994
SYSFS_MAGIC: Final = 0x62656572
CGROUP_SUPER_MAGIC: Final = 0x27E0EB
CGROUP2_SUPER_MAGIC: Final = 0x63677270
KERNEL_FILE_SYSTEMS: Final = (PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC)

_ENCODING: Final = sys.getfilesystemencoding()

NR_OPEN_TREE: Final = 428
NR_MOVE_MOUNT: Final = 429
NR_FSOPEN: Final = 430
_NR_FSCONFIG: Final = 431
_NR_FSMOUNT: Final = 432
NR_OPENAT2: Final = 437
NR_MOUNT_SETATTR: Final = 442
_NR_EXECVE: Final = 59 if _X86_64 else 221
_NR_UNSHARE: Final = 272 if _X86_64 else 97
_NR_SETNS: Final = 308 if _X86_64 else 268
_NR_UMOUNT2: Final = 166 if _X86_64 else 39
_NR_KCMP: Final = 312 if _X86_64 else 272
_KCMP_FILES: Final = 2  # include/uapi/linux/kcmp.h
_NR_INOTIFY_INIT1: Final = 294 if _X86_64 else 26
_NR_INOTIFY_ADD_WATCH: Final = 254 if _X86_64 else 27
_IN_MODIFY: Final = 2  # include/uapi/linux/inotify.h
_NR_STATX: Final = 332 if _X86_64 else 291
_NR_FSTATFS: Final = 138 if _X86_64 else 44
_NR_FCHOWNAT: Final = 260 if _X86_64 else 54
_NR_NAME_TO_HANDLE_AT: Final = 303 if _X86_64 else 264
_LARGEST_HANDLE: Final = 128  # include/linux/exportfs.h, MAX_HANDLE_SZ
_NR_PRCTL: Final = 157 if _X86_64 else 167
_PR_SET_PDEATHSIG: Final = 1  # include/uapi/linux/prctl.h
_PR_SET_DUMPABLE: Final = 4
SIGKILL: Final = 9
_NR_PRLIMIT64: Final = 302 if _X86_64 else 261
_RLIMIT_NOFILE: Final = 7  # include/uapi/asm-generic/resource.h
_NR_BPF: Final = 321 if _X86_64 else 280
_NR_SETFSUID: Final = 122 if _X86_64 else 151
_NR_SETFSGID: Final = 123 if _X86_64 else 152


class Buffer:
    """Memory that the kernel reads and writes: `size` zero bytes, or a copy of the given bytes."""

    def __init__(self, contents: int | bytes) -> None:
        size = contents if isinstance(contents, int) else len(contents)
        self._as_parameter_: Any = memory(size)  # ctypes passes its address
        if isinstance(contents, bytes):
            self._as_parameter_.raw = contents
        self.address: int = addressof(self._as_parameter_)

    @property
    def raw(self) -> bytes:
        """The current contents of the memory."""
        contents: bytes = self._as_parameter_.raw
        return contents


_status: Any = memory(_STATUS_SIZE)  # filled by statx and fstatfs


def raw(number: int, *arguments: int | bytes | Buffer) -> int:
    """Make a system call. Integers are passed as C's int, bytes and Buffers by address. Raises OSError.

    libffi sign-extends an int to the 64 bits of the register. That is right for the calls here: their arguments are
    descriptors, flags, sizes and ids of at most 32 bits, and their results are descriptors, sizes or 0. Pointers are
    Buffers, or are stored in one.
    """
    result: int = _syscall(number, *arguments)
    if result < 0:
        raise _failure()
    return result


def _failure() -> OSError:
    error = get_errno()
    return OSError(error, os.strerror(error))


def openat2(dirfd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """Open `path` below `dirfd` under the restrictions `resolve`; the descriptor closes on exec."""
    fd = try_openat2(dirfd, path, flags, resolve, mode)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd))
    return fd


def try_openat2(dirfd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """Do what `openat2` does, but return a negative errno on failure."""
    how = pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)  # struct open_how
    fd: int = _syscall(NR_OPENAT2, dirfd, path.encode(_ENCODING, "surrogateescape"), how, len(how))
    return fd if fd >= 0 else -get_errno()


def clone_tree(path: str, attributes: bytes) -> int:
    """Return a descriptor of a detached copy of the mount at the absolute `path`, with these attributes."""
    # Not by `raw`, because a start makes this call, and `move_mount`, a hundred times.
    tree: int = _syscall(NR_OPEN_TREE, _AT_FDCWD, path.encode(_ENCODING, "surrogateescape"), _CLONE)
    if tree < 0:
        raise _failure()
    if _syscall(NR_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, len(attributes)) < 0:
        failure = _failure()
        os.close(tree)
        raise failure
    return tree


def clone_all_below(path: str, attributes: bytes) -> int:
    """Do what `clone_tree` does with all mounts below the path: all get the propagation, the topmost all else."""
    tree: int = raw(NR_OPEN_TREE, _AT_FDCWD, path.encode(_ENCODING, "surrogateescape"), _CLONE | AT_RECURSIVE)
    try:
        (propagation,) = unpack_from("Q", attributes, 16)
        mount_setattr(tree, 0, propagation, AT_RECURSIVE)
        raw(NR_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, len(attributes))
    except OSError:
        os.close(tree)
        raise
    return tree


def clone_file_in(directory: int, name: str) -> int:
    """Return a descriptor of a detached copy of a file's mount (open_tree(2)); no link is followed. Raises OSError.

    The directory must be in this process's mount namespace; before Linux 6.15 a detached mount gives EINVAL.
    """
    return raw(NR_OPEN_TREE, directory, name.encode(_ENCODING, "surrogateescape"), _CLONE | AT_SYMLINK_NOFOLLOW)


def clone_of(mount: int) -> int:
    """Return a descriptor of a detached copy of a mount of this process's mount namespace (open_tree(2))."""
    return raw(NR_OPEN_TREE, mount, b"", _CLONE | AT_EMPTY_PATH)


def move_mount(mount: int, onto: int) -> None:
    """Attach the detached mount to the file or directory that the descriptor `onto` refers to."""
    if _syscall(NR_MOVE_MOUNT, mount, b"", onto, b"", _BY_DESCRIPTORS) < 0:
        raise _failure()


def mount_setattr(mount: int, attr_set: int, propagation: int = 0, flags: int = 0) -> None:
    """Set attributes (MOUNT_ATTR_*) and propagation (MS_PRIVATE, MS_SHARED) of the mount whose root is `mount`."""
    attributes = mount_attributes(attr_set, propagation)
    raw(NR_MOUNT_SETATTR, mount, b"", AT_EMPTY_PATH | flags, attributes, len(attributes))


def clear_mount_attributes(mount: int, attr_clr: int) -> None:
    """Clear attributes (MOUNT_ATTR_*) of the mount whose root is `mount`. Raises OSError."""
    attributes = pack("QQQQ", 0, attr_clr, 0, 0)
    raw(NR_MOUNT_SETATTR, mount, b"", AT_EMPTY_PATH, attributes, len(attributes))


def mount_attributes(attr_set: int, propagation: int) -> bytes:
    """Return a struct mount_attr that sets attributes (MOUNT_ATTR_*) and propagation (MS_PRIVATE, MS_SHARED)."""
    return pack("QQQQ", attr_set, 0, propagation, 0)


def new_tmpfs(options: tuple[tuple[str, str], ...], attributes: int) -> int:
    """Return a detached tmpfs mount with `options`, e.g. (("mode", "0755"), ("size", "65536"))."""
    context = raw(NR_FSOPEN, b"tmpfs", FSOPEN_CLOEXEC)
    try:
        for name, value in options:
            raw(_NR_FSCONFIG, context, _FSCONFIG_SET_STRING, name.encode(), value.encode(), 0)
        raw(_NR_FSCONFIG, context, _FSCONFIG_CMD_CREATE, 0, 0, 0)
        return raw(_NR_FSMOUNT, context, FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that `fd` refers to."""
    raw(_NR_SETNS, fd, kind)


def unshare(kind: int) -> None:
    """Leave the namespace of that kind, and enter a copy of it."""
    raw(_NR_UNSHARE, kind)


def execve(path: bytes, arguments: Sequence[bytes], environment: Sequence[bytes]) -> None:
    """Become another program. Unlike os.execve this takes any environment entries, in any order."""
    texts = [[Buffer(text + b"\0") for text in each] for each in (arguments, environment)]
    vectors = [pack(f"{len(each) + 1}Q", *(text.address for text in each), 0) for each in texts]
    raw(_NR_EXECVE, path, *vectors)


def set_fs_ids(uid: int, gid: int) -> None:
    """Create files as this user and group from now on; the process keeps all other rights (setfsuid(2)).

    These calls report no errors: they return the previous id, which may not fit into an int.
    """
    _syscall(_NR_SETFSGID, gid)
    _syscall(_NR_SETFSUID, uid)


def change_owner(fd: int, uid: int, gid: int) -> None:
    """Set the owner and group of what the descriptor, which may be O_PATH, refers to (fchownat(2))."""
    raw(_NR_FCHOWNAT, fd, b"", uid, gid, AT_EMPTY_PATH)


def bpf(command: int, attributes: bytes | Buffer, size: int) -> int:
    """Have the kernel carry out a command on BPF objects; attributes: union bpf_attr. Raises OSError."""
    return raw(_NR_BPF, command, attributes, size)


def umount2(path: bytes, flags: int) -> None:
    """Unmount what is mounted at `path`."""
    raw(_NR_UMOUNT2, path, flags)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends (prctl(2))."""
    raw(_NR_PRCTL, _PR_SET_PDEATHSIG, SIGKILL)


def be_dumpable() -> None:
    """Let this process have its own files of /proc again, which the kernel gives to root when ids are changed."""
    raw(_NR_PRCTL, _PR_SET_DUMPABLE, 1)


def outlive_parent() -> None:
    """Have the kernel forget what `die_with_parent` has told it."""
    raw(_NR_PRCTL, _PR_SET_PDEATHSIG, 0)


def allow_most_descriptors() -> None:
    """Raise the limit of open files to its maximum: 2,048 devices that are bound need two descriptors each."""
    limit = Buffer(16)  # struct rlimit64: soft, hard
    if _syscall(_NR_PRLIMIT64, 0, _RLIMIT_NOFILE, 0, limit) == 0:
        (hard,) = unpack_from("Q", limit.raw, 8)
        _syscall(_NR_PRLIMIT64, 0, _RLIMIT_NOFILE, pack("QQ", hard, hard), 0)


def mount_id(fd: int) -> int:
    """Return the id, as in /proc/PID/mountinfo, of the mount through which the descriptor was opened."""
    raw(_NR_STATX, fd, b"", AT_EMPTY_PATH, _STATX_MNT_ID, _status)
    (number,) = unpack_from("Q", _status, _STATX_MNT_ID_OFFSET)
    return int(number)


def mount_identity(fd: int) -> tuple[int, int, int, int]:
    """Return what identifies a mount: its id, and the major, minor and inode of the descriptor's file.

    From Linux 6.8 on the kernel never reuses this id, which is not the one in /proc/PID/mountinfo. A detached mount
    keeps its id when it is attached.
    """
    raw(_NR_STATX, fd, b"", AT_EMPTY_PATH, _STATX_MNT_ID | _STATX_MNT_ID_UNIQUE, _status)
    inode, major, minor, number = unpack_from("=Q96xIIQ", _status, _STATX_INO_OFFSET)
    return number, major, minor, inode


def birth(fd: int) -> int:
    """Return what distinguishes a file from later ones with the same inode number; 0 if nothing does.

    This is the time in nanoseconds at which the file was created. A file system that does not store it usually counts,
    for NFS, how often it has used the inode number; that count is in the file's handle (name_to_handle_at(2)).
    """
    raw(_NR_STATX, fd, b"", AT_EMPTY_PATH, _STATX_BTIME, _status)
    (known,) = unpack_from("I", _status)  # stx_mask comes first
    seconds, nanoseconds = unpack_from("qI", _status, _STATX_BTIME_OFFSET)
    if known & _STATX_BTIME:
        return int(seconds * 1_000_000_000 + nanoseconds)
    handle = Buffer(pack("Ii", _LARGEST_HANDLE, 0) + bytes(_LARGEST_HANDLE))  # struct file_handle: size, type, bytes
    if _syscall(_NR_NAME_TO_HANDLE_AT, fd, b"", handle, Buffer(8), AT_EMPTY_PATH) < 0:
        return 0
    (size,) = unpack_from("I", handle.raw)
    return int.from_bytes(handle.raw[8 : 8 + size], "little")


def is_there(dirfd: int, name: str) -> bool:
    """Tell whether a directory has an entry of that name; no link is followed. Raises OSError if that is unknown.

    os.stat raises an exception for an absent name, which costs more than the call; os.access hides other errors.
    """
    if _syscall(_NR_STATX, dirfd, name.encode(_ENCODING, "surrogateescape"), AT_SYMLINK_NOFOLLOW, 0, _status) == 0:
        return True
    if get_errno() != ENOENT:
        raise _failure()
    return False


def look(dirfd: int, name: str) -> tuple[int, int, int, int] | None:
    """Return mode, size, device number and mount id of a directory's entry, None if there is no such entry.

    No link is followed. If something is mounted on the entry, that is described, with its own mount id.
    """
    mask = _STATX_TYPE | _STATX_SIZE | _STATX_MNT_ID
    if _syscall(_NR_STATX, dirfd, name.encode(_ENCODING, "surrogateescape"), AT_SYMLINK_NOFOLLOW, mask, _status) < 0:
        if get_errno() == ENOENT:
            return None
        raise _failure()
    mode, size, major, minor, mount = unpack_from("=28xH10xQ80xII8xQ", _status)
    return mode, size, os.makedev(major, minor), mount


def device_numbers(path: str) -> tuple[int, int] | tuple[int, int, str] | None:
    """Return (major, minor) of the character device that a path leads to, (major, minor, "b") of a block device.

    None for anything else. Raises OSError.

    The server of a file system is not asked, since it may never answer.
    """
    if _syscall(_NR_STATX, _AT_FDCWD, os.fsencode(path), _AT_STATX_DONT_SYNC, _STATX_TYPE, _status) < 0:
        raise _failure()
    mode, major, minor = unpack_from("=28xH98xII", _status)
    if mode & _S_IFMT == _S_IFBLK:
        return major, minor, "b"
    return (major, minor) if mode & _S_IFMT == _S_IFCHR else None


def has_files_of(thread: int, other: int) -> bool:
    """Tell whether two threads share their table of descriptors; False where the kernel does not say (kcmp(2))."""
    return int(_syscall(_NR_KCMP, thread, other, _KCMP_FILES, 0, 0)) == 0


def watch_of_writes(path: str) -> int:
    """Return a descriptor that gives bytes once somebody has written to the file, and EAGAIN until then (inotify(7)).

    Raises OSError.
    """
    watch = raw(_NR_INOTIFY_INIT1, os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        raw(_NR_INOTIFY_ADD_WATCH, watch, path.encode(_ENCODING, "surrogateescape"), _IN_MODIFY)
    except OSError:
        os.close(watch)
        raise
    return watch


def file_system_type(fd: int) -> int:
    """Return the magic number (include/uapi/linux/magic.h) of the descriptor's file system."""
    raw(_NR_FSTATFS, fd, _status)
    (number,) = unpack_from("q", _status)  # f_type comes first
    return int(number)

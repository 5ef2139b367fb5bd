"""bpf(2), as far as device programs need it: load, find, read back and replace programs.

Attributes are the anonymous structs of `union bpf_attr` in include/uapi/linux/bpf.h, named here by their command.
"""

from __future__ import annotations

import errno
from struct import pack, unpack_from

from oci_gpu_hook.base import syscalls
from oci_gpu_hook.base.errors import ApplyError, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_PROG_LOAD: Final = 5
_PROG_ATTACH: Final = 8
_PROG_GET_FD_BY_ID: Final = 13
_OBJ_GET_INFO_BY_FD: Final = 15
_PROG_QUERY: Final = 16
_PROG_TYPE_CGROUP_DEVICE: Final = 15
_CGROUP_DEVICE: Final = 6  # enum bpf_attach_type
ALLOW_OVERRIDE: Final = 1
ALLOW_MULTI: Final = 2
_REPLACE: Final = 4
_QUERY_EFFECTIVE: Final = 1

NAME: Final = b"oci_gpu_hook"  # as bpftool shows it; at most 15 letters, digits and underscores
# Device programs call no helper, so the verifier demands no particular licence; this is the project's.
_LICENCE: Final = b"Apache-2.0\0"
_INFO_SIZE: Final = 40  # struct bpf_prog_info up to and including xlated_prog_insns; the kernel accepts any length
_INFO_WITH_NAME: Final = 80
_LOG_SIZE: Final = 65536
_FEW_PROGRAMS: Final = 64  # in one cgroup: BPF_CGROUP_MAX_PROGS
_MANY_PROGRAMS: Final = 4096  # in a cgroup and all of its ancestors


def _bpf(command: int, attributes: bytes) -> int:
    return syscalls.bpf(command, attributes, len(attributes))


def load(code: bytes) -> int:
    """Return a descriptor of a new device program.

    Raises OSError EPERM if this process may not load programs, ApplyError with the verifier's message if the program is
    rejected.
    """
    try:
        return _load(code, b"")
    except OSError as error:
        if error.errno == errno.EPERM:
            raise
        refusal = error
    log = syscalls.Buffer(_LOG_SIZE)
    try:
        return _load(code, pack("<IIQ", 1, _LOG_SIZE, log.address))
    except OSError:
        lines = log.raw.rstrip(b"\0").decode("ascii", "replace").split("\n")
        words = next((line for line in reversed(lines) if line and not line.startswith("processed ")), "")
        raise ApplyError(
            "cannot load the container's device program",
            f"{reason(refusal)}; the kernel's verifier says {quoted(words)}",
            "report this with the version of the kernel and of the container runtime",
            "OGH1504",
        ) from None


def _load(code: bytes, log: bytes) -> int:
    instructions = syscalls.Buffer(code)
    licence = syscalls.Buffer(_LICENCE)
    head = pack("<IIQQ", _PROG_TYPE_CGROUP_DEVICE, len(code) // 8, instructions.address, licence.address)
    return _bpf(_PROG_LOAD, head + log.ljust(16, b"\0") + pack("<II16s", 0, 0, NAME))


def attached(cgroup: int) -> tuple[int, tuple[int, ...]]:
    """Return the attach flags and the ids of the device programs of the cgroup itself. Raises OSError."""
    return _query(cgroup, 0, _FEW_PROGRAMS)


def effective(cgroup: int) -> tuple[int, ...]:
    """Return the ids of all device programs, ancestors' included, that apply to processes in the cgroup."""
    try:
        return _query(cgroup, _QUERY_EFFECTIVE, _FEW_PROGRAMS)[1]
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return _query(cgroup, _QUERY_EFFECTIVE, _MANY_PROGRAMS)[1]


def _query(cgroup: int, flags: int, room: int) -> tuple[int, tuple[int, ...]]:
    ids = syscalls.Buffer(4 * room)
    answer = syscalls.Buffer(pack("<IIIIQII", cgroup, _CGROUP_DEVICE, flags, 0, ids.address, room, 0))
    syscalls.bpf(_PROG_QUERY, answer, 32)
    attach_flags, count = unpack_from("<I", answer.raw, 12)[0], unpack_from("<I", answer.raw, 24)[0]
    return attach_flags, unpack_from(f"<{count}I", ids.raw)


def open_program(program: int) -> int:
    """Return a descriptor of the program with that id. Raises OSError, ENOENT if it is gone."""
    return _bpf(_PROG_GET_FD_BY_ID, pack("<III", program, 0, 0))


def instructions(program: int) -> bytes:
    """Read the program back. If the kernel withholds it, the result is empty or all zeros. Raises OSError."""
    room = 8192
    while True:
        code = syscalls.Buffer(room)
        info = syscalls.Buffer(pack("<16xIIQQ", 0, room, 0, code.address).ljust(_INFO_SIZE, b"\0"))
        _bpf(_OBJ_GET_INFO_BY_FD, pack("<IIQ", program, _INFO_SIZE, info.address))
        (length,) = unpack_from("<I", info.raw, 20)  # xlated_prog_len
        if length <= room:
            return code.raw[:length]
        room = length


def tag_and_name(program: int) -> tuple[bytes, bytes]:
    """Return the kernel's hash of the program's instructions, computed at loading, and the program's name.

    The kernel returns these even if it withholds the instructions. Raises OSError.
    """
    info = syscalls.Buffer(_INFO_WITH_NAME)
    _bpf(_OBJ_GET_INFO_BY_FD, pack("<IIQ", program, _INFO_WITH_NAME, info.address))
    tag, name = unpack_from("<8s", info.raw, 8)[0], unpack_from("<16s", info.raw, 64)[0]
    return tag, name.rstrip(b"\0")


def replace(cgroup: int, new: int, old: int, flags: int) -> None:
    """Replace the program `old` by `new` atomically; `flags` are those that `attached` returned.

    Raises OSError, ENOENT if `old` is no longer attached. In a cgroup that holds only one program (flags without
    ALLOW_MULTI) the program is replaced, whichever it is. BPF_F_REPLACE needs Linux 5.6.
    """
    mode = ALLOW_MULTI | _REPLACE if flags & ALLOW_MULTI else flags & ALLOW_OVERRIDE
    _bpf(_PROG_ATTACH, pack("<IIIII", cgroup, new, _CGROUP_DEVICE, mode, old if flags & ALLOW_MULTI else 0))

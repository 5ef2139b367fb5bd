"""Writes the static front: a copy of the one that setup.py builds, with a role and paths written into it."""

from __future__ import annotations

import os

from oci_gpu_hook.admin.install.trusted_files import replace
from oci_gpu_hook.base.errors import HookError, quoted
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

TEMPLATE: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "front.elf")
# struct block of front/front.h: magic, role, then four paths of this many bytes, including NUL.
MAGIC: Final = b"oci-gpu-front-1\0"
_ROLE_SIZE: Final = 16
_PATH_SIZE: Final = 1024
_PATHS: Final = 4


class Front(Record):
    """The role and paths in a front; is_current: whether its code is that of the template."""

    interpreter: str
    stub: str
    program: str
    resident: str
    is_current: bool


def write_front(  # noqa: PLR0913, PLR0917  its role and four paths
    path: str, role: str, interpreter: str, stub: str, program: str = "", resident: str = ""
) -> bool:
    """Write a copy of the front with its role and paths. Return False if there is no template or a path is too long.

    resident: the socket of the process that may do what Python would be started for, "" to ask none.
    """
    try:
        with open(TEMPLATE, "rb") as file:
            template = file.read()
    except FileNotFoundError:
        return False
    paths = [os.fsencode(each) for each in (interpreter, stub, program, resident)]
    if any(len(each) >= _PATH_SIZE for each in paths):
        return False
    block = MAGIC + role.encode().ljust(_ROLE_SIZE, b"\0") + b"".join(each.ljust(_PATH_SIZE, b"\0") for each in paths)
    before, magic, after = template.partition(MAGIC)
    if not magic or MAGIC in after or after[:1].strip(b"\0"):
        raise HookError(quoted(TEMPLATE), "is not this version's front", "reinstall oci-gpu-hook", "OGH1809")
    replace(path, before + block + after[len(block) - len(MAGIC) :], 0o755)
    return True


def read_front(path: str) -> Front | None:
    """Read a front's role and paths, None for a file that is not a front. Raises OSError."""
    with open(path, "rb") as file:
        before, magic, rest = file.read().partition(MAGIC)
    if not magic:
        return None
    start = _ROLE_SIZE
    paths = [rest[at : at + _PATH_SIZE] for at in range(start, start + _PATHS * _PATH_SIZE, _PATH_SIZE)]
    interpreter, stub, program, resident = (os.fsdecode(each.rstrip(b"\0")) for each in paths)
    current: tuple[bytes, ...] = (b"", b"", b"")  # of a package that was built without a compiler
    if os.path.exists(TEMPLATE):
        with open(TEMPLATE, "rb") as file:
            current = file.read().partition(MAGIC)
    after = start + _PATHS * _PATH_SIZE
    is_current = (before, rest[after:]) == (current[0], current[2][after:])
    return Front(interpreter=interpreter, stub=stub, program=program, resident=resident, is_current=is_current)

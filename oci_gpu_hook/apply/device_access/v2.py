"""Device access on cgroup v2: the program attached to the cgroup is replaced by one that permits more.

Every program attached to a cgroup and to its ancestors must permit an access. The runtime's program is read back, this
project's rules are put in front of it, and the result replaces it atomically, so that at no moment anything else is
permitted than before or after. A program that cannot be read is not replaced, unless it is known for certain.
"""

from __future__ import annotations

import errno
import os

from oci_gpu_hook.apply.device_access import bpf
from oci_gpu_hook.apply.device_access.bpf_interpreter import permits
from oci_gpu_hook.apply.device_access.device_program import (
    KINDS,
    extended,
    is_hidden,
    is_self_contained,
    kind_of,
    reduced,
    split,
)
from oci_gpu_hook.base.errors import ApplyError, quoted
from oci_gpu_hook.devices.edits import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from oci_gpu_hook.apply.device_access.model import Change, DeviceCgroup
    from oci_gpu_hook.devices.edits import Numbers as Node
    from oci_gpu_hook.oci.container import DeviceRule

_ATTEMPTS: Final = 8  # the runtime or systemd may replace the program meanwhile; each does so once

_LOOKED_THROUGH: Final = 4 << 20  # bytes of instructions, those of a program as often as it is run: some 0.2 s


class Replaced:
    """A program that replaced another one; both are held by descriptors."""

    def __init__(self, cgroup: int, old: int, new: int, flags: int) -> None:
        self._cgroup = cgroup
        self._programs: tuple[int, ...] = (old, new)
        self._flags = flags

    def undo(self) -> None:
        """Restore the old program, unless something else has replaced the new one, and so undone the change."""
        old, new = self._programs
        try:
            bpf.replace(self._cgroup, old, new, self._flags)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def close(self) -> None:
        """Release both programs; the cgroup keeps the one that it has."""
        programs, self._programs = self._programs, ()
        for program in programs:
            os.close(program)


def allow(cgroup: DeviceCgroup, nodes: Sequence[Node], rules: Sequence[DeviceRule], changes: list[Change]) -> None:
    """Permit the container's cgroups to use `nodes`; add what was changed to `changes`.

    `rules` are the bundle's, used to recognise a program that cannot be read back. Raises OSError EPERM if this process
    may not use bpf(2), ApplyError if a program refuses the nodes and cannot be changed.
    """
    own = sum(_extend_all(directory, nodes, rules, changes) for directory in cgroup.levels)
    if len(bpf.effective(cgroup.levels[-1])) > own:
        _check_ancestors(cgroup, nodes)


def refuse(cgroup: DeviceCgroup, nodes: Sequence[Node], rules: Sequence[DeviceRule], changes: list[Change]) -> None:
    """Have the container's topmost cgroup refuse to read and write `nodes`; what was changed goes into `changes`.

    Those below it need not: one refusal decides. Raises as `allow` does.
    """
    for _ in range(_ATTEMPTS):
        flags, programs = bpf.attached(cgroup.levels[0])
        alone = len(programs) == 1 and flags == bpf.ALLOW_MULTI
        try:
            for program in programs:
                changes += _exchange(cgroup.levels[0], program, flags, nodes, rules if alone else None, _refusing)
        except FileNotFoundError:  # someone else has replaced the program since the query
            continue
        return
    raise _unsteady()


def allows(cgroup: DeviceCgroup, major: int, minor: int, kind: str = "c") -> bool | None:
    """Tell whether the process's cgroup permits reading and writing the node; None if a program cannot be read."""
    answers = {permits(_read(program), major, minor, kind=KINDS[kind]) for program in bpf.effective(cgroup.levels[-1])}
    if False in answers:
        return False
    return None if None in answers else True


def refused(cgroup: DeviceCgroup, nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return the nodes that the process's cgroup does not permit, as far as its programs can be read."""
    found: set[Node] = set()
    for program in bpf.effective(cgroup.levels[-1]):
        found.update(_not_permitted(_shown(_read(program)), nodes, {False}))
    return tuple(node for node in nodes if node in found)


def _not_permitted(code: bytes, nodes: Sequence[Node], answers: set[bool | None]) -> list[Node]:
    """Return the nodes for which the program's answer is one of `answers`: False for no, None for unknown."""
    permitted, rest = split(code)
    ours = frozenset(permitted)
    return [
        node for node in nodes if node not in ours and permits(rest, node[0], node[1], kind=kind_of(node)) in answers
    ]


def _extend_all(directory: int, nodes: Sequence[Node], rules: Sequence[DeviceRule], changes: list[Change]) -> int:
    """Make every program of this one cgroup permit `nodes`; return how many programs it has."""
    for _ in range(_ATTEMPTS):
        flags, programs = bpf.attached(directory)
        try:
            alone = len(programs) == 1 and flags == bpf.ALLOW_MULTI  # the way in which runtimes attach theirs
            for program in programs:
                changes += _exchange(directory, program, flags, nodes, rules if alone else None, _permitting)
        except FileNotFoundError:  # the program was replaced since the query
            continue
        return len(programs)
    raise _unsteady()


def _unsteady() -> ApplyError:
    return ApplyError(
        "cannot change the container's device program",
        f"it was replaced {_ATTEMPTS} times while it was read, or is held by a bpf link",
        "look with `bpftool cgroup tree` for what manages the container's devices besides its runtime",
        "OGH1504",
    )


def _exchange(  # noqa: PLR0913, PLR0917
    directory: int,
    program: int,
    flags: int,
    nodes: Sequence[Node],
    rules: Sequence[DeviceRule] | None,
    changed: Callable[[bytes, Sequence[Node]], bytes],
) -> tuple[Replaced, ...]:
    """Put what `changed` makes of a program in its place, unless that is the same program.

    rules: None for a program that may not be the container runtime's. Raises FileNotFoundError when the program is not
    attached any more.
    """
    held = [bpf.open_program(program)]
    try:
        code = bpf.instructions(held[0])
        if is_hidden(code):
            code = _uncovered(held[0], code, nodes, rules)
        new = changed(code, nodes)
        if new == code:
            return ()
        held.append(bpf.load(new))
        bpf.replace(directory, held[1], held[0], flags)
        change = Replaced(directory, held[0], held[1], flags)
        held = []
        return (change,)
    finally:
        for descriptor in held:
            os.close(descriptor)


def _uncovered(program: int, shown: bytes, nodes: Sequence[Node], rules: Sequence[DeviceRule] | None) -> bytes:
    """Return the instructions of a program that the kernel shows blinded or withholds. Raises ApplyError."""
    code = _shown(shown)
    if not is_hidden(code) or not is_self_contained(code):  # if it is not self-contained it cannot be changed
        return code
    known = _recognised(program, nodes, rules) if rules is not None else None
    if known is None:
        raise ApplyError(
            "cannot change the container's device program",
            "the kernel does not show it (net.core.bpf_jit_harden), and it is not the only one of that cgroup or none"
            " that runc or crun makes of this config.json",
            "set the sysctl kernel.kptr_restrict to 1, so that root may read it",
            "OGH1504",
        )
    return known


def _shown(code: bytes) -> bytes:
    """Return the instructions, with their constants restored if the kernel has blinded them and that is possible."""
    if not any(code) or not is_hidden(code):
        return code
    from oci_gpu_hook.apply.device_access.blinded_program import (
        restored,
    )  # few hosts are hardened

    return restored(code) or code


def _recognised(program: int, nodes: Sequence[Node], rules: Sequence[DeviceRule]) -> bytes | None:
    """Return the runtime's program, with or without these nodes permitted, whose tag the program has; or None."""
    from oci_gpu_hook.apply.device_access.runtime_program import candidates

    tag, name = bpf.tag_and_name(program)
    if name not in (b"", bpf.NAME):  # programs of runtimes have no name, but systemd's have
        return None
    for made in candidates(rules):
        code = extended(made, nodes) if name else made
        like = bpf.load(code)
        try:
            if bpf.tag_and_name(like)[0] == tag:
                return code
        finally:
            os.close(like)
    return None


def _permitting(code: bytes, nodes: Sequence[Node]) -> bytes:
    """Return a program that permits `nodes` and otherwise does what the program `code` does: `code` where it does.

    Where finding that out would take long, the nodes are permitted once more, which changes nothing else.
    """
    lacking = [*{*nodes}.difference(split(code)[0])]
    if len(lacking) * len(code) <= _LOOKED_THROUGH and not _not_permitted(code, lacking, {False, None}):
        return code
    _check_changeable(code)
    return extended(code, nodes)


def _refusing(code: bytes, nodes: Sequence[Node]) -> bytes:
    """Return a program that refuses `nodes` and otherwise does what the program `code` does: `code` where it does."""
    permitted = [node for node in nodes if not _not_permitted(code, [node], {False})]
    if not permitted:
        return code
    _check_changeable(code)
    return reduced(code, permitted)


def _check_changeable(code: bytes) -> None:
    if not is_self_contained(code):
        raise ApplyError(
            "cannot change the container's device program",
            "it is not a container runtime's: it calls functions or uses maps",
            "let the tool that attached it permit the GPU (`bpftool cgroup tree` names it)",
            "OGH1504",
        )


def _check_ancestors(cgroup: DeviceCgroup, nodes: Sequence[Node]) -> None:
    """Raise ApplyError if a cgroup above the container's own refuses one of `nodes`."""
    path = cgroup.own_path
    directory = os.dup(cgroup.levels[0])
    try:
        while path not in ("", "/"):
            above = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
            os.close(directory)
            directory = above
            path = os.path.dirname(path)
            for code in map(_read, bpf.attached(directory)[1]):
                for node in _not_permitted(_shown(code), nodes, {False}):
                    raise ApplyError(
                        f"cannot give the container device {shown(node)}",
                        f"the cgroup {quoted(path)} above the container does not allow that device",
                        "allow it the device: for a systemd unit by DeviceAllow=, for a container by its devices",
                        "OGH1505",
                    )
    finally:
        os.close(directory)


def _read(program: int) -> bytes:
    """Return the instructions of the program with that id, b"" if it is gone."""
    try:
        descriptor = bpf.open_program(program)
    except FileNotFoundError:
        return b""
    try:
        return bpf.instructions(descriptor)
    finally:
        os.close(descriptor)

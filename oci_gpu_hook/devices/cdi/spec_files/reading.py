"""Reads a specification file, and checks it against all rules, with the line of each problem."""

from __future__ import annotations

import re
from itertools import islice

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.cdi.spec_files import fields, rules, text
from oci_gpu_hook.devices.cdi.spec_files.model import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from oci_gpu_hook.devices.cdi.spec_files.model import Specification
    from oci_gpu_hook.devices.cdi.spec_files.text import Node

SUFFIXES: Final = (".json", ".yaml")  # the files that engines read in directories of specifications
_INDEX: Final = re.compile(r"\[(\d+)\]")


class Reading(Record):
    """The result of reading a file: a specification, or its problems in the order of lines."""

    specification: Specification | None
    problems: tuple[Problem, ...]


def parse(data: bytes, *, is_json: bool) -> Reading:
    """Return the specification in `data`."""
    try:
        root = text.read(data, is_json=is_json)
    except text.Unreadable as error:
        return Reading(specification=None, problems=(error.problem,))
    specification, problems = fields.specification(root)
    if specification is not None:
        found = islice(rules.broken(specification), limits.CDI_SPEC_FAULTS)
        problems = tuple(
            Problem(line=_line(root, place), place=place, what=what, remedy=remedy) for place, what, remedy in found
        )
    problems = tuple(sorted(problems, key=lambda problem: problem.line)[: limits.CDI_SPEC_FAULTS])
    return Reading(specification=None if problems else specification, problems=problems)


def _line(root: Node, place: str) -> int:
    """Return the line of a field; if the file has no such field, that of the enclosing one."""
    node = root
    rest = place
    while rest:
        step, below = _below(node, rest)
        if step is None:
            return node.line
        node, rest = step, below
    return node.line


def _below(node: Node, rest: str) -> tuple[Node | None, str]:
    """Return the node that the first step of a place leads to, and the remaining steps."""
    if isinstance(node, text.Mapping):
        rest = rest.removeprefix(".")
        found: tuple[Node | None, str] = None, ""
        longest = -1  # annotations' keys have dots, so one may be the beginning of another
        for key, value in node.pairs:
            step, after = rest[: len(key.text)], rest[len(key.text) :]
            if len(step) > longest and step.lower() == key.text.lower() and after[:1] in ("", ".", "["):
                found, longest = (value, after), len(step)
        if longest >= 0:
            return found
    matched = _INDEX.match(rest)
    if isinstance(node, text.Sequence) and matched:
        return node.items[int(matched[1])], rest[matched.end() :]
    return None, ""

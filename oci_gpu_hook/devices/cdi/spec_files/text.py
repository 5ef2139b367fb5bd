"""Parses a specification file, YAML or JSON, into a tree of nodes with their lines. No container's start imports this.

Time and memory are limited by the size of the text, the depth of the tree, and the number of nodes after the expansion
of aliases (an alias means everything in its anchor, so a few lines could mean billions of nodes).
"""

from __future__ import annotations

import json
import re

import yaml

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.cdi.spec_files.model import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

_ESCAPE: Final = re.compile(r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|.)")
_WORD: Final = re.compile(r'"(?:\\.|[^"\\])*"|NaN|-?Infinity')  # a text, or what JSON does not have
LARGEST: Final = limits.CDI_SPEC
DEEPEST: Final = limits.CDI_SPEC_LEVELS
MOST_NODES: Final = limits.CDI_SPEC_VALUES
_PIECE: Final = 32  # characters of a text that count as another value: an alias may stand for a long one

_SPLIT: Final = "split it into several files"
_FLATTEN: Final = "nest lists and mappings as deep as the fields of CDI alone need"
_MERGE: Final = "<<"  # the key by which YAML 1.1 takes the pairs of another mapping in
_OF_YAML: Final = "tag:yaml.org,2002:"
_PLAIN: Final = ("int", "float", "bool", "null")  # tags of values that mean what they would without quotation marks
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(Exception):
    """The text is not YAML or JSON, or too much of it; `problem` says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Node(Record):
    """A node of the tree, and the line where it begins."""

    line: int

    @property
    def kind(self) -> str:
        """Return a description of the node for messages."""
        raise NotImplementedError


class Scalar(Node):
    """A scalar. plain: it has no quotation marks, so it may mean a number, a truth value or null."""

    text: str
    plain: bool

    @property
    def is_null(self) -> bool:
        """Tell whether it means null."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")

    @property
    def kind(self) -> str:
        """Return the text, quoted."""
        return "null" if self.is_null else quoted(self.text)


class Sequence(Node):
    """A list."""

    items: tuple[Node, ...]

    @property
    def kind(self) -> str:
        """Return what it is."""
        return "a list"


class Mapping(Node):
    """Pairs of key and value, without duplicate keys."""

    pairs: tuple[tuple[Scalar, Node], ...]

    @property
    def kind(self) -> str:
        """Return what it is."""
        return "a mapping"


def read(data: bytes, *, is_json: bool) -> Node:
    """Return the root of the one document in `data`. Raises Unreadable."""
    if len(data) > LARGEST:
        raise _unreadable(0, f"has more than the {LARGEST} bytes that are read", _SPLIT)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(line, f"is not UTF-8 at byte {error.start}", "save the file as UTF-8") from None
    if is_json:
        _check_json(text)
        text = text.replace("\t", " ")  # white space in JSON but forbidden in YAML; JSON strings can have it only as \t
        text = _ESCAPE.sub(_in_yaml, text)
    try:
        return _tree(yaml.parse(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        what = getattr(error, "problem", None) or str(error).partition("\n")[0]
        remedy = "correct the indentation, brackets or quotation marks there or just before"
        raise _unreadable(_line_of(error, text), f"is not YAML: {quoted(what)}", remedy) from None


def _line_of(error: yaml.YAMLError, text: str) -> int:
    """Return the line of an error: its mark's, or that of the character at its position; 0 if it has neither."""
    mark = getattr(error, "problem_mark", None)
    if mark:
        return int(mark.line) + 1
    position = getattr(error, "position", None)
    return 0 if position is None else text.encode().count(b"\n", 0, position) + 1


def _check_json(text: str) -> None:
    """Raise Unreadable for text that is not JSON. It is read as YAML, which gives line numbers and allows more."""
    try:
        json.loads(text, parse_constant=_no_constant, parse_int=str)
    except json.JSONDecodeError as error:
        remedy = "correct it there, or name the file .yaml if it is YAML"
        raise _unreadable(error.lineno, f"is not JSON: {error.msg}", remedy) from None
    except ValueError as error:
        line = next(text.count("\n", 0, word.start()) + 1 for word in _WORD.finditer(text) if word[0][:1] != '"')
        raise _unreadable(line, f"is not JSON: {error}", "write a number, or a text in quotation marks") from None
    except RecursionError:
        return  # `_tree` says the line from which on it is too much


def _in_yaml(escape: re.Match[str]) -> str:
    """Return an escape of JSON as YAML has it: a character beyond 16 bits is one escape there, and two in JSON."""
    high, low = escape.groups()
    if high is None:
        return "/" if escape[0] == "\\/" else escape[0]
    return f"\\U{0x10000 + ((int(high, 16) & 0x3FF) << 10 | int(low, 16) & 0x3FF):08x}"


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON value")


def _tree(events: Iterable[Any]) -> Node:
    """Build the tree from the parser's events, without recursion."""
    builder = _Builder()
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            builder.begin_document(line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            builder.open(event, line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            builder.close()
        elif isinstance(event, yaml.AliasEvent):
            builder.repeat(event.anchor, line)
        elif isinstance(event, yaml.ScalarEvent):
            node = Scalar(line=line, text=_joined(event.value), plain=event.implicit[0] or _tag(event, line) in _PLAIN)
            builder.add(node, 1 + len(node.text) // _PIECE, event.anchor, line)
    if builder.root is None:
        raise _unreadable(0, "is empty", "write cdiVersion, kind and devices")
    return builder.root


def _tag(event: yaml.ScalarEvent, line: int) -> str:
    """Return the tag of a value, "" for one of the file's own. Raises Unreadable for a text in base64."""
    tag = (event.tag or "").partition(_OF_YAML)[2]
    if tag == "binary":
        raise _unreadable(line, "has a text in base64 (!!binary)", "write the text itself, in quotation marks")
    return tag


class _Builder:
    """The tree under construction: open nodes, with their contents so far, and anchors."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._documents = 0
        self._open: list[tuple[yaml.CollectionStartEvent, int, list[Node]]] = []
        self._inside = [0]  # the number of nodes in each open node, aliases expanded; the first is the document's
        self._total = 0
        self._anchors: dict[str, tuple[Node, int]] = {}  # with the number of nodes in each

    def begin_document(self, line: int) -> None:
        self._documents += 1
        if self._documents > 1:
            raise _unreadable(line, "has a second document", "write it to a file of its own")

    def open(self, event: yaml.CollectionStartEvent, line: int) -> None:
        if len(self._open) == DEEPEST:
            raise _unreadable(line, f"is nested more than {DEEPEST} levels deep", _FLATTEN)
        self._open.append((event, line, []))
        self._inside.append(0)

    def close(self) -> None:
        event, line, inside = self._open.pop()
        node = _mapping(line, inside) if isinstance(event, yaml.MappingStartEvent) else _sequence(line, inside)
        size = self._inside.pop()
        self._total -= size  # `add` counts them again as part of this node
        self.add(node, size + 1, event.anchor, line)

    def repeat(self, anchor: str | None, line: int) -> None:
        if anchor is None or anchor not in self._anchors:
            what = f"the alias {quoted(anchor)} refers to itself or to nothing"
            raise _unreadable(line, what, "write what it stands for, or an anchor & before it")
        node, size = self._anchors[anchor]
        self.add(node, size, None, line)

    def add(self, node: Node, size: int, anchor: str | None, line: int) -> None:
        self._inside[-1] += size
        self._total += size
        if self._total > MOST_NODES:
            raise _unreadable(line, f"has more than {MOST_NODES} values", _SPLIT)
        if anchor:
            self._anchors[anchor] = (node, size)
        if self._open:
            self._open[-1][2].append(node)
        else:
            self.root = node


def _sequence(line: int, inside: list[Node]) -> Sequence:
    return Sequence(line=line, items=tuple(inside))


def _mapping(line: int, inside: list[Node]) -> Mapping:
    pairs = []
    merged: tuple[tuple[Scalar, Node], ...] = ()
    seen: set[str] = set()
    for key, value in zip(inside[::2], inside[1::2], strict=True):
        if not isinstance(key, Scalar):
            raise _unreadable(key.line, "a key is not text", "write the name of a field before the colon")
        if key.text in seen:
            raise _unreadable(key.line, f"the key {quoted(key.text)} appears twice", "remove one of them")
        seen.add(key.text)
        if key.text == _MERGE and key.plain:
            merged = _merged(key, value)
        else:
            pairs.append((key, value))
    return Mapping(line=line, pairs=(*pairs, *(pair for pair in merged if pair[0].text not in seen)))


def _merged(key: Scalar, value: Node) -> tuple[tuple[Scalar, Node], ...]:
    """Return what the key `<<` brings in: the pairs of a mapping or of several, of which the first goes first."""
    found: dict[str, tuple[Scalar, Node]] = {}
    for each in value.items if isinstance(value, Sequence) else (value,):
        if not isinstance(each, Mapping):
            what = f"{_MERGE} merges mappings, found {each.kind}"
            raise _unreadable(key.line, what, "write a mapping, an alias of one, or a list of those")
        for pair in each.pairs:
            found.setdefault(pair[0].text, pair)
    return tuple(found.values())


def _joined(text: str) -> str:
    r"""Join surrogate pairs in a text: JSON writes characters beyond U+FFFF as two \u escapes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if not text.isascii() else text


def _unreadable(line: int, what: str, remedy: str) -> Unreadable:
    return Unreadable(Problem(line=line, place="", what=what, remedy=remedy))

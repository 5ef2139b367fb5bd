"""The table of limits: docs/security.md says of each what it is in the code, and who reads by it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import oci_gpu_hook
from oci_gpu_hook.base import limits

PACKAGE = Path(oci_gpu_hook.__file__).parent
DOCUMENT = PACKAGE.parent / "docs/security.md"
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "s": 1.0, "": 1}
EVERY = {name: value for name, value in vars(limits).items() if name.isupper() and name != "TYPE_CHECKING"}


def readers() -> dict[str, set[str]]:
    """Return the modules that use each limit."""
    found: dict[str, set[str]] = {name: set() for name in EVERY}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "limits":
                found[node.attr].add(str(path.relative_to(PACKAGE)))
    return found


def rows() -> list[list[str]]:
    """Return the cells of the document's table."""
    text = DOCUMENT.read_text().partition("\n## Limits\n")[2].partition("\n## ")[0]
    table = [line for line in text.split("\n") if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_document_has_every_limit_as_it_is():
    said = {}
    for name, value, _what, _where in rows():
        number, _, unit = value.partition(" ")
        said[name.strip("`")] = float(number.replace(",", "")) * UNITS[unit]
    assert said == EVERY


def test_the_document_names_who_reads_by_it():
    said = {name.strip("`"): set(re.findall(r"`([^`]+)`", where)) for name, _value, _what, where in rows()}
    assert said == readers()


def test_the_order_is_that_of_the_code():
    assert [row[0].strip("`") for row in rows()] == list(EVERY)

"""The codes of errors: each is on the page and in the code, means one thing, and keeps it for good."""

from __future__ import annotations

import ast
import re

import pytest

from oci_gpu_hook.admin.cli import main
from oci_gpu_hook.base import errors
from tests.paths import ROOT

PAGE = (ROOT / "docs/errors.md").read_text()
ENTRIES = re.findall(r"^### (OGH\d{4}): (.+)$", PAGE, re.MULTILINE)
GIVEN = (ROOT / "tests/project/error_codes.txt").read_text()
CODE = re.compile(r'"(OGH\d{4})"')


def used():
    """Return the codes in the sources of the package and of the front, each with where it is."""
    found: dict[str, list[str]] = {}
    files = [*(ROOT / "oci_gpu_hook").rglob("*.py"), *(ROOT / "front").glob("*.c")]
    for path in files:
        text = path.read_text()
        for code in [*CODE.findall(text), *re.findall(r"\[(OGH\d{4})\]", text)]:
            found.setdefault(code, []).append(str(path.relative_to(ROOT)))
    return found


def test_the_page_has_each_code_once_and_no_other():
    codes = [code for code, _ in ENTRIES]
    assert len(codes) == len(set(codes)) > 90
    assert set(codes) == set(used())
    assert codes == sorted(codes), "in the order of their numbers"


@pytest.mark.parametrize(("code", "title"), ENTRIES, ids=[code for code, _ in ENTRIES])
def test_an_entry_has_a_cause_or_a_title_that_says_it_and_a_remedy(code, title):
    entry = PAGE.partition(f"### {code}: {title}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    assert entry.count("**Remedy:** ") == 1
    assert len(entry.split("**Remedy:** ")[1]) > 8


def test_no_code_is_used_again_for_something_else():
    """error_codes.txt only grows: what was given out once stays there, whether or not it is still in use."""
    given = dict(line.split(" ", 1) for line in GIVEN.splitlines())
    assert len(given) == len(GIVEN.splitlines())
    assert {code: given.get(code) for code, _ in ENTRIES} == dict(ENTRIES), "add new codes to error_codes.txt"
    assert not set(re.findall(r"OGH\d{4}", PAGE)) - set(given)


def test_every_kind_of_error_has_a_code_of_its_own():
    def kinds(kind):
        return [kind, *(each for below in kind.__subclasses__() for each in kinds(below))]

    for name in ("admin.engines.files", "admin.simulate.build", "allocation.model", "apply.rootfs.directory"):
        __import__(f"oci_gpu_hook.{name}")
    own = [kind for kind in kinds(errors.HookError) if "code" in kind.__dict__]  # others have that of what they are
    codes = [kind.code for kind in own if kind.__module__.startswith("oci_gpu_hook.")]
    assert len(codes) == len(set(codes)) > 9
    assert all(re.fullmatch(r"OGH\d{4}", code) for code in codes)


# Errors of these kinds have little in common, so each has a code of its own; these files make some that nobody sees so.
_BROAD = {"HookError", "InvalidInput", "EngineFileError", "AllocationError", "ApplyError", "DriverError"}
_UNSEEN = {"allocation/rebuild.py", "apply/operations/inspection.py", "lifecycle/apart_from_container.py"}


def test_no_error_has_only_the_code_of_a_broad_kind():
    found = []
    for path in (ROOT / "oci_gpu_hook").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _BROAD:
                coded = len(node.args) > 3 or any(each.arg == "code" for each in node.keywords)
                name = str(path.relative_to(ROOT / "oci_gpu_hook"))
                found += [] if coded or name in _UNSEEN else [f"{name}:{node.lineno}"]
    assert found == []


def test_an_error_may_have_a_code_of_its_own():
    assert errors.InvalidInput("a", "b", "c").code == "OGH1200"
    assert errors.InvalidInput("a", "b", "c", "OGH1201").code == "OGH1201"
    assert errors.coded("a\nb", "OGH1201") == "a\\nb [OGH1201]"


def test_help_prints_an_entry(capsys):
    assert main.main(["help", "ogh1303"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("OGH1303: too few GPUs are available\n\n")
    assert "Remedy: Try again later" in out
    assert "OGH1304" not in out


def test_help_of_a_code_that_does_not_exist(capsys):
    assert main.main(["help", "OGH0000"]) == 2
    assert "OGH0000" in capsys.readouterr().err

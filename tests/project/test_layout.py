"""The tree stays one that can be read: small files, tests where their room is, and each of them able to fail."""

from __future__ import annotations

import ast

import pytest

from tests.paths import ROOT

PACKAGE = ROOT / "oci_gpu_hook"
TESTS = ROOT / "tests"
LONGEST_MODULE = 299  # lines
# A second file of it would be one more that every start imports.
LONGER_MODULES = {"base/syscalls.py": "the numbers, structs and errno of system calls, in one place"}
LONGEST_TEST = 400
LONGER = {"attack/test_limits.py": "the worst input that each limit lets through, in one table"}
# Directories of tests/unit that are no rooms of the package: the front is written in C, NVIDIA's cases cross the rooms.
OTHER_SUBJECTS = {"front", "nvidia"}
CHECKS = {"raises", "warns", "fail"}


def lines(path):
    return len(path.read_text().splitlines())


def test_modules_are_short():
    """The list of longer ones holds none that is short by now."""
    found = {str(path.relative_to(PACKAGE)): lines(path) for path in PACKAGE.rglob("*.py")}
    assert found
    assert {name for name, count in found.items() if count > LONGEST_MODULE} == {*LONGER_MODULES}


def test_files_of_tests_are_short():
    """The list of longer ones holds none that is short by now."""
    found = {str(path.relative_to(TESTS)): lines(path) for path in TESTS.rglob("*.py")}
    assert {name for name, count in found.items() if count > LONGEST_TEST} == {*LONGER}


def test_unit_tests_stand_in_the_rooms_of_the_package():
    assert list((TESTS / "unit").glob("test_*.py")) == []
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert {path.name for path in (TESTS / "unit").iterdir() if path.is_dir() and any(path.rglob("*.py"))} <= {
        *rooms,
        *OTHER_SUBJECTS,
    }


def named(call):
    """Return the last name of what is called."""
    called = call.func
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def calls(tree):
    return {named(node) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def asserts(tree):
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree)) or bool(calls(tree) & CHECKS)


def functions(path):
    """Yield the functions of a file, methods too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def idle_tests(parts):
    """Return the tests that neither assert nor call a helper that does, directly or by way of others."""
    helpers = [part for part in parts if not part.name.startswith("test_")]
    asserting = {helper.name for helper in helpers if asserts(helper)}
    while more := {helper.name for helper in helpers if calls(helper) & asserting} - asserting:
        asserting |= more
    tests = [part for part in parts if part.name.startswith("test_")]
    return [test for test in tests if not asserts(test) and not calls(test) & asserting]


def test_every_test_asserts_something():
    where = {part: path for path in TESTS.rglob("*.py") for part in functions(path)}
    assert sum(part.name.startswith("test_") for part in where) > 1000
    assert [f"{where[part]}: {part.name}" for part in idle_tests(list(where))] == []


@pytest.mark.parametrize(
    ("text", "idle"),
    [
        ("def test_x():\n    print(1)\n", ["test_x"]),
        ("def test_x():\n    work()\ndef work():\n    return 1\n", ["test_x"]),
        ("def test_x():\n    assert 1 == 1\n", []),
        ("def test_x():\n    with pytest.raises(ValueError):\n        int('x')\n", []),
        ("def test_x():\n    work()\ndef work():\n    other()\ndef other():\n    assert 0\n", []),
    ],
)
def test_a_test_that_asserts_nothing_is_found(tmp_path, text, idle):
    path = tmp_path / "test_x.py"
    path.write_text(text)
    assert [test.name for test in idle_tests(list(functions(path)))] == idle


def constant(test):
    """Tell whether an assertion's outcome stands before anything has run."""
    match test:
        case ast.Constant() | ast.Tuple() | ast.GeneratorExp() | ast.Lambda():
            return True
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(constant(each) for each in values)
        case ast.IfExp(body=body, orelse=orelse):
            return constant(body) or constant(orelse)
    return False


def test_no_assertion_is_true_whatever_happens():
    found = [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert) and constant(node.test)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["True", "(x == 1, 'why')", "x is None or True", "x if y else True", "(a for a in x)"])
def test_an_assertion_on_a_constant_is_found(text):
    assert constant(ast.parse(text, mode="eval").body)
    assert not constant(ast.parse("x == 1", mode="eval").body)

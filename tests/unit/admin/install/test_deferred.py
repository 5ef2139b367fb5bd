"""Functions that stay in the file of modules until they are called: they mean the same, and the list is true."""

from __future__ import annotations

import ast
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from oci_gpu_hook.admin.install import deferred, hotpath_build
from tests.unit.admin.install.test_hotpath import package, start

__all__ = ["package"]

HOOK = """\
VALUE = 4
def seldom(first, second=2, *rest, key=3, **named):
    return first + second + len(rest) + key + len(named) + VALUE
def again():
    return seldom(1)
class Thing:
    def method(self, other=1):
        return type(self).__name__, other
    @classmethod
    def of_class(cls):
        return cls.__name__
    @staticmethod
    def alone(value):
        return value
    @property
    def known(self):
        return self.method(2)
    def __len__(self):
        return 5
    def over(self):
        return super().__len__()
def computed(value=VALUE):
    return value
def broken():

    raise ValueError(VALUE)
"""
NAMES = ("seldom", "Thing.method", "Thing.of_class", "Thing.alone", "Thing.known", "broken")
LEFT = ("Thing.__len__", "Thing.over", "computed")


@pytest.fixture
def modules(package, tmp_path, monkeypatch):
    """The file of modules of a package whose hook has functions that are deferred, and others that cannot be."""
    (package / "entrypoints" / "hook.py").write_text(HOOK)
    listed = tmp_path / "deferred.txt"
    listed.write_text("".join(f"oci_gpu_hook.entrypoints.hook:{name}\n" for name in (*NAMES, *LEFT)))
    monkeypatch.setattr(deferred, "LIST", str(listed))
    path = tmp_path / "modules"
    hotpath_build.write(str(path), sys.executable, str(package), "oci_gpu_hook.entrypoints.hook")
    return path


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("hook.seldom(1)", 10),
        ("hook.seldom(1, 1, 1, key=0, more=1)", 8),
        ("hook.again()", 10),
        ("hook.Thing().method()", ("Thing", 1)),
        ("hook.Thing.method(hook.Thing(), 3)", ("Thing", 3)),
        ("hook.Thing.of_class()", "Thing"),
        ("hook.Thing().of_class()", "Thing"),
        ("hook.Thing().alone(6)", 6),
        ("hook.Thing().known", ("Thing", 2)),
        ("len(hook.Thing())", 5),
        ("hook.computed()", 4),
    ],
)
def test_a_deferred_function_means_the_same(package, modules, expression, value):
    program = f"from oci_gpu_hook.entrypoints import hook; print({expression}, {expression}, sep='|')"
    assert start(package, modules, program) == f"{value}|{value}"


def test_its_byte_code_is_read_when_it_is_called(package, modules):
    program = (
        "from oci_gpu_hook.entrypoints import hook\n"
        "Deferred = scope['Deferred']\n"
        "first = hook.seldom\n"
        "print(type(first) is Deferred, len(Deferred.read), hook.seldom(1), first(1), len(Deferred.read))\n"
        "print(hook.seldom.__module__, hook.seldom.__qualname__)\n"
        "print([name for name, each in vars(hook.Thing).items() if type(each) is Deferred])\n"
        "print(type(hook.computed).__name__)"
    )
    assert start(package, modules, program).splitlines() == [
        "True 0 10 10 1",
        "oci_gpu_hook.entrypoints.hook seldom",
        "['method']",
        "function",
    ]


def test_an_error_in_it_has_its_place(package, modules):
    program = (
        "from oci_gpu_hook.entrypoints import hook\n"
        "try:\n    hook.broken()\nexcept ValueError as error:\n    trace = error.__traceback__\n"
        "while trace.tb_next:\n    trace = trace.tb_next\n"
        "print(trace.tb_frame.f_code.co_filename, trace.tb_lineno)"
    )
    line = HOOK.splitlines().index("    raise ValueError(VALUE)") + 1
    assert start(package, modules, program) == f"{package}/entrypoints/hook.py {line}"


@pytest.mark.parametrize("path", [deferred.LIST, deferred.COMMANDS_LIST], ids=["starts", "commands"])
def test_the_list_names_functions_that_there_are(path):
    """A renamed function would be read by every start again, and nobody would notice."""
    listed = Path(path).read_text().split()
    assert listed == sorted(set(listed), key=listed.index)
    wrong = []
    for module in {name.partition(":")[0] for name in listed}:
        found = find_spec(module)
        origin = found.origin if found else None
        source = Path(origin).read_text() if origin else ""
        codes = deferred.by_name(compile(source, module, "exec", dont_inherit=True))
        possible = {
            f"{module}:{name}"
            for _, _, name, function in deferred.functions_of(ast.parse(source))
            if deferred.is_possible(function, codes[name])
        }
        wrong += [name for name in listed if name.partition(":")[0] == module and name not in possible]
    assert wrong == []

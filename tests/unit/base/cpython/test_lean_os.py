"""The lean `os` is `os`: what it has is the same, what it lacks comes, and nobody can tell afterwards."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.paths import ROOT

LEAN = ROOT / "oci_gpu_hook" / "base" / "cpython" / "lean_os.py"


def answer(program, *options):
    text = (
        f"import sys\nscope = {{'__name__': 'lean_os'}}\nexec(open({str(LEAN)!r}).read(), scope)\n"
        f"scope['install']()\nimport os\nlean = '__getattr__' in os.__dict__\n{program}\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", *options, "-c", text], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_it_has_is_what_the_whole_module_has():
    program = """
has = {name: value for name, value in os.__dict__.items() if name[:2] != '__'}
names = (b'/a/\\xff', '/a/\\udcff', 'x')
said = [(has['fsencode'](name), has['fsdecode'](name)) for name in names]
os.walk
print(lean, '__getattr__' in os.__dict__)
functions = ('fsencode', 'fsdecode')
print([name for name, value in has.items() if name not in functions and value is not getattr(os, name)])
print(said == [(os.fsencode(name), os.fsdecode(name)) for name in names])
"""
    assert answer(program).splitlines() == ["True False", "[]", "True"]


@pytest.mark.parametrize("encoding", ["-Xutf8", "-Xutf8=0"])
def test_names_are_encoded_as_the_whole_module_does(encoding):
    program = "name = '\\udcff\\xe9'\nfirst = os.fsencode(name)\nos.walk\nprint(first == os.fsencode(name))"
    assert answer(program, encoding) == "True"


@pytest.mark.parametrize(
    "program",
    [
        "print(type(os.environ).__name__ == '_Environ')",
        "from os import environ; print(type(environ).__name__ == '_Environ')",
        "import os.path; print(os.path is sys.modules['posixpath'])",
        "from os.path import join; print(join('a', 'b') == 'a/b')",
        "import shutil, subprocess, tempfile; print(subprocess.run(['/bin/true']).returncode == 0)",
        "print([name for _, _, name in os.walk('/proc/self/ns')] != [])",
        "os.walk; print(sys.modules['os'] is os and 'environ' in os.__dict__ and os.__spec__.name == 'os')",
        "print(not hasattr(os, 'no_such_name'))",
    ],
)
def test_what_it_lacks_comes_when_it_is_asked_for(program):
    assert answer(program) == "True"


def test_the_whole_module_is_left_alone_where_it_is_there_already():
    text = (
        f"import os, sys\nwhole = os\nscope = {{'__name__': 'lean_os'}}\nexec(open({str(LEAN)!r}).read(), scope)\n"
        "scope['install']()\nimport os\nprint(os is whole)\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"

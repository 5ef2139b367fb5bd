"""Without CPython's private modules everything works as with them: base/cpython has what is used of them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.paths import ROOT

# An interpreter in which this package, and nothing else, finds no private module.
WITHOUT = """
import builtins, sys
whole = builtins.__import__
refused = set()

def lacking(name, globals=None, locals=None, fromlist=(), level=0):
    asking = (globals or {}).get("__name__", "")
    if name in ("_json", "_ctypes", "_signal") and asking.startswith("oci_gpu_hook."):
        refused.add(name)
        raise ImportError(name)
    return whole(name, globals, locals, fromlist, level)

builtins.__import__ = lacking
"""


def without_private_modules(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize(
    "tests",
    [*(f"base/test_{name}.py" for name in ("document", "syscalls", "log")), "entrypoints/mesos/test_launch_info.py"],
)
def test_the_tests_of_what_uses_them_pass_without_them(tests):
    program = """
import pytest
status = pytest.main(sys.argv[1:])
assert refused, "nothing was refused"
sys.exit(status)
"""
    done = without_private_modules(program, ROOT / "tests/unit" / tests, "-q", "-x", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr


def test_signals_are_given_back_without_their_private_module():
    program = """
from oci_gpu_hook.base.cpython import signals
import signal
signals.restore([signal.SIGXFSZ])
print(refused, signal.getsignal(signal.SIGPIPE).name, signal.getsignal(signal.SIGXFSZ).name)
signals.restore()
print(signal.getsignal(signal.SIGXFSZ).name)
"""
    done = without_private_modules(program)
    assert done.stdout == "{'_signal'} SIG_DFL SIG_IGN\nSIG_DFL\n", done.stderr


@pytest.mark.parametrize("guard", ["", WITHOUT], ids=["with", "without"])
def test_a_process_ends_when_its_time_is_over(guard):
    program = (
        guard + "\nfrom oci_gpu_hook.base.cpython import signals; import time; signals.die_after(1); time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT, timeout=30)
    assert done.returncode == -signal.SIGALRM


def test_signals_are_given_back():
    program = "from oci_gpu_hook.base.cpython import signals; import signal as s; signals.restore([s.SIGPIPE])"
    program += "; print(s.getsignal(s.SIGPIPE).name, s.getsignal(s.SIGXFSZ).name)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "SIG_IGN SIG_DFL\n"


def test_nothing_else_leans_on_them():
    """Of the fence; that nobody imports them elsewhere, ruff sees to (pyproject.toml, banned-api)."""
    fence = {path.stem for path in (ROOT / "oci_gpu_hook/base/cpython").glob("*.py")}
    assert fence == {"__init__", "ctypes_c", "hotpath", "json_c", "lean_os", "signals"}

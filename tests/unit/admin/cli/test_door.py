"""The start of `oci-gpu` with prepared byte code: it says what it says without, and uses none of another package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import oci_gpu_hook
from oci_gpu_hook.admin.install import hotpath_build

HOME = Path(oci_gpu_hook.__file__).parent
MAIN = "oci_gpu_hook.admin.cli.main"
SHOWS = "main = sys.modules['oci_gpu_hook.admin.cli.main']; print(hasattr(main, '__linked__'))"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A directory as that of the executables, with the byte code of the commands."""
    directory = tmp_path_factory.mktemp("executables")
    path = directory / f"oci-gpu.{sys.implementation.cache_tag}.modules"
    hotpath_build.write(str(path), sys.executable, str(HOME), MAIN, hotpath_build.COMMANDS, is_checkout=False)
    return directory


def start(directory, *words, home=HOME, more="", redirected=""):
    program = f"import sys; sys.path.append({str(home.parent)!r}); from oci_gpu_hook.admin.cli import door; "
    program += f"door._exit = lambda status: print('at once', status); status = door.main({str(directory)!r}); {more}"
    command = [sys.executable, "-ISB", "-c", program, *words]
    if redirected:
        command = ["sh", "-c", f'"$@" {redirected}', "sh", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    "words",
    ["--version", "--help", "attach --help", "detach", "cdi --help", "cdi generate --help", "info --help", "nothing"],
)
def test_it_says_what_it_says_otherwise(prepared, words):
    shown = start(prepared, *words.split(), more=SHOWS)
    usual = start("/nonexistent", *words.split(), more=SHOWS)
    assert shown.stdout.endswith("True\n")
    assert usual.stdout.endswith("False\n")
    assert shown.stdout.removesuffix("True\n") == usual.stdout.removesuffix("False\n")
    assert shown.stderr == usual.stderr


def test_byte_code_of_another_package_is_not_used(prepared, tmp_path):
    """As under a virtual environment and the distribution's package, which install to one directory as root."""
    other = tmp_path / "oci_gpu_hook"
    shutil.copytree(HOME, other, ignore=shutil.ignore_patterns("__pycache__"))
    shown = start(prepared, "--version", home=other, more=SHOWS)
    assert shown.stdout.endswith("False\n")


@pytest.mark.parametrize("damage", [b"", b"12345678", b"\xff" * 64])
def test_damaged_byte_code_is_not_used(tmp_path, damage):
    (tmp_path / f"oci-gpu.{sys.implementation.cache_tag}.modules").write_bytes(damage)
    assert start(tmp_path, "--version", more=SHOWS).stdout.endswith("False\n")


def test_it_ends_at_once_unless_somebody_is_to_be_called_at_the_end(prepared):
    assert "at once 0" in start(prepared, "--version").stdout
    assert "at once" not in start(prepared, "--version", more="").stdout.replace("at once 0", "")
    registered = "import atexit; " + "from oci_gpu_hook.admin.cli import door"
    program = f"import sys; sys.path.append({str(HOME.parent)!r}); {registered}; "
    program += "atexit.register(print, 'called'); door.main()"
    done = subprocess.run([sys.executable, "-ISB", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("called\n")


@pytest.mark.parametrize("redirected", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_not_taken_for_the_byte_code(prepared, redirected):
    more = "import os; os.stat(0).st_mode & 0o170000 == 0o100000 and os._exit(3)"
    assert start(prepared, "--version", redirected=redirected, more=more).returncode == 0


def test_output_that_cannot_be_written_is_an_error(prepared):
    done = start(prepared, "--version", redirected=">/dev/full", more="sys.exit(status)")
    assert "No space left on device [OGH1911]" in done.stderr

"""What `oci-gpu` imports: of its own modules, of the standard library and of other packages, for each command.

Imports are most of what a command costs: rich takes five times as long to import as Python to start, argparse as long.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from oci_gpu_hook.admin.cli.commands import COMMANDS
from oci_gpu_hook.admin.simulate.host import make

OURS = "oci_gpu_hook.admin.cli"
PROGRAM = "import sys; from oci_gpu_hook.admin.cli.main import main; main(sys.argv[1:]); print(*sys.modules)"
DEAR = {"rich", "jsonschema", "yaml", "structlog", "psutil", "pynvml", "prometheus_client"}  # packages of others
DEAR |= {"asyncio", "ctypes", "dataclasses", "difflib", "inspect", "logging", "pathlib", "shutil", "subprocess"}
DEAR |= {"tempfile", "tomllib", "typing"}

# What a command may import of these, on a host with two simulated GPUs whose configuration and inventory are stored.
TABLE = {"rich", "dataclasses", "inspect", "typing"}
TOML = {"tomllib", "typing", "difflib"}
SIMULATION = {"shutil", "subprocess", "tempfile"}
ALLOWED = {
    **{f"{name} --help": set() for name in COMMANDS},
    "info": TABLE,
    "info --json": set(),
    "plan --count 1 --json": {"difflib", "shutil", "tempfile"},
    "leases": TABLE | {"shutil"},
    "leases -q": {"shutil"},
    "leases --json": {"shutil"},
    "gpus --json": {"shutil"},
    "log --json": {"shutil", "subprocess"},
    "verify": set(),
    "verify --json": set(),
    "cdi generate --hook-path /hook": set(),
    "cdi generate --hook-path /hook --format json": set(),
    "cdi generate --hook-path /hook --class gds": set(),
    "cdi list": TABLE | {"yaml"},
    "cdi list --json": {"yaml"},
    "config --default": TOML,
    "config --help": TOML,
    "help": set(),
    "version": set(),
    "metrics --help": {"typing"},
    "install --help": TOML,
    "uninstall --help": TOML,
    "simulate --help": SIMULATION,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make(str(tmp_path_factory.mktemp("host") / "host"), gpus=2).config


def imported(*words: str) -> set[str]:
    command = [sys.executable, "-I", "-c", PROGRAM, *words]
    own = [sys.executable, "-I", "-c", "import sys; print(*sys.modules)"]
    with_ours, alone = (subprocess.check_output(each, stdin=subprocess.DEVNULL, text=True) for each in (command, own))
    return {*with_ours.splitlines()[-1].split()} - {*alone.split()}


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["--help"], ["-h"], []])
def test_little_is_imported_for_the_command_itself(words):
    found = imported(*words)
    modules = {"commands", "main"} if words in (["--version"], ["-V"]) else {"commands", "main", "overview", "examples"}
    assert {name for name in found if name.startswith(f"{OURS}.")} == {f"{OURS}.{name}" for name in modules}
    assert not {name.partition(".")[0] for name in found} & {"argparse", "re", "enum", "gettext", "locale", *DEAR}


@pytest.mark.parametrize("command", ALLOWED)
def test_a_command_imports_what_it_needs(config, command):
    words = ("--config", config, *command.split())
    imported(*words)  # what is stored is stored
    found = {name.partition(".")[0] for name in imported(*words)} & DEAR
    assert found <= ALLOWED[command]

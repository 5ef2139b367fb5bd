"""What `oci-gpu` does before any command: help, version, mistyped words, and output that nobody takes."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from oci_gpu_hook import __version__
from oci_gpu_hook.admin.cli import arguments, main

PROGRAM = Path(sys.executable).with_name("oci-gpu")


@pytest.fixture
def oci_gpu(capsys):
    """Run the command line; returns exit status, stdout and stderr."""

    def run(*words: str):
        status = main.main(words)
        return status, *capsys.readouterr()

    return run


def test_alone_it_shows_its_help(oci_gpu):
    alone, asked = oci_gpu(), oci_gpu("--help")
    assert alone == asked == oci_gpu("help") == oci_gpu("--debug")
    assert (alone[0], alone[2]) == (0, "")
    assert all(f"\n    {name} " in alone[1] for name in main.COMMANDS)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_summary_in_the_help_is_the_commands_own(name):
    module = importlib.import_module(f"oci_gpu_hook.admin.cli.{name.replace('-', '_')}")
    assert arguments.summary(name) == module.SUMMARY


@pytest.mark.parametrize("words", [("leases",), ("leases", "release"), ("cdi", "list")])
def test_help_of_a_command(oci_gpu, words):
    assert oci_gpu("help", *words) == oci_gpu(*words, "--help")
    assert oci_gpu("help", *words)[1].startswith(f"usage: oci-gpu {' '.join(words)} ")


@pytest.mark.parametrize("words", [("--version",), ("-V",), ("version",), ("--debug", "--version")])
def test_version(oci_gpu, words):
    assert oci_gpu(*words) == (0, f"oci-gpu {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("leese",), "there is no command 'leese'; did you mean 'leases'? `oci-gpu help` lists them"),
        (("Doctor",), "did you mean 'doctor'?"),
        (("zzzz",), "there is no command 'zzzz'; `oci-gpu help` lists them"),
        (("x\x1b[31m",), r"there is no command 'x\x1b[31m'"),
        (("help", "leese"), "did you mean 'leases'?"),
        (("leases", "--jsn"), "unrecognized arguments: --jsn; did you mean '--json'?"),
        (("install", "docker", "--dryrun"), "did you mean '--dry-run'?"),
        (("leases", "release", "x", "--forse"), "did you mean '--force'?"),
        (("install", "dockr"), "did you mean 'docker'?"),
        (("leases", "relase", "x"), "did you mean 'release'?"),
        (("--confg", "x"), "unrecognized arguments: --confg; did you mean '--config'?"),
        (("leases", "--jsn\x1b"), r"unrecognized arguments: --jsn\x1b"),
    ],
)
def test_a_mistyped_word_is_wrong_usage_and_what_was_meant_is_suggested(oci_gpu, words, said):
    status, out, complaint = oci_gpu(*words)
    assert (status, out) == (2, "")
    assert said in complaint


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["--help"], []])
def test_little_is_imported_for_it(words):
    program = "import sys; from oci_gpu_hook.admin.cli.main import main; main(sys.argv[1:]); print(*sys.modules)"
    command = [sys.executable, "-I", "-c", program, *words]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    imported = {*shown.splitlines()[-1].split()}
    ours = {name for name in imported if name.startswith("oci_gpu_hook.admin.cli.")}
    own = {"main"} if "--version" in words or "-V" in words else {"main", "arguments", "examples"}
    assert ours == {f"oci_gpu_hook.admin.cli.{name}" for name in own}
    assert not imported & {"rich", "jsonschema", "psutil", "shutil", "structlog", "subprocess", "tomllib", "difflib"}


def shell(command: str) -> subprocess.CompletedProcess[str]:
    script = f"set -o pipefail; {command.replace('oci-gpu', str(PROGRAM), 1)}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", ["--version", "--help", "help leases", "config", "completion bash"])
class TestOutputThatNobodyTakes:
    def test_a_reader_that_has_seen_enough(self, words):
        done = shell(f"oci-gpu {words} | true")
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_full_disk(self, words):
        done = shell(f"oci-gpu {words} >/dev/full")
        assert (done.returncode, done.stderr) == (1, "oci-gpu: error: No space left on device [OGH1911]\n")

    def test_a_closed_stdout(self, words):
        done = shell(f"oci-gpu {words} >&-")
        assert (done.returncode, done.stderr) == (0, "")

    def test_everything_closed(self, words):
        assert shell(f"oci-gpu {words} <&- >&- 2>&-").returncode == 0


def test_a_complaint_that_nobody_reads():
    assert shell("oci-gpu leese 2>&-").returncode == 2
    assert shell("oci-gpu --config /nonexistent config 2>/dev/full").returncode == 1

"""docs/exit-statuses.md against what the programs do: a row has a case for each status that needs no engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.paths import ROOT

ROWS = re.findall(r"^\| (`.+?`) \| .+ \| .+ \| .+ \|$", (ROOT / "docs/exit-statuses.md").read_text(), re.MULTILINE)
BIN = Path(sys.executable).parent
BAD = ("--no-such-option",)
# By row and status: the program, its arguments. @ is the simulated host's directory, with a bundle and two CDI files.
CASES: dict[str, dict[int, tuple[str, ...]]] = {
    "`oci-gpu-hook`": {0: ("oci-gpu-hook", "poststart"), 1: ("oci-gpu-hook", "prestart"), 2: ("oci-gpu-hook", "x")},
    "`oci-gpu`": {0: ("oci-gpu", "version"), 1: ("oci-gpu", "request", "/none"), 2: ("oci-gpu", "no-such-command")},
    "`oci-gpu config --check`": {
        0: ("oci-gpu", "--config", "@/config.toml", "config", "--check"),
        1: ("oci-gpu", "--config", "@/bad.toml", "config", "--check"),
        2: ("oci-gpu", "config", "--check", *BAD),
    },
    "`oci-gpu doctor`": {2: ("oci-gpu", "--config", "@/bad.toml", "doctor")},
    "`oci-gpu plan`": {
        0: ("oci-gpu", "--config", "@/config.toml", "plan", "--env", "A=b"),
        1: ("oci-gpu", "--config", "@/config.toml", "plan", "--env", "NVIDIA_VISIBLE_DEVICES=99"),
        2: ("oci-gpu", "plan", *BAD),
    },
    "`oci-gpu repair`": {
        0: ("oci-gpu", "--config", "@/config.toml", "repair", "--all"),
        1: ("oci-gpu", "--config", "@/config.toml", "repair", "no-such-container"),
        2: ("oci-gpu", "repair"),
    },
    "`oci-gpu cdi list`, `oci-gpu cdi validate`": {
        1: ("oci-gpu", "cdi", "validate", "@/bad.toml"),
        2: ("oci-gpu", "cdi", "validate", *BAD),
    },
    "`oci-gpu uninstall --all`": {2: ("oci-gpu", "uninstall", *BAD)},
    "`oci-gpu verify`": {
        0: ("oci-gpu", "--config", "@/config.toml", "verify"),
        1: ("oci-gpu", "--config", "@/config.toml", "verify", "no-such-container"),
        2: ("oci-gpu", "verify", *BAD),
    },
}
OF_ANOTHER_PROGRAM = {"`oci-gpu-runtime`, `oci-gpu-slurm`"}  # mostly the real runtime's; tests/unit/front, tests/slurm


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    directory = tmp_path_factory.mktemp("host") / "simulated"
    make(str(directory), gpus=1, device_nodes=False)
    (directory / "bad.toml").write_text("[state]\ndir = 3\n")
    return directory


def test_every_row_has_cases():
    assert {*ROWS} == {*CASES} | OF_ANOTHER_PROGRAM


@pytest.mark.parametrize(
    ("status", "words"),
    [pytest.param(status, words, id=" ".join(words)) for case in CASES.values() for status, words in case.items()],
)
def test_the_status_is_the_tables(host, status, words):
    program, *arguments = words
    command = [BIN / program, *(word.replace("@", str(host)) for word in arguments)]
    done = subprocess.run(command, input="{}", capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    if status == 1 and "config" not in words and "validate" not in words:
        assert re.search(r" \[OGH\d{4}\]$", (done.stdout + done.stderr).strip()), done.stderr

"""Shell completion: each shell that is installed here completes commands, options, choices and files."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from oci_gpu_hook.admin.cli import completion, main, outline

TOP = outline.read()
WRITERS = {"bash": completion.bash, "zsh": completion.zsh, "fish": completion.fish}
INSTALLED = [shell for shell in WRITERS if shutil.which(shell)]
BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_oci_gpu
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    directory = tmp_path_factory.mktemp("completion")
    for shell, write in WRITERS.items():
        (directory / shell).write_text(write(TOP))
    return directory


def of_bash(scripts, line):
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", scripts / "bash", *line], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (("oci-gpu", "d"), ["doctor"]),
        (("oci-gpu", "--config", "x", "inf"), ["info"]),
        (("oci-gpu", "--de"), ["--debug"]),
        (("oci-gpu", "doctor", "--r"), ["--run"]),
        (("oci-gpu", "install", "pod"), ["podman"]),
        (("oci-gpu", "simulate", "x", "--layout", "lib"), ["lib64"]),
        (("oci-gpu", "leases", "re"), ["release"]),
        (("oci-gpu", "simulate", "x", "--gpus", "1"), []),
        (("oci-gpu", "plan", "/et"), ["/etc"]),
        (("oci-gpu", "--config", "/etc/pass"), ["/etc/passwd", "/etc/passwd-"]),
    ],
)
def test_bash(scripts, line, expected):
    assert sorted(of_bash(scripts, line)) == expected


def test_bash_offers_every_command(scripts):
    assert {*of_bash(scripts, ("oci-gpu", ""))} >= {*main.COMMANDS}


@pytest.mark.parametrize("shell", INSTALLED)
def test_the_script_is_one_for_its_shell(scripts, shell):
    done = subprocess.run([shell, "-n", scripts / shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", [shell for shell in INSTALLED if shell == "fish"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [("oci-gpu doc", "doctor"), ("oci-gpu doctor --r", "--run"), ("oci-gpu install pod", "podman")],
)
def test_fish(scripts, shell, line, expected):
    program = f"source {scripts / shell}; complete -C {line!r}"
    done = subprocess.run([shell, "--no-config", "-c", program], capture_output=True, text=True, check=True)
    assert expected in [row.split("\t")[0] for row in done.stdout.splitlines()]


def test_every_option_is_in_every_script():
    for command in outline.everything(TOP):
        for option in command.options:
            for flag in option.flags:
                assert flag in completion.zsh(TOP)
                assert flag.lstrip("-") in completion.fish(TOP)

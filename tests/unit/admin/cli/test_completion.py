"""Shell completion: each shell that is installed here completes commands, options, choices and files."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from oci_gpu_hook.admin.cli import completion, main, outline
from oci_gpu_hook.admin.cli.commands import COMMANDS

TOP = outline.read()
WRITERS = {"bash": completion.bash, "zsh": completion.zsh, "fish": completion.fish}
each_shell = pytest.mark.parametrize(
    "shell",
    [pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name}")) for name in WRITERS],
)
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
        (("oci-gpu", "d"), ["detach", "doctor"]),
        (("oci-gpu", "--config", "x", "inf"), ["info"]),
        (("oci-gpu", "--de"), ["--debug"]),
        (("oci-gpu", "doctor", "--r"), ["--run"]),
        (("oci-gpu", "install", "pod"), ["podman"]),
        (("oci-gpu", "simulate", "x", "--layout", "lib"), ["lib64"]),
        (("oci-gpu", "leases", "re"), ["release"]),
        (("oci-gpu", "help", "lea"), ["leases"]),
        (("oci-gpu", "simulate", "x", "--gpus", "1"), []),
        (("oci-gpu", "simulate", "x", "--product", "H2"), ["H200"]),
        (("oci-gpu", "plan", "/et"), ["/etc"]),
        (("oci-gpu", "--config", "/etc/pass"), ["/etc/passwd", "/etc/passwd-"]),
    ],
)
def test_bash(scripts, line, expected):
    assert sorted(of_bash(scripts, line)) == expected


@pytest.fixture
def containers(tmp_path, monkeypatch):
    """An `oci-gpu` on PATH that knows two containers, one with a name that a shell must not read; yields its mark."""
    mark = tmp_path / "mark"
    hostile = f"train-$(touch${{IFS}}{mark})`touch {mark}`"
    (tmp_path / "names").write_text(f"train-model\n{hostile}\n3f5a3f5a3f5a\n")
    program = tmp_path / "oci-gpu"
    program.write_text(f'#!/bin/sh\n[ "$*" = "completion containers" ] && cat {tmp_path}/names\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    yield mark
    assert not mark.exists(), "a container's name was run as a command"


@pytest.mark.parametrize(
    "command", [("verify",), ("repair",), ("attach",), ("detach",), ("leases", "release"), ("log", "--container")]
)
def test_bash_offers_containers(scripts, containers, command):
    assert "train-model" in of_bash(scripts, ("oci-gpu", *command, "train-m"))
    assert "3f5a3f5a3f5a" in of_bash(scripts, ("oci-gpu", *command, "3"))
    assert "3f5a3f5a3f5a" not in of_bash(scripts, ("oci-gpu", *command, "train"))


ZSH = """
zmodload zsh/zpty
zpty shell env TERM=dumb PATH="$PATH" zsh -f -i
say() { zpty -w shell "$1"; }
say 'PS1= PS2=; stty -echo; bindkey -e; autoload -Uz compinit; compinit -u -D; zstyle ":completion:*" verbose no
    source '"$1"'
    compadd() {
        [[ ${@[1,(i)(-|--)]} == *-(O|A|D)* ]] || {
            builtin compadd -O offered "$@"
            print -l -- $offered >>'"$3"'
        }
        builtin compadd "$@"
    }
    print ready'
while zpty -r shell line; do [[ $line == *ready* ]] && break; done
zpty -w -n shell "$2"$'\\t'
for _ in {1..50}; do [[ -s "$3" ]] && break; sleep 0.1; done
zpty -d shell
"""


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
@pytest.mark.parametrize("line", ["verify ", "leases release ", "plan ", "log --container "])
def test_zsh_offers_containers(scripts, containers, tmp_path, line):
    """Typed at a prompt, in a terminal; what compadd is given is written down."""
    offered = tmp_path / "offered"
    offered.touch()
    command = ["zsh", "-f", "-c", ZSH, "zsh", scripts / "zsh", f"oci-gpu {line}", offered]
    subprocess.run(command, check=False, capture_output=True, timeout=30)
    assert {"train-model", "3f5a3f5a3f5a"} <= {*offered.read_text().splitlines()}


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish")
@pytest.mark.parametrize("line", ["verify", "leases release", "log --container"])
def test_fish_offers_containers(scripts, containers, line):
    program = f"source {scripts / 'fish'}; complete -C 'oci-gpu {line} tr'"
    done = subprocess.run(["fish", "--no-config", "-c", program], capture_output=True, text=True, check=True)
    assert "train-model" in done.stdout


def test_what_containers_are_called(tmp_path, capsys):
    (tmp_path / "config.toml").write_text(f'[state]\ndir = "{tmp_path}/state"\n')
    assert main.main(["--config", f"{tmp_path}/config.toml", "completion", "containers"]) == 0
    assert capsys.readouterr().out == ""


def test_bash_offers_every_command(scripts):
    assert {*of_bash(scripts, ("oci-gpu", ""))} >= {*COMMANDS}


@each_shell
def test_the_script_is_one_for_its_shell(scripts, shell):
    done = subprocess.run([shell, "-n", scripts / shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("oci-gpu doc", "doctor"),
        ("oci-gpu doctor --r", "--run"),
        ("oci-gpu install pod", "podman"),
        ("oci-gpu help lea", "leases"),
    ],
)
def test_fish(scripts, line, expected):
    program = f"source {scripts / 'fish'}; complete -C {line!r}"
    done = subprocess.run(["fish", "--no-config", "-c", program], capture_output=True, text=True, check=True)
    assert expected in [row.split("\t")[0] for row in done.stdout.splitlines()]


def lines(command, words=("oci-gpu",)):
    """Yield every command with the words that lead to it."""
    yield words, command
    for each in command.below:
        yield from lines(each, (*words, each.name))


def test_every_option_is_in_every_script(scripts):
    flags = [flag for command in outline.everything(TOP) for option in command.options for flag in option.flags]
    assert {"--help", "--json", "--dry-run"} <= {*flags}
    for flag in flags:
        assert flag in (scripts / "zsh").read_text()
        assert flag.lstrip("-") in (scripts / "fish").read_text()


@pytest.mark.parametrize(("words", "command"), [pytest.param(*line, id=" ".join(line[0])) for line in lines(TOP)])
def test_bash_offers_every_option(scripts, words, command):
    assert {*of_bash(scripts, (*words, "-"))} >= {flag for option in command.options for flag in option.flags}

"""What `oci-gpu` does before any command: help, version, mistyped words, and output that nobody takes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from oci_gpu_hook import __version__
from oci_gpu_hook.admin.cli import hints, info, main, outline
from oci_gpu_hook.admin.cli.commands import COMMANDS

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
    assert all(f"\n  {name} " in alone[1] for name in COMMANDS)


def test_its_help_lists_every_option_of_its_parser(oci_gpu):
    shown = oci_gpu("--help")[1]
    for option in outline.read().options:
        name = ", ".join(option.flags) + (f" {option.value}" if option.value else "")
        assert f"\n  {name} " in shown
        assert option.meaning in shown


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_its_help_fits_the_terminal(oci_gpu, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = oci_gpu("--help")[1].partition("examples:")[0]
    wide = [line for line in shown.splitlines() if len(line) > columns - 2]
    assert not [line for line in wide if "/etc/oci-gpu-hook/config.toml)" not in line]  # a path is not broken
    assert " ".join(shown.split()).count("say what to do if not") == 1


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
        (("leases", "-j"), "unrecognized arguments: -j; did you mean '--json'?"),
        (("top", "-i", "2"), "unrecognized arguments: -i 2; did you mean '--interval'?"),
        (("run", "-c2"), "unrecognized arguments: -c2; a command comes after --"),  # --count or --capabilities
        (("verify", "-z"), "unrecognized arguments: -z\n"),
        (("leases", "--jsn\x1b"), r"unrecognized arguments: --jsn\x1b"),
    ],
)
def test_a_mistyped_word_is_wrong_usage_and_what_was_meant_is_suggested(oci_gpu, words, said):
    status, out, complaint = oci_gpu(*words)
    assert (status, out) == (2, "")
    assert said in complaint


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("docker",), "did you mean `oci-gpu install docker` or `oci-gpu run --engine docker`? `oci-gpu help`"),
        (("CRIO",), "did you mean `oci-gpu install crio`? `oci-gpu help`"),
        (("runc",), "did you mean `oci-gpu run --engine runc`? `oci-gpu help`"),
        (("ps",), "did you mean 'leases'?"),
        (("setup",), "did you mean 'install'?"),
        (("--devices", "all"), "--devices goes after a command that has it: plan, attach, detach, run\n"),
        (("--gpus", "all"), "--devices goes after a command that has it: plan, attach, detach, run\n"),
        (("--gpus=all",), "--devices goes after a command that has it: plan, attach, detach, run\n"),
        (("--json", "info"), "--json goes after the command, as in `oci-gpu info --json`\n"),
        (("info", "--config", "x"), "--config goes before the command, as in `oci-gpu --config …`\n"),
        (("info", "-V"), "-V goes before the command, as in `oci-gpu -V …`\n"),
        (("run", "--gpus", "all"), "did you mean '--devices' (which GPUs) or '--count' (how many)?\n"),
        (("run", "ubuntu", "nvidia-smi", "-L"), "; a command comes after --: oci-gpu run [IMAGE] -- COMMAND\n"),
        (("install",), "required: engine; name one of docker, podman, crio, containerd, mesos, slurm, resident\n"),
        (("cdi",), "required: ACTION; name one of generate, refresh, list, validate\n"),
    ],
)
def test_a_word_in_the_wrong_place_is_told_where_it_belongs(oci_gpu, words, said):
    status, out, complaint = oci_gpu(*words)
    assert (status, out) == (2, "")
    assert said in complaint


def test_an_option_that_is_not_known_is_refused_with_the_usage_of_its_command(oci_gpu):
    assert oci_gpu("verify", "--foo")[2].startswith("usage: oci-gpu verify ")


def test_the_words_of_other_tools_lead_to_commands_that_exist():
    assert set(hints.OTHER_WORDS.values()) <= set(COMMANDS)
    assert not set(hints.OTHER_WORDS) & set(COMMANDS)


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def shell(request, monkeypatch):
    """Run a command by a shell, with output that Python buffers or not."""
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)

    def run(command: str) -> subprocess.CompletedProcess[str]:
        script = f"set -o pipefail; {command.replace('oci-gpu', str(PROGRAM), 1)}"
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize("words", ["--version", "--help", "help leases", "config", "completion bash"])
class TestOutputThatNobodyTakes:
    def test_a_reader_that_has_seen_enough(self, shell, words):
        done = shell(f"oci-gpu {words} | true")
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_full_disk(self, shell, words):
        done = shell(f"oci-gpu {words} >/dev/full")
        assert (done.returncode, done.stderr) == (1, "oci-gpu: error: No space left on device [OGH1911]\n")

    def test_a_closed_stdout(self, shell, words):
        done = shell(f"oci-gpu {words} >&-")
        assert (done.returncode, done.stderr) == (0, "")

    def test_everything_closed(self, shell, words):
        assert shell(f"oci-gpu {words} <&- >&- 2>&-").returncode == 0


@pytest.mark.parametrize("nowhere", ["2>&-", "2>/dev/full", "2> >(true)"])
@pytest.mark.parametrize(("words", "status"), [("leese", 2), ("leases -x", 2), ("--config /nonexistent config", 1)])
def test_a_complaint_that_nobody_reads(shell, words, status, nowhere):
    """Not Python's 120, with which it says so itself."""
    assert shell(f"oci-gpu {words} {nowhere}").returncode == status


@pytest.mark.parametrize(
    ("errno_", "remedy"), [(errno.ENOENT, "check that it is there"), (errno.EACCES, "run it as root")]
)
def test_a_user_is_sent_to_root_only_where_root_would_help(errno_, remedy, capsys, monkeypatch):
    def fail(_options):
        raise OSError(errno_, os.strerror(errno_), "/srv/there")

    monkeypatch.setattr(info, "run", fail)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main.main(["info"]) == 1
    assert f"'/srv/there': {os.strerror(errno_)}; {remedy}" in capsys.readouterr().err


@pytest.mark.parametrize("shell", [""], indirect=True)
@pytest.mark.parametrize("words", ["leases --watch", "leases --watch --json", "log --follow"])
def test_what_follows_ends_with_its_reader_though_nothing_more_happens(tmp_path, shell, words):
    log, config = tmp_path / "log", tmp_path / "config.toml"
    log.write_text('{"event": "released", "level": "info", "timestamp": "2026-11-28T00:00:00.000000Z", "gpus": []}\n')
    config.write_text(f'[state]\ndir = "{tmp_path}/state"\n[log]\nfile = "{log}"\n')
    done = shell(f"timeout 20 oci-gpu --config {config} {words} | head -n 1")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1

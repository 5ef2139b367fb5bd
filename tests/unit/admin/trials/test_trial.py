"""A trial under an engine, of which this has a client of its own: what is removed, however the trial ends."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from oci_gpu_hook.admin.cli.main import main
from oci_gpu_hook.admin.doctor import tiny
from oci_gpu_hook.admin.trials import engines, trial
from oci_gpu_hook.base.errors import HookError

# github.com/containerd/containerd/pkg/identifiers: identifierRegex
IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*")
WANTED = engines.Wanted(image="", command=("true",), env=(), config="", has_own_config=False)
CLIENT = """#!/bin/sh
echo "$*" >>{log}
case $1 in
info) echo '{{"oci-gpu": {{}}}}' ;;
{cases}
esac
"""


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Return a function that makes a client called docker, with cases of a shell's `case`, and returns its log."""
    monkeypatch.setattr(tiny, "make_rootfs", lambda path: Path(path).mkdir())
    monkeypatch.setattr(trial, "_PLACES", (str(tmp_path),))

    def make(cases: str) -> Path:
        client, log = tmp_path / "bin/docker", tmp_path / "log"
        client.parent.mkdir()
        client.write_text(CLIENT.format(log=log, cases=cases))
        client.chmod(0o755)
        monkeypatch.setenv("PATH", f"{client.parent}:/usr/bin:/bin")
        return log

    return make


def assert_all_is_removed(log: Path) -> None:
    said = log.read_text()
    assert re.search(r"^rm --force oci-gpu-run-docker-\S+$", said, re.MULTILINE)
    assert re.search(r"^rmi --force oci-gpu-run:oci-gpu-run-docker-\S+$", said, re.MULTILINE)
    assert not list(log.parent.glob("oci-gpu-run-*"))


def test_containerd_takes_every_name(docker, monkeypatch):
    docker("")
    names = []

    def prepare(_engine, _wanted, work, *_remove):
        names.append(Path(work).name)
        raise HookError("a", "b", "c")

    monkeypatch.setattr(engines, "prepare", prepare)
    for _ in range(300):
        with pytest.raises(HookError):
            trial.run("containerd", WANTED, 1)
    assert len({*names}) == 300
    assert [name for name in names if not IDENTIFIER.fullmatch(name)] == []


def test_an_import_that_does_not_end_is_an_error_and_what_it_made_is_removed(docker, monkeypatch):
    monkeypatch.setattr(engines, "_SECONDS", 0.5)
    log = docker("import) exec sleep 30 ;;")
    with pytest.raises(HookError, match="did not end within"):
        trial.run("docker", WANTED, 1)
    assert_all_is_removed(log)


@pytest.fixture
def ended_by_hangups():
    """Have SIGHUP end this process, also where nohup has started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", ["import", "run", "rm"])
def test_a_signal_at_any_step_leaves_nothing(docker, number, step, ended_by_hangups):
    log = docker(f"{step}) kill -{number} $PPID; sleep 0.3 ;;")
    if step == "rm":
        trial.run("docker", WANTED, 10)
    else:
        with pytest.raises(SystemExit) as ended:
            trial.run("docker", WANTED, 10)
        assert ended.value.code == 128 + number
    assert_all_is_removed(log)


def test_what_nohup_has_ignored_stays_ignored(docker):
    log = docker("run) kill -HUP $PPID; sleep 0.3; exit 3 ;;")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert trial.run("docker", WANTED, 10).status == 3
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert_all_is_removed(log)


def test_what_the_hook_said_is_shown_where_the_engine_shows_it_to_nobody(monkeypatch, capsys):
    """As crun, which keeps what hooks write to stderr in the file of an annotation."""
    said = "oci-gpu-hook: error: 99 GPUs: this host has 2 GPUs; ask for at most 2 [OGH1302]"
    monkeypatch.setattr(engines, "installed", lambda: ("crun",))
    monkeypatch.setattr(trial, "run", lambda *_: trial.Outcome(status=1, seconds=0.1, words=said))
    assert main(["run", "--engine", "crun", "--count", "99"]) == 1
    assert f"\n{said}\ncrun: exit status 1, " in capsys.readouterr().out

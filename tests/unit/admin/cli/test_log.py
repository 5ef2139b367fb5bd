"""`oci-gpu log`: the lines of both logs, of one container, and those that come.

The file is written by the hook's own log; journalctl is a program that prints entries as journald's has them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from oci_gpu_hook.base import log
from oci_gpu_hook.base.config.model import Config
from tests.paths import ROOT

OCI_GPU = Path(sys.executable).with_name("oci-gpu")
WEB, JOB = "ab" * 32, "cd" * 32


def entry(seconds: float, text: str, container: str = "", **more: object) -> str:
    """Return an entry as `journalctl --output=json` prints it."""
    stamp, name = str(int(seconds * 1e6)), {"CONTAINER_ID_FULL": container} if container else {}
    fields = {"__REALTIME_TIMESTAMP": stamp, "__CURSOR": f"s={stamp}", "MESSAGE": text, "PRIORITY": "3", **name}
    return json.dumps({**fields, "SYSLOG_IDENTIFIER": "oci-gpu-hook", "_UID": "0", **more})


class Host:
    """A host with a log file, and with a journal where `journal` was called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "hook.log"
        self.config = directory / "config.toml"
        self.config.write_text(f'[log]\nfile = "{self.file}"\n[state]\ndir = "{directory}/state"\n')
        (directory / "bin").mkdir()

    def journal(self, *entries: str) -> None:
        (self.directory / "entries").write_text("".join(f"{each}\n" for each in entries))
        program = self.directory / "bin/journalctl"
        program.write_text(
            f'#!/bin/sh\necho "$@" >>{self.directory}/asked\n'
            f'case "$*" in *--follow*) touch {self.directory}/more; exec tail -n +1 -f {self.directory}/more;;\n'
            f"*) cat {self.directory}/entries;; esac\n"
        )
        program.chmod(0o755)

    def command(self, *arguments: str) -> list[str]:
        return [str(OCI_GPU), "--config", str(self.config), "log", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PATH": f"{self.directory}/bin:/usr/bin:/bin", "TZ": "UTC"}

    def log(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr("oci_gpu_hook.base.system_log._send", lambda *_: True)  # the machine's own log stays out of it
    log.forget()  # a refusal that another test has logged in this process: only the first of a hook is logged
    made = Host(tmp_path)
    made.journal()
    yield made
    log.forget()


def written(host: Host, container: str, event: str, **fields: object) -> None:
    """Log as a hook does for a container."""
    log.configure(Config(log_file=str(host.file)), container=container)
    log.info(event, **fields)


def test_both_logs_in_the_order_of_time_and_what_is_in_both_once(host):
    written(host, WEB, "granted", gpus=["GPU-1"], exclusive=False)
    log.configure(Config(log_file=str(host.file)), container=JOB)
    log.refused("oci-gpu-hook", "unknown device '9': this host has none", "x")
    now = time.time()
    host.journal(
        entry(now - 60, "cannot ask NVML", "ef" * 32),
        entry(now + 0.001, "unknown device '9': this host has none", JOB),
        entry(now + 0.002, "by somebody", JOB, _UID="1000"),
    )
    lines = [line.split("  ", 1)[1].strip() for line in host.log().splitlines()]
    assert lines == [
        "error    efefefefefef: refused: cannot ask NVML (program oci-gpu-hook)",
        "info     abababababab: granted (gpus GPU-1; exclusive no)",
        "error    cdcdcdcdcdcd: refused: unknown device '9': this host has none (code x)",
        "error    cdcdcdcdcdcd: refused: by somebody (program oci-gpu-hook; user 1000)",
    ]
    assert host.log("-n", "1").count("\n") == 1


@pytest.mark.parametrize("text", ["abab", WEB, "shop/web/server", "server"])
def test_of_one_container_by_its_names(host, text):
    written(host, WEB, "granted", gpus=["GPU-1"], pod="shop/web/server")
    written(host, JOB, "granted", gpus=["GPU-2"])
    written(host, WEB, "released", gpus=["GPU-1"])
    shown = host.log("--container", text)
    assert [line.split(": ")[1].split(" ")[0] for line in shown.splitlines()] == ["granted", "released"]
    assert shown.count("  shop/web/server: ") == 2


def test_a_container_of_which_nothing_is_said(host):
    written(host, WEB, "granted", gpus=["GPU-1"])
    assert "container 'ewb': is in no line of the log; " in host.log("--container", "ewb", status=1)


def test_an_empty_log_says_what_it_does_not_have(host):
    host.journal()
    host.file.touch()
    assert host.log() == "Nothing was logged.\n"
    host.config.write_text(f'[state]\ndir = "{host.directory}/state"\n')
    assert host.log() == "Nothing was logged; without [log] file in config.toml only refusals are.\n"
    assert host.log("--json") == ""


def test_json_is_as_the_schema_says(host):
    written(host, WEB, "attached", gpus=["GPU-1"], mounts=3, milliseconds={"plan": "1.0"})
    host.journal(entry(time.time(), "no", JOB), entry(time.time(), "with\0bytes", MESSAGE=[104, 105, 255]))
    schema = json.loads((ROOT / "schemas/log.schema.json").read_text())
    lines = [json.loads(line) for line in host.log("--json").splitlines()]
    assert [line["log"] for line in lines] == ["file", "host", "host"]
    for line in lines:
        jsonschema.Draft202012Validator(schema).validate(line)
    assert lines[2]["reason"] == "hi\N{REPLACEMENT CHARACTER}"


def test_it_follows_both_over_a_rotation(host):
    written(host, WEB, "granted", gpus=["GPU-1"])
    before = time.time()
    host.journal(entry(before, "before", JOB))
    command = subprocess.Popen(host.command("-f"), env=host.environment, stdout=subprocess.PIPE, text=True)
    try:
        assert command.stdout
        assert "granted" in command.stdout.readline()
        assert "before" in command.stdout.readline()
        written(host, WEB, "attached", gpus=["GPU-1"], mounts=1)
        assert "attached" in command.stdout.readline()
        host.file.rename(host.file.with_suffix(".1"))
        written(host, WEB, "released", gpus=["GPU-1"])
        assert "released" in command.stdout.readline()
        with (host.directory / "more").open("a") as file:
            file.write(entry(time.time(), "it follows", JOB) + "\n")
        assert "it follows" in command.stdout.readline()
        assert f"--after-cursor s={int(before * 1e6)}" in (host.directory / "asked").read_text()
        command.send_signal(2)
        assert command.wait(20) == 0
        assert command.stdout.read() == ""
    finally:
        command.kill()


def test_hostile_lines_reach_no_terminal_and_end_nothing(host):
    host.file.write_bytes(
        b'{"event": 1, "level": "info", "timestamp": "2026-01-01T00:00:00Z"}\n[1]\nnot json\n\xff\n'
        b'{"event": "x", "level": "info", "timestamp": "no"}\n' + b"[" * 60000 + b"\n"
    )
    written(host, WEB, "warning", text="a\x1b[31mred\nsecond line")
    shown = host.log()
    assert shown.count("\n") == 1
    assert "\x1b" not in shown


def test_no_log_at_all(host):
    (host.directory / "bin/journalctl").unlink()
    host.config.write_text("")
    said = subprocess.run(
        host.command(), env=host.environment | {"PATH": f"{host.directory}/bin"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert said.returncode == 1
    assert "[log] file is not set" in said.stderr

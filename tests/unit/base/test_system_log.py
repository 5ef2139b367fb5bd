"""Refusals in the host's log: journald by its own protocol, else /dev/log; and nobody is kept waiting."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from oci_gpu_hook.base import system_log
from tests.unit.nvidia.bundles import config_json, state_json

REFUSED = (
    "import sys; from oci_gpu_hook.base import system_log as log; log.JOURNAL, log.SYSLOG = sys.argv[1:3];"
    "from oci_gpu_hook.entrypoints.hook import main; main(sys.argv[2:])"
)


@pytest.fixture
def listen(tmp_path, monkeypatch):
    """Listen at the place of one of the two; what is returned receives a datagram as text."""
    for name in ("JOURNAL", "SYSLOG"):
        monkeypatch.setattr(system_log, name, str(tmp_path / name))
    sockets = []

    def bind(name):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(tmp_path / name))
        listener.settimeout(10)
        sockets.append(listener)
        return lambda: listener.recv(1 << 20).decode()

    yield bind
    for listener in sockets:
        listener.close()


def test_journald_gets_a_field_a_line(listen):
    receive = listen("JOURNAL")
    assert system_log.error("oci-gpu-hook", "no GPU\nPRIORITY=0", "c1\nX=y")
    assert receive().splitlines() == [
        "MESSAGE=no GPU\\nPRIORITY=0",
        "PRIORITY=3",
        "SYSLOG_FACILITY=3",
        "SYSLOG_IDENTIFIER=oci-gpu-hook",
        "CONTAINER_ID_FULL=c1\\nX=y",
    ]


def test_without_journald_the_other_log_gets_a_line(listen):
    receive = listen("SYSLOG")
    assert system_log.error("oci-gpu-hook", "no GPU\nat all", "")
    assert receive() == f"<27>oci-gpu-hook[{os.getpid()}]: no GPU\\nat all"


def test_where_nobody_listens_nothing_happens(listen):
    assert not system_log.error("oci-gpu-hook", "no GPU", "c1")


def test_a_log_that_is_stuck_keeps_nobody_waiting(listen):
    listen("JOURNAL")
    started = time.monotonic()
    assert not all(system_log.error("oci-gpu-hook", "x", "c1") for _ in range(3000))
    assert time.monotonic() - started < 30


def test_what_is_long_is_cut(listen):
    receive = listen("JOURNAL")
    assert system_log.error("oci-gpu-hook", "x" * 10_000_000, "c1")
    assert len(receive()) < 10_000


def refuse(tmp_path, config="") -> int:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text(config_json(annotations={"io.oci-gpu-hook.count": "nonsense"}))
    toml = tmp_path / "config.toml"
    toml.write_text(config)
    places = (system_log.JOURNAL, system_log.SYSLOG)
    command = [sys.executable, "-c", REFUSED, *places, f"--config={toml}", "prestart"]
    return subprocess.run(
        command, input=state_json(str(bundle)), text=True, capture_output=True, check=False
    ).returncode


def test_a_refusal_of_the_hook_is_there_with_its_container(tmp_path, listen):
    receive = listen("JOURNAL")
    assert refuse(tmp_path) == 1
    fields = dict(line.split("=", 1) for line in receive().splitlines())
    assert fields["MESSAGE"].startswith("io.oci-gpu-hook.count='nonsense': is not a whole number")
    assert (fields["SYSLOG_IDENTIFIER"], fields["CONTAINER_ID_FULL"]) == ("oci-gpu-hook", "c")


def test_the_configuration_can_say_no(tmp_path, listen):
    receive = listen("JOURNAL")
    assert refuse(tmp_path, "[log]\njournal = false\n") == 1
    system_log.error("test", "nothing came before this", "")
    assert "nothing came before this" in receive()


def test_what_is_asked_for_wrongly_is_in_the_file_as_well(tmp_path, listen):
    assert refuse(tmp_path, f'[log]\nfile = "{tmp_path}/log"\n') == 1
    (line,) = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert (line["event"], line["level"], line["container"]) == ("refused", "error", "c")
    assert "is not a whole number" in line["reason"]

"""What a container does not get as asked is said where engines may show it, with a log and without."""

from __future__ import annotations

import json
import os
import socket

import pytest

from oci_gpu_hook.base import log, system_log
from oci_gpu_hook.base.config.model import Config


def test_a_warning_is_in_the_log_and_on_stderr_in_one_line(tmp_path, capfd):
    log.configure(Config(log_file=str(tmp_path / "log")), container="c")
    try:
        log.tell("two\nlines")
    finally:
        log.configure(Config())
    line = json.loads((tmp_path / "log").read_text())
    assert (line["event"], line["level"], line["text"], line["container"]) == ("warning", "warning", "two\nlines", "c")
    assert capfd.readouterr().err == "oci-gpu-hook: warning: two\\nlines\n"


def test_without_a_log_it_is_on_stderr(capfd):
    log.configure(Config())
    log.tell("no /dev/nvidia-uvm")
    assert capfd.readouterr().err == "oci-gpu-hook: warning: no /dev/nvidia-uvm\n"


def test_a_stderr_that_is_closed_fails_no_container(capfd):
    with capfd.disabled():
        kept = os.dup(2)
        os.close(2)
        try:
            log.tell("nobody hears")
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def test_one_that_is_grave_is_in_the_log_of_the_host(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(system_log, "JOURNAL", str(tmp_path / "journal"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "journal"))
        listener.settimeout(10)
        log.configure(Config(), container="c")
        log.tell("no CUDA runs", grave=True)
        log.tell("nobody has to know")
        heard = listener.recv(1 << 16).decode().splitlines()
        assert heard[:2] == ["MESSAGE=no CUDA runs", "PRIORITY=4"]
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(1)
    assert len(capfd.readouterr().err.splitlines()) == 2

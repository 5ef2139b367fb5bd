"""The log: one form whoever writes it, one line an event, and no harm to a container where it cannot be written."""

from __future__ import annotations

import json
import re
import sys

import pytest

from oci_gpu_hook.base import log
from oci_gpu_hook.base.config.model import Config

STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "log"

    def read():
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    log.configure(Config(log_file=str(path), log_level="info"), container="c1")
    yield read
    log.configure(Config())


def test_errors_by_structlog_have_the_form_of_all_other_lines(lines):
    log.warning("happened", reason="two\nlines \udcff", gpus=("a",), number=3)
    log.error("happened", reason="two\nlines \udcff", gpus=("a",), number=3)
    own, by_structlog = lines()
    assert "structlog" in sys.modules
    assert STAMP.match(own.pop("timestamp"))
    assert STAMP.match(by_structlog.pop("timestamp"))
    assert (own.pop("level"), by_structlog.pop("level")) == ("warning", "error")
    assert own == by_structlog
    assert own == {"event": "happened", "container": "c1", "reason": "two\nlines \udcff", "gpus": ["a"], "number": 3}


def test_a_bug_is_logged_with_its_place(lines):
    try:
        json.loads("{}")["missing"]
    except KeyError:
        log.error("internal error", exc_info=True)
    assert "KeyError: 'missing'" in lines()[0]["exception"]


def test_without_structlog_errors_are_written_all_the_same(lines, monkeypatch):
    monkeypatch.setitem(sys.modules, "structlog", None)
    log.error("failed", reason="x", exc_info=True)
    assert lines()[0]["reason"] == "x"


def test_levels_below_the_configured_are_left_out(lines):
    log.debug("detail")
    log.info("event")
    assert [line["event"] for line in lines()] == ["event"]


def test_nothing_is_written_or_imported_without_a_file(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "structlog", raising=False)
    log.configure(Config())
    log.error("failed")
    log.info("event")
    assert "structlog" not in sys.modules
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written_fails_nobody(tmp_path, capfd):
    log.configure(Config(log_file=str(tmp_path / "missing" / "log")))
    log.info("event")
    log.error("event")
    log.configure(Config())
    assert capfd.readouterr().err.count("cannot write the log") == 2

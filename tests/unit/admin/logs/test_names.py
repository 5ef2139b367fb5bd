"""What containers of the log are called: how often the host's processes are looked at for it."""

from __future__ import annotations

import pytest

from oci_gpu_hook.admin.logs import names as module
from oci_gpu_hook.admin.logs.line import Line
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.lifecycle.census import Census


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def line(container: str) -> Line:
    return Line(time=0.0, level="info", event="released", container=container, log="file", fields={})


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def looks(monkeypatch):
    """The looks at all processes, each a list of containers that are found by it."""
    found: list[list[object]] = []

    def everyone(_census: Census) -> list[object]:
        found.append([])
        return []

    monkeypatch.setattr(Census, "everyone", everyone)
    return found


def test_a_log_of_many_ended_containers_takes_one_look(clock, looks):
    names = module.Names(Config())
    for number in range(500):
        assert names.of(line(f"{number:064x}")) == ("", "")
    assert len(looks) == 1


def test_a_log_that_takes_long_to_read_takes_one_look_too(clock, looks):
    names = module.Names(Config())
    for number in range(5):
        names.of(line(f"{number:064x}"))
        clock.now += 2
    assert len(looks) == 1


def test_a_container_that_comes_later_is_looked_for(clock, looks):
    names = module.Names(Config())
    names.of(line("a" * 64))
    names.go_on()
    clock.now += 2
    names.of(line("b" * 64))
    assert len(looks) == 2


def test_what_was_not_found_is_looked_for_again_once_lines_come(clock, looks):
    names = module.Names(Config())
    names.of(line("a" * 64))
    names.go_on()
    names.of(line("a" * 64))
    assert len(looks) == 1
    clock.now += 2
    names.of(line("a" * 64))
    assert len(looks) == 2

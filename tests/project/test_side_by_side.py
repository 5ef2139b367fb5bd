"""Which files `pytest -n` may run side by side: what uses the one thing that a machine has stays in one process."""

from __future__ import annotations

import pytest

from tests import conftest
from tests.paths import ROOT


def scope(path: str) -> str:
    return conftest.Scheduling._split_scope(object.__new__(conftest.Scheduling), f"{path}::test_something[a::b]")


@pytest.mark.parametrize("group", conftest.GROUPS)
def test_a_group_is_one_process(group):
    rooms = conftest.GROUPS[group]
    files = [str(path.relative_to(ROOT)) for room in rooms for path in (ROOT / room).glob("test_*.py")]
    assert len(files) >= len(rooms)
    assert {scope(path) for path in files} == {group}


def test_any_other_file_is_one_process():
    assert scope("tests/runtime/test_mig.py") == "tests/runtime/test_mig.py"

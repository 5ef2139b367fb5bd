"""Which files `pytest -n` may run side by side: what uses the one thing that a machine has stays in one process."""

from __future__ import annotations

from collections import OrderedDict

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


class Node:
    def __init__(self) -> None:
        self.given: list[int] = []

    def send_runtest_some(self, indices):
        self.given += indices


def test_what_takes_longest_is_given_out_first():
    assert all(scope in conftest.GROUPS or (ROOT / scope).is_file() for scope in conftest.LONGEST)
    tests = [f"{path}::test" for path in ("tests/a.py", conftest.LONGEST[3], "tests/b.py", conftest.LONGEST[1])]
    scheduling = object.__new__(conftest.Scheduling)
    node = Node()
    scheduling.workqueue = OrderedDict((test.partition("::")[0], {test: False}) for test in tests)
    scheduling.assigned_work, scheduling.registered_collections = {node: {}}, {node: tests}
    for _ in tests:
        scheduling._assign_work_unit(node)
    assert node.given == [3, 1, 0, 2]

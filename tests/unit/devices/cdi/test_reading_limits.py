"""Specification files that are made to cost much: time and memory are bounded, and the answer is an error."""

from __future__ import annotations

import time
import tracemalloc

from oci_gpu_hook.base import limits
from oci_gpu_hook.devices.cdi.spec_files import text
from tests.unit.devices.cdi.test_reading import WHOLE, parse


def test_a_number_of_any_length_is_answered():
    for digits in ("9" * 5000, "0x" + "f" * 5000, "-0b" + "1" * 64):
        found = parse(WHOLE.replace("major: 234", f"major: {digits}"))
        assert [problem.line for problem in found.problems] == [14]


def test_a_file_in_which_much_is_wrong_ends_early():
    """Each problem's line is looked for among all that the file has."""
    many = ", ".join(f'"a {number}": b' for number in range(25_000))
    found, seconds, _ = measured(WHOLE.replace('{note: "first"}', f"{{{many}}}").encode())
    assert len(found.problems) == limits.CDI_SPEC_FAULTS
    assert seconds < 20


def test_a_bomb_of_aliases_ends_early():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))
    found, seconds, peak = measured(bomb.encode())
    assert "values" in found.problems[0].what
    assert (seconds, peak) < (2, 64 << 20)


def test_the_worst_that_is_read_is_bounded_in_memory():
    line = b"- {a: b, c: [d, e]}\n"
    _, _, peak = measured(line * (text.LARGEST // len(line)))
    assert peak < 256 << 20


def measured(data):
    tracemalloc.start()
    started = time.process_time()
    try:
        found = parse(data)
        return found, time.process_time() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

"""Records are values: equal ones are one key, however they were made."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base.record import Record


class Pair(Record):
    first: int
    second: int = 2


def test_equal_records_are_one_key():
    assert {Pair(first=1, second=3), Pair(second=3, first=1)} == {Pair(second=3, first=1)}
    assert hash(Pair(first=1)) == hash(Pair(second=2, first=1))


def test_fields_are_checked_and_kept():
    with pytest.raises(TypeError, match="unknown field 'third'"):
        Pair(first=1, third=3)  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="first"):
        Pair(second=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="immutable"):
        Pair(first=1).first = 2  # type: ignore[misc]


def test_a_record_of_all_its_fields_is_one_like_others():
    assert Pair.of({"first": 1, "second": 2}) == Pair(first=1)
    with pytest.raises(AttributeError, match="immutable"):
        Pair.of({"first": 1, "second": 2}).first = 2  # type: ignore[misc]

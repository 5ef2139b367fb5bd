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


def test_a_changed_copy_leaves_the_record_as_it_was():
    pair = Pair(first=1)
    assert pair.replace(second=5) == Pair(first=1, second=5)
    assert pair.replace() == pair == Pair(first=1, second=2)
    with pytest.raises(TypeError, match="Pair: unknown field 'third'"):
        pair.replace(first=2, third=3)


class Triple(Pair):
    third: int
    second: int = 7


def test_a_subclass_keeps_the_fields_of_its_parent():
    triple = Triple(first=1, third=3)
    assert (triple.first, triple.second, triple.third) == (1, 7, 3)
    assert repr(triple) == "Triple(first=1, third=3, second=7)"
    assert triple == Triple(third=3, second=7, first=1)
    assert hash(triple) == hash(Triple(third=3, second=7, first=1))
    assert triple.replace(first=2) == Triple(first=2, third=3)
    assert triple != Pair(first=1, second=7)
    with pytest.raises(AttributeError, match="first"):
        Triple(third=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Triple: unknown field 'fourth'"):
        Triple(first=1, third=3, fourth=4)  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="immutable"):
        del triple.third

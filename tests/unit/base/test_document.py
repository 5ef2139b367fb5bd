"""JSON from outside is read to the letter, and nothing heavy is imported for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_gpu_hook.base import document, limits
from oci_gpu_hook.base.errors import InvalidInput

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_json_writes_is_read_as_json_reads_it(value):
    assert document.parse(json.dumps(value).encode(), "test") == value


@given(values)
def test_what_is_dumped_json_reads(value):
    assert json.loads(document.dump(value)) == value


@given(st.binary(max_size=64))
def test_any_bytes_are_a_value_or_refused(data):
    try:
        value = document.parse(data, "test")
    except InvalidInput:
        with pytest.raises((ValueError, RecursionError)):
            json.loads(data.decode("utf-8"), parse_constant=_refuse)
    else:
        assert json.loads(data.decode("utf-8")) == value or value != value  # noqa: PLR0124  NaN


def _refuse(name):
    raise ValueError(name)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", "is not JSON"),
        (b'{"a":1,}', "is not JSON"),
        (b"{} x", "Extra data"),
        (b"NaN", "NaN is not a JSON value"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_document_is_said_in_one_line(data, why):
    with pytest.raises(InvalidInput, match=why) as caught:
        document.parse(data, "OCI state")
    assert "\n" not in str(caught.value)


def test_reading_imports_no_json():
    root = os.path.dirname(os.path.dirname(os.path.dirname(document.__file__)))
    program = (
        f"import sys; sys.path.insert(0, {root!r}); from oci_gpu_hook.base import document; "
        "document.parse(document.dump({'a': [1, 'x']}), 'x'); sys.exit('json' in sys.modules or 're' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-I", "-S", "-c", program], check=False).returncode == 0


def test_only_what_may_have_too_many_values_is_counted():
    """To count in a stored inventory would take half as long as to parse it."""

    class Text(bytes):
        def count(self, *_arguments):
            raise AssertionError("counted")

    assert document.has_few_items(Text(b"," * limits.JSON_ITEMS))
    assert document.has_few_items(b"," * limits.JSON_ITEMS + b"xx")
    assert not document.has_few_items(b"," * limits.JSON_ITEMS + b"{")

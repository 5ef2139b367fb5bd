"""The words of the pre-filter: one table for Python and C, and no property of today's words that C relies on."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_gpu_hook.request import prefilter
from tests.unit.front.conftest import SOURCES
from tests.unit.front.test_front_hook import passes

# Words with other first letters, a word that another begins with, one that another ends with, one with a false start.
OTHERS = (b"ZLUDA_", b"AMD_VISIBLE_DEVICES", b"AMD_VISIBLE", b"_DEVICES", b"0xfeed", b"-a", b"aab", b"b.c")


@pytest.fixture(scope="session")
def make_words():
    path = os.path.join(SOURCES, "make_words.py")
    if not os.path.exists(path):
        pytest.skip("no sources of the front beside the installed package")
    specification = importlib.util.spec_from_file_location("make_words", path)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def other_front(make_words, template, tmp_path_factory):
    """A template that is built with other words."""
    sources = tmp_path_factory.mktemp("other") / "front"
    shutil.copytree(SOURCES, sources)
    (sources / "words.h").write_text(make_words.header(OTHERS))
    path = f"{sources}/front.elf"
    subprocess.run(["sh", f"{sources}/build.sh", path], check=True)
    assert path != template
    return path


@pytest.fixture
def other(other_front, lay, monkeypatch):
    from oci_gpu_hook.admin.install import front_file

    monkeypatch.setattr(front_file, "TEMPLATE", other_front)
    monkeypatch.setattr(prefilter, "WORDS", OTHERS)
    return lay("hook")


def test_the_header_is_current(make_words):
    with open(os.path.join(SOURCES, "words.h")) as file:
        assert file.read() == make_words.header(prefilter.WORDS), "run python front/make_words.py"


def test_words_can_be_spelt_in_one_way_only():
    for word in prefilter.WORDS:
        assert prefilter.LETTERS.issuperset(word), word


@pytest.mark.parametrize("word", OTHERS)
@pytest.mark.parametrize("around", ["{}", "x{}", "{}x", "AMD_VISIBL{}", "aa{}"])
def test_a_word_is_found_whatever_it_begins_with(other, bundle, word, around):
    text = json.dumps({"a": around.format(word.decode())})
    assert prefilter.may_ask(text.encode(), b"{}")
    assert not passes(other, json.dumps({"bundle": bundle(text)}))


@pytest.mark.parametrize("word", OTHERS)
def test_the_beginning_of_a_word_is_no_word(other, bundle, word):
    text = json.dumps({"a": word.decode()[:-1]})
    asks = any(found in text.encode() for found in OTHERS)
    assert prefilter.may_ask(text.encode(), b"{}") == asks
    assert passes(other, json.dumps({"bundle": bundle(text)})) != asks


def test_todays_words_mean_nothing_to_another_table(other, bundle):
    assert passes(other, json.dumps({"bundle": bundle('{"a": "OCI_GPU_CUDA_VERSION"}')}))


LETTERS = "".join(sorted({chr(letter) for word in OTHERS for letter in word}))
PIECES = st.sampled_from([word.decode() for word in OTHERS]) | st.text(alphabet=LETTERS, max_size=4)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=4), cut=st.integers(0, 3))
def test_c_and_python_agree(other, bundle, pieces, cut):
    joined = "".join(pieces)
    text = json.dumps({"a": joined[: len(joined) - cut]})
    assert passes(other, json.dumps({"bundle": bundle(text)})) != prefilter.may_ask(text.encode(), b"{}")


@pytest.mark.parametrize("code", range(0x80))
def test_c_and_python_agree_on_which_escapes_could_spell_a_word(lay, bundle, code):
    text = f'{{"a": "\\u{code:04x}"}}'
    assert passes(lay("hook"), json.dumps({"bundle": bundle(text)})) != prefilter.may_ask(text.encode(), b"{}")

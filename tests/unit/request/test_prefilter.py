"""The byte scan: quick to say that a container may ask, never wrong in saying that it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import oci_gpu_hook
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.request.parse import parse
from oci_gpu_hook.request.prefilter import WORDS, may_ask
from tests.unit.nvidia.bundles import MOUNTS, Bundle, config_json
from tests.unit.request.texts import environments

NOTHING = config_json(["PATH=/usr/bin", "HOME=/root"]).encode()


def test_a_plain_container_asks_for_nothing():
    assert not may_ask(NOTHING, b"{}")


@pytest.mark.parametrize("word", WORDS)
def test_what_is_not_all_of_a_word_asks_nothing(word):
    assert not may_ask(b'{"a": "%s"}' % word[:-1], b"{}")
    assert not may_ask(b'{"a": "%s"}' % word[1:], b"{}")


@pytest.mark.parametrize("word", WORDS)
def test_each_word_asks_in_either_document(word):
    assert may_ask(b'{"a": "%s"}' % word, b"{}")
    assert may_ask(b"{}", b'{"a": "%s"}' % word)


@pytest.mark.parametrize(
    "text", [rb"\u004eVIDIA", rb"\u004EVIDIA", rb"NVIDIA\u005fVISIBLE", rb"cdi\u002ek8s", rb"io\u002doci", rb"\u0030"]
)
def test_escapes_that_could_spell_a_word_ask(text):
    assert may_ask(b'{"a": "' + text + b'"}', b"{}")


@pytest.mark.parametrize(
    "text", [rb"\u003c\u003e\u0026", rb"\u00e9", rb"\u2028", rb"\u0141", rb"\n\t\"", rb"C:\\users"]
)
def test_what_go_and_python_escape_by_habit_does_not_ask(text):
    asks = may_ask(b'{"a": "' + text + b'"}', b"{}")
    assert asks == (b"\\\\u" in text)  # an escaped backslash before a u is not worth telling apart


@pytest.mark.parametrize("text", [rb"\u", rb"\u00", rb"\u00zz"])
def test_broken_escapes_are_left_to_the_parser(text):
    assert may_ask(b'{"a": "' + text, b"{}")


def test_a_swarm_variable_is_a_word_only_where_it_is_configured():
    document = config_json(["DOCKER_RESOURCE_GPU=0"]).encode()
    assert not may_ask(document, b"{}")
    assert may_ask(document, b"{}", ("DOCKER_RESOURCE_GPU",))


@pytest.mark.parametrize("variable", ['A"B', "A/B", "Ä", "\udc80"])
def test_a_swarm_variable_with_letters_that_json_spells_freely_always_asks(variable):
    assert may_ask(NOTHING, b"{}", (variable,))


def test_it_imports_nothing_but_numbers():
    program = f"""
import sys
sys.path.insert(0, {os.path.dirname(os.path.dirname(oci_gpu_hook.__file__))!r})
before = set(sys.modules)
from oci_gpu_hook.request import prefilter as asks
print(*sorted(set(sys.modules) - before))
"""
    found = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [
        "__future__",
        "oci_gpu_hook",
        "oci_gpu_hook.base",
        "oci_gpu_hook.base.limits",
        "oci_gpu_hook.request",
        "oci_gpu_hook.request.prefilter",
    ]


def spellings(text, draw):
    """Return a JSON string with some of its characters escaped."""
    out = []
    for character in text:
        how = draw(st.integers(0, 3))
        if how == 0 and ord(character) < 0x10000:
            out.append(f"\\u{ord(character):04x}")
        elif character == "/" and how == 1:
            out.append("\\/")
        else:
            out.append(json.dumps(character, ensure_ascii=False)[1:-1])
    return "".join(out)


@st.composite
def documents(draw):
    env = draw(environments)
    mounts = draw(
        st.lists(st.sampled_from([f"{MOUNTS}/0", "/var/run/./nvidia-container-devices//1", "/proc"]), max_size=2)
    )
    keys = ["io.oci-gpu-hook.count", "io.oci-gpu-hook.devices", "cdi.k8s.io/x", "other"]
    annotations = draw(st.dictionaries(st.sampled_from(keys), st.sampled_from(["1", "0", "nvidia.com/gpu=0", ""])))
    strings = lambda texts: ", ".join(f'"{spellings(text, draw)}"' for text in texts)  # noqa: E731
    mounted = ", ".join(f'{{"source": "/dev/null", "destination": {strings([path])}}}' for path in mounts)
    noted = ", ".join(f"{strings([key])}: {strings([value])}" for key, value in annotations.items())
    return (
        f'{{"ociVersion": "1.0.2", "process": {{"env": [{strings(env)}]}}, "root": {{"path": "rootfs"}}, '
        f'"mounts": [{mounted}], "annotations": {{{noted}}}}}'
    )


@settings(max_examples=300)
@given(document=documents(), swarm=st.sampled_from([(), ("SWARM",), ("SWÄRM",)]))
@example(document=config_json(["SWÄRM=0"]), swarm=("SWÄRM",))
def test_it_never_says_no_where_parse_says_yes(document, swarm):
    config = Config(swarm_resource=swarm, accept_volume_mounts=True)
    bundle = Bundle(document)
    try:
        asks = parse(bundle.container(), config) is not None
    except HookError:
        asks = True  # in words that cannot be served
    if asks:
        assert may_ask(document.encode(), bundle.state.encode(), swarm)

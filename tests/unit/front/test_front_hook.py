"""The front as oci-gpu-hook: it may say no and nothing else, and hands over whatever it is not sure of unchanged."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_gpu_hook.base.limits import STATE as LARGEST_STATE
from oci_gpu_hook.request.prefilter import WORDS, is_cut_off, may_ask

SILENT = '{"process": {"env": ["PATH=/bin", "A=\\u003c\\u00e9\\n\\ud83d\\ude00"]}, "root": {"path": "rootfs"}}'
ASKING = '{"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]}, "root": {"path": "rootfs"}}'
NO_CONFIG = "--config=/nonexistent/config.toml"


def passes(front, state, *arguments):
    """Run the front before an interpreter that exits 1; True where the front answered by itself."""
    state = state if isinstance(state, bytes) else state.encode()
    done = subprocess.run(
        [front, *(arguments or (NO_CONFIG, "prestart"))], input=state, capture_output=True, check=False, timeout=30
    )
    assert done.returncode in (0, 1), done
    assert (done.stdout, done.stderr) == (b"", b"")
    return done.returncode == 0


@pytest.mark.parametrize("stage", ["prestart", "createRuntime"])
def test_container_that_asks_for_nothing_is_answered_without_python(lay, bundle, stage):
    state = json.dumps(
        {"ociVersion": "1.0.2", "id": "c", "pid": 7, "bundle": bundle(SILENT), "annotations": {"a": "b"}}
    )
    assert passes(lay("hook"), state, NO_CONFIG, stage)
    assert passes(lay("hook"), state, "--config", "/nonexistent/config.toml", stage)


@pytest.mark.parametrize("word", [word.decode() for word in WORDS])
@pytest.mark.parametrize("where", ["config", "state"])
def test_every_word_goes_to_python(lay, bundle, word, where):
    config = {"annotations": {f"x{word}y": "z"}} if where == "config" else {}
    annotations = {word: ""} if where == "state" else {}
    state = json.dumps({"bundle": bundle(json.dumps(config)), "annotations": annotations})
    assert not passes(lay("hook"), state)


CONFIGS = {
    "escaped letter": (r'{"a": "\u004eVIDIA_VISIBLE_DEVICES=all"}', False),
    "escaped letter, capital digits": (r'{"a": "NVIDIA_VISIBLE\u005FDEVICES=all"}', False),
    "escaped dash": (r'{"a": "nvidia\u002dcontainer-devices"}', False),
    "escaped dot": (r'{"a": "cdi\u002ek8s.io"}', False),
    "escaped digit": (r'{"a": "cdi.k\u0038s.io"}', False),
    "escapes of Go": (r'{"a": "\u003c\u003e\u0026\u2028"}', True),
    "escapes of others": (r'{"a": "\u00e9\n\t\"\\\/\u0000\u001f"}', True),
    "a backslash before a u": (r'{"a": "C:\\u0041"}', False),
    "escape cut short": ('{"a": "\\u00', False),
    "word after a newline escape": (r'{"a": "\nvidia-container-devices"}', False),
    "word cut short at the end": ('{"a": "NVIDIA_VISIBLE_DEVICE"}', True),
    "word at the very end": ("NVIDIA_VISIBLE_DEVICES", False),
    "word after its own beginning": ('{"a": "NVNVIDIA_VISIBLE_DEVICES"}', False),
    "word after NUL": (b'{"a": "\0CUDA_VERSION"}', False),
    "word in another case": ('{"a": "nvidia_visible_devices"}', True),
    "empty": ("", False),
    "white space alone": (" \n", False),
    "white space at the end": ('{"a": []} \t\r\n', True),
    "cut off in a string": ('{"process": {"env": ["PATH=/bin", "NVIDIA_VIS', False),
    "cut off after a value": ('{"process": {"env": []', False),
    "another value": ("[]", False),
    "NUL at the end": ("{}\0", False),
    "largest": (b"{%s}" % (b" " * ((4 << 20) - 2)), True),
    "too large": (b"{%s}" % (b" " * ((4 << 20) - 1)), False),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_config_json(lay, bundle, case):
    config, silent = CONFIGS[case]
    assert passes(lay("hook"), json.dumps({"bundle": bundle(config)})) is silent


STATES = {
    "white space": (' \t\n\r{ "bundle" : "SILENT" , "pid" : 1 } \n', True),
    "values of every kind before it": (
        '{"a": {"bundle": "ASKING", "b": ["}", {"c": []}]}, "d": -1.5E+7, "f": true, "g": "\\"", "bundle": "SILENT"}',
        True,
    ),
    "escaped quote in a value": (r'{"a": "\",\"bundle\":\"ASKING", "bundle": "SILENT"}', True),
    "backslash at the end of a value": (r'{"a": "\\", "bundle": "ASKING", "b": "\\"}', False),
    "of the asking": ('{"bundle": "ASKING"}', False),
    "key twice": ('{"bundle": "SILENT", "bundle": "SILENT"}', False),
    "key twice, once escaped": (r'{"bundle": "SILENT", "b\u0075ndle": "ASKING"}', False),
    "key escaped without a letter": (r'{"bundle": "SILENT", "\u003c": 1}', False),
    "old key": ('{"bundlePath": "SILENT"}', False),
    "both keys": ('{"bundle": "SILENT", "bundlePath": "ASKING"}', False),
    "only inside": ('{"a": {"bundle": "SILENT"}}', False),
    "only in an array": ('[{"bundle": "SILENT"}]', False),
    "escaped path": (r'{"bundle": "\/SILENT"}', False),
    "relative": ('{"bundle": "bundle"}', False),
    "empty path": ('{"bundle": ""}', False),
    "null": ('{"bundle": null}', False),
    "object": ('{"bundle": {"bundle": "SILENT"}}', False),
    "not there": ('{"bundle": "/nonexistent"}', False),
    "not ASCII": ('{"bundle": "/\u00e9"}', False),
    "too long": ('{"bundle": "/' + "x" * 4096 + '"}', False),
    "empty": ("", False),
    "not JSON": ("bundle=SILENT", False),
    "truncated": ('{"bundle": "SILENT"', False),
    "truncated string": ('{"bundle": "SILENT', False),
    "something after it": ('{"bundle": "SILENT"} {"bundle": "ASKING"}', False),
    "NUL after it": ('{"bundle": "SILENT"}\0', False),
    "byte order mark": ('\ufeff{"bundle": "SILENT"}', False),
    "UTF-16": ('{"bundle": "SILENT"}'.encode("utf-16"), False),
    "brackets that do not match": ('{"a": [}, "bundle": "SILENT"}', False),
    "deep": ('{"a": ' + "[" * 65 + "]" * 65 + ', "bundle": "SILENT"}', False),
    "64 deep": ('{"a": ' + "[" * 64 + "]" * 64 + ', "bundle": "SILENT"}', True),
    "comma at the end": ('{"bundle": "SILENT",}', False),
}


@pytest.mark.parametrize("case", STATES)
def test_state(lay, bundle, case):
    state, silent = STATES[case]
    if isinstance(state, str):
        state = state.replace("SILENT", bundle(SILENT, "silent")).replace("ASKING", bundle(ASKING, "asking")).encode()
    assert passes(lay("hook"), state) is silent


TOMLS = {
    "no word of it": (b'[driver]\nroot = "/"\n', True),
    "empty value": (b'[request]\n  swarm-resource = "" # none\r\n[log]\n', True),
    "comment": (b'# swarm-resource = "A"\n\t#swarm\n', True),
    "set": (b'[request]\nswarm-resource = "DOCKER_RESOURCE_GPU"', False),
    "set to a list": (b'[request]\nswarm-resource = [\n"A"]', False),
    "set in a dotted key": (b'request.swarm-resource = "A"', False),
    "quoted key": (b'[request]\n"swarm-resource" = "A"', False),
    "escaped key": (b'[request]\n"sw\\u0061rm-resource" = "A"', False),
    "after the end of a long string": (b'request = {a = """\n# """, swarm-resource = "A"}', False),
    "after the end of a long literal": (b"request = {a = '''\n# ''', swarm-resource = 'A'}", False),
    "empty, then set": (b'swarm-resource = ""\nx.swarm-resource = "A"', False),
    "empty value with more": (b'swarm-resource = "" "A"', False),
    "too large": (b"#" * (1 << 17), False),
}


@pytest.mark.parametrize("case", TOMLS)
def test_swarm_variable_goes_to_python(lay, bundle, tmp_path, case):
    toml, silent = TOMLS[case]
    path = tmp_path / "config.toml"
    path.write_bytes(toml)
    assert passes(lay("hook"), json.dumps({"bundle": bundle(SILENT)}), f"--config={path}", "prestart") is silent


@pytest.mark.parametrize("stage", ["prestart", "createRuntime", "poststop"])
def test_every_stage_that_acts_is_answered_for_who_asks_for_nothing(lay, bundle, stage):
    assert passes(lay("hook"), json.dumps({"id": "c", "bundle": bundle(SILENT)}), stage)
    assert not passes(lay("hook"), json.dumps({"bundle": bundle('{"process": {"env": ["OCI_GPU_COUNT=1"]}}')}), stage)
    assert not passes(lay("hook"), json.dumps({"bundle": "/nonexistent"}), stage)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["createContainer"],
        ["prestart", "prestart"],
        ["--config"],
        ["--config=config.toml", "prestart"],
        ["--debug", "prestart"],
        ["--debug", "x", "prestart"],
        ["prestart\n"],
        ["Prestart"],
    ],
)
def test_other_stages_and_arguments_go_to_python(lay, bundle, witness, report, arguments):
    interpreter, stub, _ = witness
    state = json.dumps({"bundle": bundle(SILENT)})
    done = subprocess.run(
        [lay("hook", interpreter, stub), *arguments], input=state.encode(), capture_output=True, check=False, timeout=30
    )
    who, said = report(done)
    assert (who, said["argv"], said["stdin"]) == ("python", [stub, *arguments], state)


def test_python_gets_the_same_stdin_and_nothing_of_the_environment(lay, bundle, witness, report, tmp_path):
    interpreter, stub, _ = witness
    state = json.dumps({"bundle": bundle(ASKING), "annotations": {"a": "x" * 200_000}})
    leaked = os.open("/dev/null", os.O_RDONLY)
    hostile = {"LD_PRELOAD": str(tmp_path / "x.so"), "PYTHONPATH": str(tmp_path), "PYTHONHOME": "/", "A": "1"}
    done = subprocess.run(
        [lay("hook", interpreter, stub), NO_CONFIG, "prestart"],
        input=state.encode(),
        capture_output=True,
        check=False,
        env=hostile,
        cwd=tmp_path,
        pass_fds=[leaked],
        timeout=30,
    )
    os.close(leaked)
    who, said = report(done)
    assert (who, said["stdin"], said["env"], said["cwd"]) == ("python", state, {"LC_ALL": "C"}, "/")
    assert said["fds"] == [0, 1, 2]
    assert done.stderr == b""


@pytest.mark.parametrize("more", [0, 1, 70_000])
def test_state_of_the_limit_and_beyond_is_too_large_for_both(lay, bundle, witness, report, more):
    interpreter, stub, _ = witness
    state = json.dumps({"bundle": bundle(SILENT)}).encode().ljust(LARGEST_STATE + more)
    done = subprocess.run(
        [lay("hook", interpreter, stub), NO_CONFIG, "prestart"], input=state, capture_output=True, check=False
    )
    if more == 0:
        assert done.returncode == 0
    else:
        _, said = report(done)
        assert len(said["stdin"]) == LARGEST_STATE + 1  # which Python's limit refuses


def test_slow_engine_with_a_pipe_that_does_not_block(lay, bundle):
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    state = json.dumps({"bundle": bundle(SILENT)}).encode()

    def write():
        for part in (state[:10], state[10:]):
            time.sleep(0.05)
            os.write(theirs, part)
        os.close(theirs)

    writer = threading.Thread(target=write)
    process = subprocess.Popen([lay("hook"), NO_CONFIG, "prestart"], stdin=ours)
    writer.start()
    assert process.wait(30) == 0
    writer.join()
    os.close(ours)


def test_closed_standard_descriptors(lay, bundle, witness, report):
    interpreter, stub, _ = witness
    front = lay("hook", interpreter, stub)
    done = subprocess.run(["sh", "-c", '"$0" prestart <&-', front], capture_output=True, check=False, timeout=30)
    assert report(done) == ("python", report(done)[1])
    assert report(done)[1]["stdin"] == ""


def test_fifo_in_place_of_config_json_does_not_hang(lay, tmp_path):
    os.mkfifo(tmp_path / "config.json")
    writer = os.open(tmp_path / "config.json", os.O_RDWR)
    assert not passes(lay("hook"), json.dumps({"bundle": str(tmp_path)}))
    os.close(writer)


def test_missing_interpreter_is_an_error_that_names_it(lay, bundle):
    state = json.dumps({"bundle": bundle(ASKING)}).encode()
    front = lay("hook", "/nonexistent/python3")
    done = subprocess.run([front, NO_CONFIG, "prestart"], input=state, capture_output=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(rb"oci-gpu-hook: error: cannot start /nonexistent/python3: errno 002; .*\n", done.stderr)


def test_template_refuses_to_run(template):
    done = subprocess.run([template, "prestart"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"template" in done.stderr


ESCAPES = st.integers(0, 0xFF).map(lambda code: f"\\u{code:04x}")
FRAGMENTS = st.one_of(
    st.sampled_from([word.decode() for word in WORDS]),
    st.sampled_from([part for word in WORDS for part in (word.decode()[:-1], word.decode()[1:])]),
    ESCAPES,
    st.sampled_from([*'\\"{}[]:, \n\0', "\\u", "\\\\u0041", "\\n", '"env"', "é", "NVIDIA_"]),
    st.text(max_size=5),
)
TEXTS = st.lists(FRAGMENTS, max_size=12).map("".join)
FUZZ = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_no_config_passes_that_python_would_look_at(lay, bundle):
    answers: Counter[bool] = Counter()

    @FUZZ
    @given(config=TEXTS, as_value=st.booleans())
    def look(config, as_value):
        text = (json.dumps({"a": config}) if as_value else config).encode("utf-8", "surrogatepass")
        state = json.dumps({"bundle": bundle(text)}).encode()
        passed = passes(lay("hook"), state)
        answers[passed] += 1
        if passed:
            assert not may_ask(text, state)
            assert not is_cut_off(text)

    look()
    assert min(answers[True], answers[False]) > FUZZ.max_examples / 20


PLAIN = st.sampled_from(["", "x", "{", "}", '"', "\\", ',"bundle":"ASKING"', "é", "<&>", "\x00", "bundle"])
KEYS = st.sampled_from(["bundle", "bundlePath", "Bundle", "bundle ", "id", "annotations", "a\\", 'b"', "bundl\u0435"])
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), PLAIN, st.just("ASKING"), st.just("SILENT")
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.lists(st.tuples(KEYS | KEYS | st.just("bundle"), VALUES | st.just("ASKING")), max_size=4)
EDITS: st.SearchStrategy[list[tuple[float, str]]] = st.just([]) | st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["", '"', "\\", "{", "}", "[", "]", ",", ":", "\\u0062", "\0"]),
    ),
    max_size=2,
)


def test_no_state_passes_whose_bundle_asks(lay, bundle):
    """The front's idea of `bundle` against the standard library's, over states with keys twice, inside and broken."""
    answers: Counter[bool] = Counter()
    silent, asking = bundle(SILENT, "silent"), bundle(ASKING, "asking")

    @FUZZ
    @given(members=MEMBERS, at=st.integers(0, 4), edits=EDITS, ascii_only=st.booleans())
    def look(members, at, edits, ascii_only):
        text = _state_text([*members[:at], ("bundle", "SILENT"), *members[at:]], edits, ascii_only=ascii_only)
        state = text.replace("SILENT", silent).replace("ASKING", asking).encode("utf-8", "surrogatepass")
        passed = passes(lay("hook"), state)
        answers[passed] += 1
        if passed:
            try:
                value = json.loads(state)
            except ValueError:
                return  # Python refuses it
            assert (value.get("bundle") or value.get("bundlePath")) == silent

    look()
    assert min(answers[True], answers[False]) > FUZZ.max_examples / 20


def _state_text(members, edits, *, ascii_only):
    """Return a JSON object of these members, in which a few characters are exchanged or inserted."""
    text = ", ".join(
        f"{json.dumps(k, ensure_ascii=ascii_only)}: {json.dumps(v, ensure_ascii=ascii_only)}" for k, v in members
    )
    text = "{" + text + "}"
    for where, what in edits:
        cut = int(where * len(text))
        text = text[:cut] + what + text[cut + (not what) :]
    return text

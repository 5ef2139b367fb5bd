"""What a broken or hostile engine may hand to the hook: the executable itself, with states and bundles made by hand.

Where a GPU was asked for, or nobody can tell: exit 1 and one line. Where none was asked for: exit 0 and silence.
"""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

ASKING = {"NVIDIA_VISIBLE_DEVICES": "0"}
MIB = 1024 * 1024


class Hook:
    """The executable, as an engine runs it: state on stdin, bare environment, cwd /."""

    def __init__(self, executable, config) -> None:
        self.command = [executable, "--config", config]

    def __call__(self, stdin: bytes | dict, *arguments: str) -> subprocess.CompletedProcess[str]:
        data = stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode()
        done = subprocess.run(
            [*self.command, *(arguments or ("prestart",))],
            input=data,
            capture_output=True,
            check=False,
            timeout=60,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def call(hook, simulated) -> Hook:
    return Hook(hook, simulated.config)


@pytest.fixture
def sandbox(machine):
    """The pid of a live process with a mount namespace of its own."""
    process = subprocess.Popen(["unshare", "--mount", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"\n")
    process.stdin.flush()
    process.stdout.readline()  # by now unshare has become cat
    yield process.pid
    process.stdin.close()
    process.wait(timeout=10)
    process.stdout.close()


@pytest.fixture
def bundle(directory):
    """A bundle that asks for a GPU or not; returns its directory."""

    def make(asks: bool = True, **changes: object):
        env = ["PATH=/bin", *(f"{name}={value}" for name, value in ASKING.items() if asks)]
        config: dict = {
            "ociVersion": "1.0.2",
            "process": {"args": ["/bin/sh"], "env": env, "cwd": "/"},
            "root": {"path": "rootfs"},
            "linux": {"namespaces": [{"type": "mount"}]},
        }
        config |= changes
        config = {name: value for name, value in config.items() if value is not None}
        (directory / "rootfs").mkdir(exist_ok=True)
        (directory / "config.json").write_text(json.dumps(config))
        return directory

    return make


def state(bundle, pid: object, **more: object) -> dict:
    return {"ociVersion": "1.0.2", "id": "bad-input", "status": "creating", "pid": pid, "bundle": str(bundle), **more}


def assert_refused(done, words: str = "") -> None:
    assert done.returncode == 1, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(r"oci-gpu-hook: error: .+: .+; .+", line), line
    assert re.search(words, line), line
    assert len(line) < 1000
    assert line.isprintable()


def assert_silent(done) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


STATES = {
    "empty": b"",
    "blank": b" \n",
    "not JSON": b"{bundle: /tmp}",
    "half": b'{"ociVersion": "1.0.2", "id": "x", "pid": 1',
    "array": b"[]",
    "null": b"null",
    "number": b"3",
    "string": b'"state"',
    "no members": b"{}",
    "not UTF-8": b'{"id": "\xff\xfe"}',
    "NUL": b"\0",
    "deep": b"[" * 100_000,
    "bundle is a number": b'{"id": "x", "pid": 1, "bundle": 3}',
    "annotations are a list": b'{"id": "x", "pid": 1, "bundle": "/tmp", "annotations": []}',
    "id is a path": b'{"id": "../../x", "pid": 1, "bundle": "/tmp"}',
    "pid is text": b'{"id": "x", "pid": "1", "bundle": "/tmp"}',
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_is_none(call, name):
    assert_refused(call(STATES[name]), "state")


def test_a_state_of_more_than_a_mebibyte(call, bundle, sandbox):
    assert_refused(call(state(bundle(), sandbox, annotations={"x": "y" * MIB})), "larger than")


def test_a_state_of_almost_a_mebibyte_is_read(call, bundle, sandbox):
    assert_silent(call(state(bundle(asks=False), sandbox, annotations={"x": "y" * (MIB - 1000)})))


@pytest.mark.parametrize("trailing", [b"x", b"{}", b"\0", b"]"])
def test_trailing_bytes(call, bundle, sandbox, trailing):
    assert_refused(call(json.dumps(state(bundle(), sandbox)).encode() + trailing), "not JSON")


def test_trailing_white_space_is_no_trouble(call, bundle, sandbox):
    assert_silent(call(json.dumps(state(bundle(asks=False), sandbox)).encode() + b" \r\n\t"))


@pytest.fixture(params=["zero", "negative", "dead", "the host's own", "beyond any pid"])
def pid(request):
    dead = subprocess.Popen(["true"])
    dead.wait()
    numbers = {"zero": 0, "negative": -1, "dead": dead.pid, "the host's own": os.getpid(), "beyond any pid": 1 << 40}
    return numbers[request.param]


def test_a_pid_that_is_no_containers(call, bundle, pid):
    assert_refused(call(state(bundle(), pid)), f"pid.*{pid}")


def test_a_pid_that_is_no_containers_where_nothing_is_asked(call, bundle, pid):
    assert_silent(call(state(bundle(asks=False), pid)))


def test_a_state_without_pid(call, bundle):
    without = state(bundle(), 1)
    del without["pid"]
    assert_refused(call(without), "pid")


def test_no_such_bundle(call, directory, sandbox):
    assert_refused(call(state(directory / "missing", sandbox)), "config.json")


def test_a_relative_bundle(call, bundle, sandbox):
    path = os.path.relpath(bundle(), "/")
    assert_refused(call(state(path, sandbox)), "absolute")


def test_a_bundle_without_config(call, directory, sandbox):
    assert_refused(call(state(directory, sandbox)), "config.json")


@pytest.mark.parametrize("special", ["directory", "fifo"])
def test_a_config_that_is_no_file(call, directory, sandbox, special):
    path = directory / "config.json"
    path.mkdir() if special == "directory" else os.mkfifo(path)
    wish = {"io.oci-gpu-hook.devices": "0"}
    assert_refused(call(state(directory, sandbox, annotations=wish)), "config.json")


CONFIGS = [b"null", b"[]", b"{", b"", b"3", b"{} {}", b"\xff"]


@pytest.mark.parametrize("text", CONFIGS)
def test_a_config_that_is_none_where_the_state_asks(call, directory, sandbox, text):
    (directory / "config.json").write_bytes(text)
    wish = {"io.oci-gpu-hook.devices": "0"}
    assert_refused(call(state(directory, sandbox, annotations=wish)), "config.json")


@pytest.mark.parametrize("text", [text for text in CONFIGS if not text.endswith(b"}")])
def test_a_config_that_does_not_end_as_an_object(call, directory, sandbox, text):
    """What it lacks could ask. No runtime starts a container by it, so somebody writes it now."""
    (directory / "config.json").write_bytes(text)
    assert_refused(call(state(directory, sandbox)), "config.json")


@pytest.mark.parametrize("text", [b"{} {}", b"{]}", b'{"a"}'])
def test_a_config_that_is_none_where_nothing_asks(call, directory, sandbox, text):
    (directory / "config.json").write_bytes(text)
    assert_silent(call(state(directory, sandbox)))


def test_a_config_cut_short_that_asks(call, bundle, sandbox):
    path = bundle()
    text = (path / "config.json").read_bytes()
    (path / "config.json").write_bytes(text[:-1])
    assert_refused(call(state(path, sandbox)), "config.json")


def test_a_config_without_root(call, bundle, sandbox):
    assert_refused(call(state(bundle(root=None), sandbox)), "root")


def test_a_config_without_process_whose_annotation_asks(call, bundle, sandbox):
    assert_refused(call(state(bundle(process=None, annotations={"io.oci-gpu-hook.devices": "0"}), sandbox)), "process")


@pytest.mark.parametrize("lacking", ["root", "process", "linux"])
def test_a_config_that_lacks_a_part_and_asks_for_nothing(call, bundle, sandbox, lacking):
    assert_silent(call(state(bundle(asks=False, **{lacking: None}), sandbox)))


@pytest.mark.parametrize("asks", [True, False], ids=["asks", "asks-nothing"])
def test_an_environment_entry_without_equals(call, bundle, sandbox, asks):
    env = ["PATH", "", *(f"{name}={value}" for name, value in ASKING.items() if asks)]
    done = call(state(bundle(process={"args": ["/bin/sh"], "env": env, "cwd": "/"}), sandbox))
    assert_refused(done, "'PATH'") if asks else assert_silent(done)


def test_a_root_that_leads_out_of_the_bundle(call, bundle, sandbox):
    assert_refused(call(state(bundle(root={"path": "../elsewhere"}), sandbox)), "out of the bundle")


def test_a_rootfs_that_is_missing(call, bundle, sandbox):
    path = bundle()
    (path / "rootfs").rmdir()
    assert_refused(call(state(path, sandbox)), "rootfs")


@pytest.mark.parametrize("arguments", [("--bogus", "prestart"), ("unknown",), ("prestart", "more"), ("--config",)])
def test_wrong_usage(call, bundle, sandbox, arguments):
    done = call(state(bundle(), sandbox), *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: oci-gpu-hook ")


def test_no_stage(hook):
    done = subprocess.run([hook], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 2


@pytest.mark.parametrize("stage", ["createContainer", "startContainer", "poststart"])
def test_other_stages_do_nothing(call, bundle, sandbox, stage):
    assert_silent(call(state(bundle(), sandbox), stage))


def test_poststop_of_a_container_that_never_was(call, bundle):
    assert_silent(call(state(bundle(), 0, id="never-was", status="stopped"), "poststop"))


def test_a_closed_stdin(call, hook, simulated):
    # Not even an empty stdin: descriptor 0 is free, and what the hook opens next could land there.
    command = f"exec {hook} --config {simulated.config} prestart <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, cwd="/")
    assert_refused(done)

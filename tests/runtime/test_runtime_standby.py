"""oci-gpu-runtime's process that stays to attach the GPUs, so that the hook starts no Python at prestart."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.counted import is_front, lay, lay_hook
from tests.runtime.host import contents, difference
from tests.runtime.test_devices import assert_reaches, reach
from tests.runtime.test_oci_runtime import leases

CHILDREN = "$(cat /proc/$$/task/$$/children)"


@pytest.fixture
def front(front, runtime, directory):
    """Executables of this test's own: each Python that the hook's front starts leaves its stage in a file."""
    if not is_front(Path(front.binary)):
        pytest.skip("the front was not built")
    own = directory / "libexec"
    own.mkdir()
    lay_hook(own / "oci-gpu-hook", Path(front.binary).with_name("oci-gpu-hook"), directory / "interpreters")
    stub = Path(f"{front.binary}.py").read_text()
    (own / "oci-gpu-runtime.py").write_text(stub)
    lay(own / "oci-gpu-runtime", "runtime", stub, runtime.binary)
    return replace(front, binary=str(own / "oci-gpu-runtime"))


@pytest.fixture
def interpreters(front, directory):
    """Return the stages of the hook for which Python was started, in order."""
    marks = directory / "interpreters"
    return lambda: marks.read_text().split() if marks.exists() else []


@pytest.fixture
def before(front, runtime, directory):
    """Put a script between oci-gpu-runtime and the real runtime, for the calls that make a container."""
    stub = Path(f"{front.binary}.py").read_text()
    assert repr(runtime.binary) in stub

    def put(script):
        path = directory / "real-runtime"
        script = f'case " $* " in *" create "* | *" run "*) {script};; esac'
        path.write_text(f'#!/bin/sh\n{script}\nexec {runtime.binary} "$@"\n')
        path.chmod(0o755)
        lay(Path(front.binary), "runtime", stub.replace(repr(runtime.binary), repr(str(path))), path)

    return put


def said_of_hook(done, words):
    """Tell whether the runtime shows what a hook that failed has said, or is crun, which shows its status alone."""
    return f"oci-gpu-hook: error: {words}" in done.stderr.replace("'", "") or "(exit code: 1)" in done.stderr


def waiting(simulated):
    return sorted(path.name for path in (simulated.state_dir / "standby").glob("*"))


def test_the_hook_starts_no_python_at_prestart(front, plain_bundle, simulated, interpreters):
    bundle = plain_bundle(*reach(simulated), "dlopen=libcuda.so.1", gpus="0")
    seen = front.run(bundle).seen()
    assert_reaches(seen, simulated, (0,))
    assert seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")
    assert interpreters() == []
    assert waiting(simulated) == []


def test_where_nobody_stands_by_the_hook_starts_python(front, before, plain_bundle, simulated, interpreters):
    before(f"kill -KILL {CHILDREN}")
    seen = front.run(plain_bundle(*reach(simulated), gpus="0")).seen()
    assert_reaches(seen, simulated, (0,))
    assert interpreters() == ["prestart"]


def test_a_bundle_that_is_started_again_has_another(front, plain_bundle, simulated, interpreters):
    bundle = plain_bundle(*reach(simulated), gpus="0")
    front.run(bundle).seen()
    front.run(bundle).seen()
    seen = front.run(bundle).seen()
    assert_reaches(seen, simulated, (0,))
    assert "prestart" not in interpreters()


def test_a_refusal_is_the_hooks(front, plain_bundle, simulated, interpreters):
    bundle = plain_bundle(gpus="0", args=("/bin/true",))
    (bundle.rootfs / "usr/bin/nvidia-smi").mkdir(parents=True)
    done = front.run(bundle)
    assert done.status != 0
    assert said_of_hook(done, "container path /usr/bin/nvidia-smi: ")
    assert "prestart" not in interpreters()
    assert leases(simulated) == []
    assert waiting(simulated) == []


def test_nobody_waits_for_a_container_that_was_never_made(front, plain_bundle, simulated, interpreters):
    bundle = plain_bundle(gpus="0", args=("/bin/true",))
    bundle.config["root"]["path"] = "/nonexistent"
    assert front.run(bundle).status != 0
    left = waiting(simulated)
    deadline = time.monotonic() + 5
    while _holders(simulated) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _holders(simulated) == []
    front.run(plain_bundle(gpus="0", args=("/bin/true",), name="next")).seen()
    assert left
    assert waiting(simulated) == []
    assert "prestart" not in interpreters()


def test_it_keeps_nothing_that_an_engine_waits_for(front, before, directory, plain_bundle, interpreters):
    """Who starts a runtime reads its output to the end, and has leaked descriptors closed with it."""
    look = f"sleep 1; for pid in {CHILDREN}; do ls -l /proc/$pid/fd 2>/dev/null >> {directory}/descriptors; done"
    before(look)
    front.run(plain_bundle(gpus="0", args=("/bin/true",))).seen()
    rows = (directory / "descriptors").read_text().splitlines()
    held = sorted(os.path.basename(row.partition(" -> ")[2]) for row in rows if " -> " in row)
    assert [name.rpartition(".")[2] for name in held] == ["answer", "state", "null", "null", "modules"], held
    assert "prestart" not in interpreters()


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("call", ["symlinkat", "move_mount"])
def test_one_that_is_killed_at_work_leaves_nothing(front, before, plain_bundle, simulated, interpreters, call):
    kill = f"strace -qq -o /dev/null -p $pid -e inject={call}:signal=KILL:when=2"
    before(f"for pid in {CHILDREN}; do {kill} & done; sleep 1")
    bundle = plain_bundle(gpus="0", args=("/bin/true",))
    image = contents(bundle.rootfs)
    done = front.run(bundle)
    assert done.status != 0
    assert said_of_hook(done, "the process that attaches the GPUs: has ended")
    before(":")
    front.run(plain_bundle(gpus="0", args=("/bin/true",), name="next")).seen()
    assert difference(image, contents(bundle.rootfs)) == []
    assert interpreters().count("prestart") == 1, "which reports the end of the first"
    assert waiting(simulated) == []
    assert leases(simulated) == []


def _holders(simulated):
    """Return the processes that have one of the FIFOs open."""
    found = set()
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(fd).startswith(f"{simulated.state_dir}/standby/"):
                found.add(fd.parts[2])
    return sorted(found)

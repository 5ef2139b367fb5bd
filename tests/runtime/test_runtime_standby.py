"""oci-gpu-runtime's process that stays to attach the GPUs, so that the hook starts no Python at prestart."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from oci_gpu_hook.admin.install.bytecode import byte_code
from tests.runtime.fixtures import oci_gpu
from tests.runtime.test_devices import assert_reaches, reach
from tests.runtime.test_oci_runtime import leases

CHILDREN = "$(cat /proc/$$/task/$$/children)"


@pytest.fixture
def interpreters(front, directory):
    """Return the stages of the hook for which Python was started, in order."""
    if Path(front.binary).read_bytes()[:4] != b"\x7fELF":
        pytest.skip("the front was not built")
    note_interpreters(front, directory)
    marks = directory / "interpreters"
    return lambda: marks.read_text().split() if marks.exists() else []


def note_interpreters(front, directory):
    """Have each Python that the hook's front starts leave its stage in a file."""
    stub = Path(front.binary).with_name("oci-gpu-hook.py")
    marks = str(directory / "interpreters")
    note = f"import posix, sys\nposix.write(posix.open({marks!r}, 0o2101, 0o644), (sys.argv[-1] + ' ').encode())\n"
    stub.with_suffix(".pyc").write_bytes(byte_code(note + stub.read_text(), str(stub)))


def before(front, runtime, directory, script):
    """Put a script between oci-gpu-runtime and the real runtime, which it starts as "$@"."""
    path = directory / "real-runtime"
    path.write_text(f'#!/bin/sh\n{script}\nexec {runtime.binary} "$@"\n')
    path.chmod(0o755)
    oci_gpu("hook-path", "--runtime", "--directory", Path(front.binary).parent, "--real-runtime", path)
    note_interpreters(front, directory)


def waiting(simulated):
    return sorted(path.name for path in (simulated.state_dir / "standby").glob("*"))


def test_the_hook_starts_no_python_at_prestart(front, plain_bundle, simulated, interpreters):
    bundle = plain_bundle(*reach(simulated), "dlopen=libcuda.so.1", gpus="0")
    seen = front.run(bundle).seen()
    assert_reaches(seen, simulated, (0,))
    assert seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")
    assert interpreters() == ["poststop"]
    assert waiting(simulated) == []


def test_where_nobody_stands_by_the_hook_starts_python(
    front, runtime, directory, plain_bundle, simulated, interpreters
):
    before(front, runtime, directory, f"case $* in *create* | *run*) kill -KILL {CHILDREN};; esac")
    seen = front.run(plain_bundle(*reach(simulated), gpus="0")).seen()
    assert_reaches(seen, simulated, (0,))
    assert interpreters() == ["prestart", "poststop"]


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
    assert "oci-gpu-hook: error: " in done.stderr
    assert "nvidia-smi" in done.stderr
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


def test_it_keeps_nothing_that_an_engine_waits_for(front, runtime, directory, plain_bundle, simulated, interpreters):
    """Who starts a runtime reads its output to the end, and has leaked descriptors closed with it."""
    look = f"sleep 1; for pid in {CHILDREN}; do ls -l /proc/$pid/fd 2>/dev/null >> {directory}/descriptors; done"
    before(front, runtime, directory, f"case $* in *create* | *run*) {look};; esac")
    front.run(plain_bundle(gpus="0", args=("/bin/true",))).seen()
    rows = (directory / "descriptors").read_text().splitlines()
    held = sorted(os.path.basename(row.partition(" -> ")[2]) for row in rows if " -> " in row)
    assert [name.rpartition(".")[2] for name in held] == ["answer", "state", "null", "null", "modules"], held
    assert "prestart" not in interpreters()


def _holders(simulated):
    """Return the processes that have one of the FIFOs open."""
    found = set()
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(fd).startswith(f"{simulated.state_dir}/standby/"):
                found.add(fd.parts[2])
    return sorted(found)

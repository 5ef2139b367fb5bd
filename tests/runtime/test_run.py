"""`oci-gpu run` with runc and crun on a simulated host: what it shows, how it ends, and that nothing is left."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runtime.fixtures import oci_gpu

OCI_GPU = Path(sys.executable).with_name("oci-gpu")


@pytest.fixture
def bare(machine, simulated, hook):
    """A function that runs `oci-gpu run` on a host where runc works, and asserts that it leaves nothing."""
    runtime = next((runtime for name, runtime in machine.runtimes.items() if name.startswith("runc")), None)
    if runtime is None:
        pytest.skip("no runc works here")

    def command(*arguments: str) -> list[str]:
        words = (OCI_GPU, "--config", simulated.config, "run", "--engine", "runc", *arguments)
        return [str(word) for word in runtime.host.command(*words)]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=120)
        assert left() == set()
        return done

    run.command = command  # type: ignore[attr-defined]
    return run


@pytest.mark.parametrize(("platform", "node"), [("wsl2", "/dev/dxg"), ("tegra", "/dev/nvmap")])
def test_a_gpu_is_seen_where_its_nodes_have_other_names(machine, runc_v2, hook, platform, node):
    directory = machine.work / f"run-{platform}"
    oci_gpu("simulate", directory, "--platform", platform)
    words = (OCI_GPU, "--config", directory / "config.toml", "run", "--engine", "runc")
    command = [str(word) for word in runc_v2.host.command(*words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{node}\n" in done.stdout


def left() -> set[str]:
    return {str(path) for path in Path("/var/tmp").glob("oci-gpu-run-*")}


def test_a_container_gets_a_gpu(bare, simulated):
    done = bare()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(
        "runc: NVIDIA_DRIVER_CAPABILITIES=compute,utility OCI_GPU_COUNT=1\nGPU 0: NVIDIA H100"
    )
    assert done.stdout.count("UUID") == 1
    assert "\nrunc: exit status 0, " in done.stdout


def test_as_many_as_are_asked_for_and_those_that_are_named(bare, simulated):
    assert bare("--count", "2").stdout.count("UUID") == 2
    named = bare("--devices", "1").stdout
    assert simulated.gpus()[1].uuid in named
    assert named.count("UUID") == 1


@pytest.mark.parametrize("words", [("--", "/bin/sh", "-c", "echo $0-$1; exit 7", "a", "--count")])
def test_a_command_of_ones_own_ends_as_it_ends(bare, words):
    done = bare(*words)
    assert "a---count\n" in done.stdout
    assert done.returncode == 7


def test_a_refusal_is_shown(bare):
    done = bare("--count", "99")
    assert done.returncode == 1
    assert "99" in done.stdout + done.stderr
    assert "oci-gpu-hook: error: " in done.stdout + done.stderr


def test_one_that_does_not_end_is_ended(bare):
    done = bare("--timeout", "1", "--", "/bin/sh", "-c", "read _ </proc/self/fd/1; while :; do :; done")
    assert done.returncode == 124
    assert "did not end within 1 s" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_that_is_interrupted_leaves_nothing(bare, number):
    command = bare.command("--", "/bin/sh", "-c", "echo on; while :; do :; done")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        while process.stdout.readline().strip() != "on":
            pass
        subprocess.run(["pkill", f"-{number}", "-P", str(process.pid)], check=False)
        process.send_signal(number)
        process.stdout.read()
    deadline = time.monotonic() + 20
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left() == set()
    assert process.returncode in (128 + number, -number)


def test_words_that_have_no_place(bare):
    done = bare("image", "command")
    assert done.returncode == 2
    assert "write oci-gpu run image -- command" in done.stderr
    assert "write oci-gpu run [IMAGE] -- COMMAND" in bare("nvidia-smi").stderr
    assert "it has no images" in bare("image").stderr

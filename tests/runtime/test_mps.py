"""The pipe directory of MPS: who gets it, wherever the host's daemon has it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from tests.runtime.fixtures import oci_gpu

DEFAULT = "/tmp/nvidia-mps"
ASKS = "NVIDIA_MPS=enabled"


@pytest.fixture
def host(simulated, directory):
    """A host that a test may give a daemon of MPS."""
    return simulated.copy(directory / "host")


def pipes(path) -> str:
    path.mkdir(parents=True)
    os.mkfifo(path / "control")
    return str(path)


def configured(host, **keys: str) -> None:
    """Set keys of a section: driver_mps_pipe_directory, request_mps."""
    text = host.config.read_text()
    for name, value in keys.items():
        section, _, key = name.partition("_")
        line = f'{key.replace("_", "-")} = "{value}"\n'
        header = f"[{section}]\n"
        text = text.replace(header, header + line) if header in text else f"{text}\n{header}{line}"
    host.config.write_text(text)


@pytest.fixture
def daemon(runtime, directory):
    """Start processes that look like the daemon on the runtime's host: (environment, options) → process."""
    started = []
    program = directory / "nvidia-cuda-mps-control"
    sleep = shutil.which("sleep")
    assert sleep
    shutil.copy(sleep, program)

    def start(*environment: str, before: tuple[str, ...] = ()) -> None:
        command = runtime.host.command(*before, "env", "-i", *environment, program, "100")
        process = subprocess.Popen(command)
        started.append(process)
        deadline = 200
        while deadline and not _has_come_up(process.pid):
            deadline -= 1
            subprocess.run(["sleep", "0.02"], check=True)
        assert deadline

    yield start
    for process in started:
        process.kill()
        process.wait()


def _has_come_up(pid: int) -> bool:
    with open(f"/proc/{pid}/comm") as file:
        return file.read() == "nvidia-cuda-mps\n"


def seen_and_warnings(runtime, bundle, path: str, config) -> tuple[object, list[str]]:
    """Return what the container sees at a path, and what the plan warns of, which must be of MPS alone."""
    bundle.config["process"]["args"] = ["/probe", f"list={path}"]
    bundle.write()
    plan = json.loads(oci_gpu("--config", config, "plan", bundle.directory, "--json"))
    return runtime.run(bundle).seen()[f"list={path}"], plan["warnings"]


@pytest.mark.parametrize("asks", [False, True])
def test_it_is_for_who_asks(runtime, make_bundle, host, asks):
    pipes(host.driver_root / DEFAULT[1:])
    bundle = make_bundle(gpus="0", config=host.config, env=(ASKS,) if asks else ())
    assert seen_and_warnings(runtime, bundle, DEFAULT, host.config) == (["control"] if asks else "ENOENT", [])


def test_a_cdi_name_asks_too(runtime, make_bundle, host):
    pipes(host.driver_root / DEFAULT[1:])
    annotations = {"io.oci-gpu-hook.devices": "nvidia.com/gpu=0,nvidia.com/mps=all"}
    bundle = make_bundle(config=host.config, annotations=annotations)
    assert seen_and_warnings(runtime, bundle, DEFAULT, host.config) == (["control"], [])


@pytest.mark.parametrize("capabilities", ["compute,utility", "utility"])
def test_as_nvidia_does_it_by_a_switch(runtime, make_bundle, host, capabilities):
    pipes(host.driver_root / DEFAULT[1:])
    configured(host, request_mps="always")
    env = ("NVIDIA_VISIBLE_DEVICES=0", f"NVIDIA_DRIVER_CAPABILITIES={capabilities}")
    expected = ["control"] if "compute" in capabilities else "ENOENT"
    bundle = make_bundle(config=host.config, env=env)
    assert seen_and_warnings(runtime, bundle, DEFAULT, host.config) == (expected, [])


def test_always_is_quiet_on_a_host_without_it(runtime, make_bundle, host):
    configured(host, request_mps="always")
    bundle = make_bundle(gpus="0", config=host.config)
    assert seen_and_warnings(runtime, bundle, DEFAULT, host.config) == ("ENOENT", [])


def test_a_host_without_it_is_said_to_who_asks(runtime, make_bundle, host):
    bundle = make_bundle(gpus="0", config=host.config, env=(ASKS,))
    seen, (warning,) = seen_and_warnings(runtime, bundle, DEFAULT, host.config)
    assert seen == "ENOENT"
    assert warning.startswith("MPS is asked for, but the host has no pipe directory of it: start nvidia-cuda-mps-")


@pytest.mark.parametrize("how", ["key", "daemon"])
@pytest.mark.parametrize("knows", [False, True], ids=["unaware", "aware"])
def test_another_directory_of_the_host(runtime, make_bundle, host, directory, daemon, how, knows):
    path = pipes(directory / "run/pipes")
    if how == "key":
        configured(host, driver_mps_pipe_directory=path)
    else:
        daemon(f"CUDA_MPS_PIPE_DIRECTORY={path}/")
    env = (ASKS, f"CUDA_MPS_PIPE_DIRECTORY={path}") if knows else (ASKS,)
    bundle = make_bundle(gpus="0", config=host.config, env=env)
    seen, warnings = seen_and_warnings(runtime, bundle, path, host.config) if how == "key" else (None, [])
    if how == "daemon":  # `plan` is in another mount namespace than the test's host, as a container's processes are
        bundle.config["process"]["args"] = ["/probe", f"list={path}"]
        seen = runtime.run(bundle).seen()[f"list={path}"]
    assert seen == ["control"]
    said = f"MPS: the host's pipe directory is '{path}'; set CUDA_MPS_PIPE_DIRECTORY to it in the container"
    assert warnings == ([] if knows or how == "daemon" else [said])


def test_of_two_daemons_the_container_chooses(runtime, make_bundle, host, directory, daemon):
    paths = [pipes(directory / name) for name in ("first", "second")]
    for path in paths:
        daemon(f"CUDA_MPS_PIPE_DIRECTORY={path}")
    questions = [f"list={path}" for path in paths]
    env = (ASKS, f"CUDA_MPS_PIPE_DIRECTORY={paths[1]}")
    seen = runtime.run(make_bundle(*questions, gpus="0", config=host.config, env=env)).seen()
    assert seen == {questions[0]: "ENOENT", questions[1]: ["control"]}


IMPOSTORS = {
    "another-user": ("setpriv", "--reuid", "12345", "--clear-groups"),
    "another-namespace": ("unshare", "--mount"),
}


@pytest.mark.parametrize("who", IMPOSTORS)
def test_a_process_that_only_looks_like_the_daemon_has_no_say(runtime, make_bundle, host, directory, daemon, who):
    path = pipes(directory / "secrets")
    daemon(f"CUDA_MPS_PIPE_DIRECTORY={path}", before=IMPOSTORS[who])
    bundle = make_bundle(f"list={path}", gpus="0", config=host.config, env=(ASKS, f"CUDA_MPS_PIPE_DIRECTORY={path}"))
    assert runtime.run(bundle).seen() == {f"list={path}": "ENOENT"}


@pytest.mark.parametrize("who", ["another", "link"])
def test_a_directory_that_root_has_not_made_does_not_count(runtime, make_bundle, host, directory, who):
    place = host.driver_root / DEFAULT[1:]
    if who == "another":
        os.chown(pipes(place), 12345, 0)
    else:
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(pipes(directory / "elsewhere"))
    bundle = make_bundle(f"list={DEFAULT}", gpus="0", config=host.config, env=(ASKS,))
    assert runtime.run(bundle).seen() == {f"list={DEFAULT}": "ENOENT"}

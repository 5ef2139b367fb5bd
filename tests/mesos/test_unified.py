"""Containers of the unified containerizer get the GPUs that they ask for, launched through the installed directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.mesos.conftest import CUDA

REACH = ("list=/dev", "mknod=/dev/mine0:195:0", "open=/dev/mine0", "mknod=/dev/mine1:195:1", "open=/dev/mine1")
LIBRARY = "dlopen=libcuda.so.1"
NO_IMAGE_ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def gpus(seen: dict) -> set[str]:
    """Return the GPU nodes in the answers to REACH, each of which and no other can be opened."""
    nodes = {name for name in seen["list=/dev"] if name.startswith("nvidia") and name[6:].isdigit()}
    for minor in ("0", "1"):
        assert seen[f"open=/dev/mine{minor}"] == ("ENXIO" if f"nvidia{minor}" in nodes else "EPERM")
    return nodes


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
@pytest.mark.parametrize("kind", ["command", "custom"])
def test_task_gets_what_its_image_asks_for(mesos, simulated, kind, pid_namespace):
    ended = mesos.run(*REACH, "open=/dev/nvidiactl", LIBRARY, "list=/usr/bin", kind=kind, pid_namespace=pid_namespace)
    seen = ended.seen()
    assert gpus(seen) == {"nvidia0", "nvidia1"}
    assert (seen["open=/dev/nvidiactl"], "nvidia-smi" in seen["list=/usr/bin"]) == ("ENXIO", True)
    assert seen[LIBRARY].endswith("/libcuda.so.1")
    assert ended.stderr.count("Executing pre-exec command") == 1


@pytest.mark.parametrize("kind", ["command", "custom"])
def test_task_gets_what_it_asks_for_itself(mesos, kind):
    seen = mesos.run(*REACH, kind=kind, environment={"NVIDIA_VISIBLE_DEVICES": "1"}).seen()
    assert gpus(seen) == {"nvidia1"}


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
@pytest.mark.parametrize("own_cgroup", [False, True], ids=["", "own-cgroup"])
def test_nested_container(mesos, own_cgroup, pid_namespace):
    task = {"image": mesos.image(), "environment": {"NVIDIA_VISIBLE_DEVICES": "0"}, "probe": (*REACH, LIBRARY)}
    task |= {"own_cgroup": own_cgroup, "pid_namespace": pid_namespace}
    executor = {"shell": True, "value": "sleep 60"}
    running = mesos.start(kind="custom", image="", command=executor, nested=[task], pid_namespace=pid_namespace)
    ended = running.end()[0]
    assert gpus(ended.seen()) == {"nvidia0"}


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
def test_debug_container_sees_what_its_container_has(mesos, pid_namespace):
    task = {
        "kind": "custom",
        "image": mesos.image(),
        "pid_namespace": pid_namespace,
        "environment": {"NVIDIA_VISIBLE_DEVICES": "0", "OF_THE_TASK": "yes"},
        "command": {"shell": True, "value": "sleep 60"},
    }
    command = f"env; /probe {' '.join(REACH)} {LIBRARY}"
    debug = {"kind": "debug", "command": {"shell": True, "value": command}}
    ended, _ = mesos.start(**task, nested=[debug]).end()
    assert gpus(ended.seen()) == {"nvidia0"}
    assert "OF_THE_TASK=yes" in ended.stdout.splitlines()
    assert "pre-exec" not in ended.stderr


@pytest.mark.parametrize("kind", ["command", "custom"])
def test_sealed_launcher(mesos, kind):
    assert gpus(mesos.run(*REACH, kind=kind, seal=True).seen()) == {"nvidia0", "nvidia1"}


def test_user_that_is_not_root(mesos):
    seen = mesos.run("open=/dev/nvidia0", "open=/dev/nvidiactl", LIBRARY, user="nobody").seen()
    assert (seen["open=/dev/nvidia0"], seen["open=/dev/nvidiactl"]) == ("ENXIO", "ENXIO")
    assert seen[LIBRARY].endswith("/libcuda.so.1")


@pytest.mark.parametrize("variant", ["rhel", "no-cache", "musl"])
def test_other_images(mesos, variant):
    seen = mesos.run(*REACH, "list=/usr/bin", image=mesos.image(variant)).seen()
    assert gpus(seen) == {"nvidia0", "nvidia1"}
    assert "nvidia-smi" in seen["list=/usr/bin"]


@pytest.mark.parametrize("kind", ["command", "custom"])
def test_container_that_asks_for_nothing_is_left_alone(mesos, kind):
    ended = mesos.run(*REACH, kind=kind, image=mesos.image("debian", NO_IMAGE_ENVIRONMENT))
    assert gpus(ended.seen()) == set()
    assert ended.stderr == ""


def test_container_without_image_is_left_alone(mesos):
    command = {"shell": True, "value": "test -e /proc/self && echo ran"}
    ended = mesos.run(image="", command=command, environment=CUDA)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "ran\n", "")


def test_other_commands_before_the_task_run_first_and_stay(mesos):
    before = [{"shell": True, "value": "echo before; test ! -e $ROOT/dev/nvidia0"}]
    ended = mesos.run(*REACH, kind="custom", pre_exec=before)
    assert gpus(ended.seen()) == {"nvidia0", "nvidia1"}
    first, second = (line for line in ended.stderr.splitlines() if line.startswith("Executing"))
    assert ("echo before" in first, "attach-gpus" in second, "before" in ended.stdout) == (True, True, True)


def test_environment_of_the_task_reaches_no_code_of_ours(mesos, tmp_path):
    witness = tmp_path / "witness.c"
    witness.write_text(
        """#include <fcntl.h>
        #include <unistd.h>
        __attribute__((constructor)) static void tell(void) {
            char line[4096];
            int in = open("/proc/self/cmdline", O_RDONLY), out = open(LOG, O_WRONLY | O_APPEND | O_CREAT, 0666);
            long n = read(in, line, sizeof line - 1);
            for (long i = 0; i < n; i++) if (!line[i]) line[i] = ' ';
            line[n++] = '\\n';
            if (write(out, line, n)) {}
        }"""
    )
    log, library = mesos.directory / "log", mesos.directory / "witness.so"
    subprocess.run(["gcc", "-shared", "-fPIC", f'-DLOG="{log}"', "-o", library, witness], check=True)
    modules = mesos.directory / "modules"
    modules.mkdir()
    for name in ("os", "gc", "oci_gpu_hook", "sitecustomize", "linux"):
        (modules / f"{name}.py").write_text(
            f"open({str(log)!r}, 'a').write('python {name}\\n')\nraise SystemExit(99)\n"
        )
    environment = {"LD_PRELOAD": str(library), "PYTHONPATH": str(modules), "PYTHONHOME": "/nowhere", "LANG": "xx_YY"}
    environment |= {"MESOS_CONTAINERIZER_NAMESPACE_MNT_TARGET": ""}
    assert gpus(mesos.run(*REACH, environment=environment).seen()) == {"nvidia0", "nvidia1"}
    lines = log.read_text().splitlines()
    assert any("mesos-executor" in line for line in lines)  # as in stock Mesos: the witness works
    assert not [line for line in lines if "mesos-containerizer.py" in line]
    assert not [line for line in lines if line.startswith("python ")]


def test_exit_status_and_output_are_the_tasks(mesos):
    ended = mesos.run(command={"shell": True, "value": "echo out; echo err >&2; exit 7"}, kind="custom")
    assert (ended.status, ended.stdout) == (7, "out\n")
    assert ended.stderr.splitlines()[-1] == "err"


def test_task_ignores_no_signal_and_holds_no_descriptor(mesos):
    command = {"shell": True, "value": "cat /proc/self/status; exec /probe fds"}
    ended = mesos.run(kind="custom", command=command)
    ignored = next(line.split()[1] for line in ended.stdout.splitlines() if line.startswith("SigIgn"))
    # Whoever started the tests may have had some ignored; Python adds two, which the front is to have taken back.
    assert int(ignored, 16) & (_bit(signal.SIGPIPE) | _bit(signal.SIGXFSZ) | ~_ignored_here()) == 0
    assert len(ended.seen()["fds"]) <= 4


def _bit(number):
    return 1 << (number - 1)


def _ignored_here():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith("SigIgn"))


def test_commands_that_are_no_launch_reach_the_real_helper(mesos):
    command = [mesos.launcher / "mesos-containerizer", "network-cni-setup", "--pid=1", '--x={"rootfs": "/r"}']
    environment = {"A": "1", "MESOS_CONTAINERIZER_LAUNCH_INFO": '{"rootfs": "/r"}'}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)
    said["env"].pop("LC_CTYPE", None)
    assert (done.returncode, said["argv"][1:], said["env"]) == (17, command[1:], environment)


def test_launcher_directory_has_every_program_of_the_real_one(launcher, real_launcher):
    links = {name: os.readlink(launcher / name) for name in os.listdir(launcher) if os.path.islink(launcher / name)}
    names = set(os.listdir(real_launcher)) - {"mesos-containerizer"}
    assert links == {name: str(real_launcher / name) for name in names}
    with open(launcher / "mesos-containerizer", "rb") as file:
        assert file.read(4) == b"\x7fELF"

"""Launches that cannot be served: passed through, or failed with a reason on the task's stderr, and never a hang."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.mesos.test_unified import REACH, gpus
from tests.runtime.fixtures import oci_gpu

HERE = Path(__file__).parent
ASKING = {"variables": [{"name": "NVIDIA_VISIBLE_DEVICES", "type": "VALUE", "value": "all"}]}


@pytest.fixture
def recorder(machine, directory, simulated):
    """Return a front before a helper that says what it was called with."""
    real, output = directory / "real", directory / "front"
    real.mkdir()
    (real / "mesos-containerizer").write_text(
        "#!/usr/bin/python3 -ISB\nimport json, os, sys\n"
        "env = open('/proc/self/environ', 'rb').read().decode('latin-1').split('\\0')[:-1]\n"
        "json.dump({'argv': [os.fsencode(a).decode('latin-1') for a in sys.argv], 'env': env}, sys.stdout)\n"
    )
    (real / "mesos-containerizer").chmod(0o755)
    oci_gpu("--config", simulated.config, "install", "mesos", "--launcher-dir", real, "--output", output)
    return output / "mesos-containerizer"


def call(front: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Call the front as an agent's child, with nothing to wait for on stdin."""
    command = [str(front), "launch", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL
    )


PASSED = {
    "not JSON": '{"rootfs": "/r", ',
    "no value": '{"rootfs": }',
    "not an object": '["rootfs"]',
    "two documents": '{"rootfs": "/r"} {}',
    "control character": '{"rootfs": "/r", "x": "\n"}',
    "nested too deeply": '{"rootfs": "/r", "x": ' + "[" * 60000 + "]" * 60000 + "}",
    "no number of JSON's": '{"rootfs": "/r", "x": NaN}',
    "rootfs that is not text": '{"rootfs": 7, "environment": ' + json.dumps(ASKING) + "}",
    "relative rootfs": '{"rootfs": "r", "environment": ' + json.dumps(ASKING) + "}",
    "no environment": '{"rootfs": "/r", "command": {"value": "x"}}',
    "environment of another kind": '{"rootfs": "/r", "environment": [1, {"variables": 2}]}',
    "variables of another kind": '{"rootfs": "/r", "environment": {"variables": [1, {"name": 2}, null]}}',
    "secret": json.dumps(
        {
            "rootfs": "/r",
            "environment": {"variables": [{"name": "NVIDIA_VISIBLE_DEVICES", "type": "SECRET", "secret": {}}]},
        }
    ),
    "asks for nothing": '{"rootfs": "/r", "environment": {"variables": [{"name": "A", "value": "b"}]}}',
    "empty": '"rootfs"',
}


@pytest.mark.parametrize("by", ["argument", "environment"])
@pytest.mark.parametrize("case", PASSED)
def test_what_is_not_understood_or_asks_for_nothing_is_passed_on(recorder, case, by):
    text = PASSED[case]
    arguments = ("--help=false", f"--launch_info={text}", "--unshare_namespace_mnt=true") if by == "argument" else ()
    environment = {"A": "1", "EMPTY": "", "B": "x=y"} | ({} if arguments else {"MESOS_CONTAINERIZER_LAUNCH_INFO": text})
    said = json.loads(call(recorder, *arguments, **environment).stdout)
    assert said["argv"][1:] == ["launch", *arguments]
    assert said["env"] == [f"{name}={value}" for name, value in environment.items()]


def test_odd_environments_are_passed_on_byte_for_byte(recorder, directory):
    """No shell makes such entries, but an execve may: double names, none, no equals sign, bytes that are no UTF-8."""
    program = directory / "odd.c"
    entries = ["A=1", "A=2", "NOTHING", "=x", "", "B=\\xff\\xfe", 'MESOS_CONTAINERIZER_X=\\"rootfs\\"']
    listed = ", ".join(f'"{entry}"' for entry in entries)
    program.write_text(
        "#include <unistd.h>\nint main(int c, char **v) { char *e[] = {"
        + listed
        + ", 0}; return execve(v[1], v + 1, e); }"
    )
    subprocess.run(["gcc", "-o", directory / "odd", program], check=True)
    done = subprocess.run(
        [directory / "odd", recorder, "launch"], capture_output=True, text=True, timeout=20, check=True
    )
    assert json.loads(done.stdout)["env"] == [
        "A=1",
        "A=2",
        "NOTHING",
        "=x",
        "",
        "B=\xff\xfe",
        'MESOS_CONTAINERIZER_X="rootfs"',
    ]


REFUSED = {
    "no device has that name": ({"NVIDIA_VISIBLE_DEVICES": "GPU-0; rm"}, "NVIDIA_VISIBLE_DEVICES"),
    "no number": ({"OCI_GPU_COUNT": "two"}, "is not a whole number"),
}


@pytest.mark.parametrize("kind", ["command", "custom"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_fails_the_task(mesos, kind, case):
    environment, complaint = REFUSED[case]
    assert complaint in mesos.run(*REACH, kind=kind, environment=environment).complaint()


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["", "pid-namespace"])
@pytest.mark.parametrize("kind", ["command", "custom"])
def test_driver_that_is_gone_fails_the_task_that_asks_and_no_other(
    mesos, simulated, real_launcher, kind, pid_namespace
):
    host = simulated.copy(mesos.directory / "host")
    shutil.rmtree(host.proc)
    output = mesos.directory / "front"
    oci_gpu("--config", host.config, "install", "mesos", "--launcher-dir", real_launcher, "--output", output)
    options = {"kind": kind, "pid_namespace": pid_namespace, "launcher": output}
    assert "driver" in mesos.run(*REACH, **options).complaint()
    assert gpus(mesos.run(*REACH, environment={"NVIDIA_VISIBLE_DEVICES": "void"}, **options).seen()) == set()


def test_configuration_that_is_wrong_fails_the_task_that_asks_and_no_other(mesos, simulated, real_launcher):
    config = mesos.directory / "config.toml"
    config.touch()
    output = mesos.directory / "front"
    oci_gpu("--config", config, "install", "mesos", "--launcher-dir", real_launcher, "--output", output)
    config.write_text("[allocation]\npolicy = 7\n")
    assert "policy" in mesos.run(*REACH, launcher=output).complaint()
    assert gpus(mesos.run(*REACH, environment={"NVIDIA_VISIBLE_DEVICES": "void"}, launcher=output).seen()) == set()


def test_launch_information_that_grows_too_long_is_refused_only_if_it_asks(mesos):
    longest = 32 * os.sysconf("SC_PAGESIZE") - 1
    silent = {"NVIDIA_VISIBLE_DEVICES": "void"}
    assert gpus(mesos.run(*REACH, kind="custom", fill=longest, environment=silent).seen()) == set()
    assert f"would be longer than {longest} bytes" in mesos.run(*REACH, kind="custom", fill=longest).complaint()
    assert gpus(mesos.run(*REACH, kind="custom", fill=longest - 512).seen()) == {"nvidia0", "nvidia1"}


def test_process_outside_of_an_agent_is_refused_only_if_it_asks(recorder):
    text = json.dumps({"rootfs": "/r", "command": {"value": "x"}, "environment": ASKING})
    done = call(recorder, MESOS_CONTAINERIZER_LAUNCH_INFO=text)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("oci-gpu-hook: error: Mesos container: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", [PASSED["asks for nothing"], '{"command": {}}'])
def test_real_helper_that_is_gone_is_named(recorder, directory, text):
    (directory / "real/mesos-containerizer").unlink()
    done = call(recorder, MESOS_CONTAINERIZER_LAUNCH_INFO=text)
    assert done.returncode == 1
    assert str(directory / "real/mesos-containerizer") in done.stderr


def test_real_helper_of_another_version(mesos, real_launcher, directory):
    """What this version has never heard of stays in the launch information, and reaches a helper that knows it."""
    real = directory / "newer"
    shutil.copytree(real_launcher, real, symlinks=True)
    helper = real / "mesos-containerizer"
    text = helper.read_text().replace('"help",', '"help", "of_tomorrow",', 1)
    helper.write_text(
        text.replace(
            '    rootfs = info.get("rootfs", "")\n',
            '    rootfs = info.get("rootfs", "")\n    print("tomorrow:", info.get("of_tomorrow"))\n',
        )
    )
    output = directory / "front"
    oci_gpu("--config", mesos.simulated.config, "install", "mesos", "--launcher-dir", real, "--output", output)
    ended = mesos.run(*REACH, kind="custom", launcher=output, more={"of_tomorrow": [1.50, {"a": None}]})
    assert "tomorrow: [1.5, {'a': None}]" in ended.stdout
    assert gpus(ended.seen()) == {"nvidia0", "nvidia1"}


def test_killed_while_it_waits(mesos):
    """The agent destroys a container whose launch takes too long: nothing waits on, and nothing is held."""
    first = mesos.start(command={"shell": True, "value": "echo ready; exec sleep 60"}, gpus=2)
    first.wait_for("ready")
    second = mesos.start(*REACH, gpus=2, environment={"OCI_GPU_WAIT": "600"})
    time.sleep(1.5)
    second.kill()
    first.kill()
    assert gpus(mesos.run(*REACH, gpus=2, environment={"OCI_GPU_WAIT": "0"}).seen()) == {"nvidia0", "nvidia1"}


def test_install_refuses_what_is_no_launcher_directory(directory, launcher):
    for path in (directory, launcher, directory / "nothing"):
        with pytest.raises(subprocess.CalledProcessError) as error:
            oci_gpu("install", "mesos", "--launcher-dir", path, "--output", directory / "front")
        assert error.value.stderr.startswith("oci-gpu: error: ")
        assert not os.path.lexists(directory / "front")


def test_install_again_and_uninstall(directory, real_launcher):
    real, output = directory / "real", directory / "front"
    shutil.copytree(real_launcher, real)
    arguments = ("mesos", "--launcher-dir", real, "--output", output)
    oci_gpu("install", *arguments)
    (real / "mesos-fetcher").unlink()
    (real / "mesos-new").touch()
    oci_gpu("install", *arguments)
    assert "mesos-new" in os.listdir(output)
    assert "mesos-fetcher" not in os.listdir(output)
    before = sorted(os.listdir(real))
    oci_gpu("uninstall", *arguments)
    assert (os.listdir(output), sorted(os.listdir(real))) == ([], before)

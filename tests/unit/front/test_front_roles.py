"""The front as oci-gpu-runtime and mesos-containerizer: what is not its own reaches the real program."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess

import pytest

from oci_gpu_hook.entrypoints.runtime_call import FOR_FRONT

SILENT = '{"process": {"env": ["PATH=/bin"]}}'
ASKING = '{"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]}}'

TO_REAL = [
    "--version",
    "",
    "state c",
    "--root /r start run",
    "--root run state create",
    "--root=/r --log /l --log-format json --systemd-cgroup kill create 9",
    "--log create",
    "--debug exec -t c run",
    "--unknown delete c",
    "exec --process /p create",
    "create --bundle SILENT c",
    "--root /r --log=/l run -b SILENT --no-pivot --pid-file /p c",
    "--cgroup-manager=systemd create --bundle=SILENT --console-socket /s --preserve-fds=2 c",
    "run -d --bundle ASKING --bundle SILENT c",
]
TO_PYTHON = [
    "create --bundle ASKING c",
    "create --bundle=ASKING c",
    "run -b ASKING c",
    "run --bundle SILENT --bundle ASKING c",
    "--root /r --log /l --log-format json create --bundle ASKING --pid-file /p c",
    "--unknown create --bundle SILENT c",
    "--unknown x run --bundle SILENT c",
    "create --unknown --bundle SILENT c",
    "create -b=SILENT c",
    "create -bSILENT c",
    "create --config /f --bundle SILENT c",
    "create --bundle SILENT c --bundle ASKING",
    "create --bundle",
    "create --bundle= c",
    "create --bundle /nonexistent c",
    "create --bundle SILENT",
    "create c",
    "run",
]


def start(path, arguments, **options):
    options.setdefault("env", {"A": "1", "LD_LIBRARY_PATH": "/x", "PYTHONHASHSEED": "0"})
    return subprocess.run(
        [path, *arguments], capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=30, **options
    )


@pytest.mark.parametrize(
    ("who", "line"), [("real", line) for line in TO_REAL] + [("python", line) for line in TO_PYTHON]
)
def test_runtime(lay, bundle, witness, report, tmp_path, who, line):
    if os.path.exists("/etc/oci-gpu-hook/config.toml"):
        pytest.skip("this host has a configuration, which may name a swarm variable")
    silent, asking = bundle(SILENT, "silent"), bundle(ASKING, "asking")
    arguments = [word.replace("SILENT", silent).replace("ASKING", asking) for word in line.split()]
    answerer, said = report(start(lay("runtime", *witness), arguments, cwd=tmp_path))
    option, given = said["argv"][1:2], said["argv"][1:]
    if who == "python":
        assert option[0].startswith(FOR_FRONT)
        assert int(option[0].removeprefix(FOR_FRONT)) in said["fds"]
        given = given[1:]
    assert (answerer, given) == (who, arguments)
    said["env"].pop("LC_CTYPE", None)
    engines = {"A": "1", "LD_LIBRARY_PATH": "/x", "PYTHONHASHSEED": "0"}
    assert said["env"] == (engines if who == "real" else {"LC_ALL": "C"})
    assert said["cwd"] == str(tmp_path)


def test_runtime_reads_the_bundle_that_it_is_started_in(lay, bundle, witness, report):
    front = lay("runtime", *witness)
    assert report(start(front, ["create", "c"], cwd=bundle(ASKING, "asking")))[0] == "python"
    if not os.path.exists("/etc/oci-gpu-hook/config.toml"):
        assert report(start(front, ["create", "c"], cwd=bundle(SILENT, "silent")))[0] == "real"


def test_runtime_keeps_name_descriptors_and_exit_status(lay, witness, report, tmp_path):
    kept = os.open("/dev/null", os.O_RDONLY)
    _, said = report(start(lay("runtime", *witness), ["kill", "c"], pass_fds=[kept]))
    os.close(kept)
    assert kept in said["fds"]
    script = tmp_path / "sh"
    script.symlink_to("/bin/sh")
    front = lay("runtime", "/bin/false", "", str(script))
    done = subprocess.run(["NAME", "-c", "echo $0; exit 7"], executable=front, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (7, b"NAME\n")


def test_missing_real_runtime_is_an_error_that_names_it(lay):
    done = start(lay("runtime", "/bin/false", "", "/nonexistent/runc"), ["state", "c"])
    assert done.returncode == 1
    assert done.stderr.startswith(b"oci-gpu-runtime: error: cannot start /nonexistent/runc: errno 002; ")


ROOTFS = json.dumps({"rootfs": "/r", "command": {"shell": True, "value": "x"}})
NO_ROOTFS = json.dumps(
    {"command": {"arguments": ["mesos-executor", "--rootfs=/r", '--x={"rootfs": 1}', "NVIDIA_VISIBLE_DEVICES"]}}
)
MESOS = {
    "launch by the environment": (["launch"], {"MESOS_CONTAINERIZER_LAUNCH_INFO": ROOTFS}, "python"),
    "launch by an argument": (["launch", "--help=false", f"--launch_info={ROOTFS}"], {}, "python"),
    "rootfs written with an escape": (["launch", '--launch_info={"\\u0072ootfs": "/r"}'], {}, "python"),
    "launch of an executor on the host": (["launch"], {"MESOS_CONTAINERIZER_LAUNCH_INFO": NO_ROOTFS}, "real"),
    "launch without information": (["launch", "--help"], {}, "real"),
    "rootfs in a variable that is not the helper's": (["launch"], {"X": ROOTFS}, "real"),
    "another command": (
        ["network-cni-setup", "--pid=1", f"--x={ROOTFS}"],
        {"MESOS_CONTAINERIZER_LAUNCH_INFO": ROOTFS},
        "real",
    ),
    "no command": ([], {"MESOS_CONTAINERIZER_LAUNCH_INFO": ROOTFS}, "real"),
}


@pytest.mark.parametrize("case", MESOS)
def test_mesos(lay, witness, report, case):
    arguments, environment, who = MESOS[case]
    environment = {**environment, "LD_DEBUG": "", "PATH": "/bin", "EMPTY": ""}
    answerer, said = report(start(lay("mesos", *witness), arguments, env=environment))
    assert answerer == who
    said["env"].pop("LC_CTYPE", None)
    if who == "real":
        assert (said["argv"][1:], said["env"]) == (arguments, environment)
    else:
        assert said["argv"][2:] == [lay("mesos", *witness), *arguments]
        assert said["env"] == {"LC_ALL": "C"}
        ignored, kept = said["kept"].split("\0", 1)
        assert kept == "".join(f"{name}={value}\0" for name, value in environment.items())
        assert ignored == ""


@pytest.mark.parametrize(
    ("ignored", "kept"),
    [((), ""), ((signal.SIGPIPE,), "13 "), ((signal.SIGXFSZ,), "25 "), ((signal.SIGPIPE, signal.SIGXFSZ), "13 25 ")],
)
def test_mesos_keeps_which_signals_were_ignored(lay, witness, report, ignored, kept):
    def ignore():
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    arguments = ["launch", f"--launch_info={ROOTFS}"]
    done = start(lay("mesos", *witness), arguments, env={"A": "1"}, preexec_fn=ignore, restore_signals=False)
    assert report(done)[1]["kept"] == f"{kept}\0A=1\0"


def test_mesos_starts_the_hook_with_nothing_of_the_task(lay, witness, report):
    kept = os.open("/dev/null", os.O_RDONLY)
    options = {"env": {"LD_PRELOAD": "/x", "PYTHONPATH": "/y"}, "pass_fds": [kept]}
    answerer, said = report(start(lay("mesos", *witness), ["attach-gpus", "/bundle"], **options))
    os.close(kept)
    said["env"].pop("LC_CTYPE", None)
    assert (answerer, said["argv"][1:], said["env"]) == ("python", ["attach-gpus", "/bundle"], {"LC_ALL": "C"})
    assert (said["cwd"], kept in said["fds"]) == ("/", False)


@pytest.mark.parametrize("arguments", [["launch"], ["launch", f"--launch_info={ROOTFS}"]])
def test_mesos_starts_from_a_sealed_memory_file(lay, witness, tmp_path, arguments):
    sealed = os.memfd_create("mesos-containerizer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(lay("mesos", *witness), "rb") as file:
        os.write(sealed, file.read())
    fcntl.fcntl(
        sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
    )
    with open(tmp_path / "out", "w+b") as out:
        actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1)]
        pid = os.posix_spawn(f"/proc/self/fd/{sealed}", ["helper", *arguments], {"A": "1"}, file_actions=actions)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(sealed)
        out.seek(0)
        said = json.load(out)
    assert status == (43 if len(arguments) == 1 else 42)
    assert sealed not in said["fds"]
    assert said["argv"][-len(arguments) :] == arguments

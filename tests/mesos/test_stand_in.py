"""What stands in for Mesos is held to what a real agent was recorded to do (tests/data/mesos/launches.json)."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

RECORDS = json.loads((Path(__file__).parents[1] / "data/mesos/launches.json").read_text())["records"]
FIRST, CNI, SECOND, _, EXECUTOR, NESTED, DEBUG, USER, ISOLATED, SEEN, SEEN_NESTED, SEEN_ISOLATED = RECORDS
BY_CNI = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts")  # network/cni binds them; not of the stand-in
EXECUTES = {
    "kind": "custom",
    "image": "",
    "pid_namespace": True,
    "command": {"shell": True, "value": "sleep 60"},
    "pre_exec": [],
}
RECORDER = """#!/usr/bin/python3 -ISB
import json, os, sys
def links(directory):
    found = {}
    for name in os.listdir(directory):
        try: found[name] = os.readlink(directory + "/" + name)
        except OSError: pass
    return found
def read(path):
    return open(path, "rb").read().decode("latin-1")
info = os.environ.get("MESOS_CONTAINERIZER_LAUNCH_INFO")
for argument in sys.argv:
    if argument.startswith("--launch_info="): info = argument.partition("=")[2]
devices = next((l.split(":", 2)[2] for l in read("/proc/self/cgroup").splitlines() if ":devices:" in l), "")
record = {"argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd(), "uid": os.getuid(), "pid": os.getpid(),
    "ppid": os.getppid(), "proc_self": os.readlink("/proc/self"), "cgroup": read("/proc/self/cgroup").splitlines(),
    "fds": links("/proc/self/fd"), "ns": links("/proc/self/ns"), "launch_info": json.loads(info) if info else None,
    "mounts": read("/proc/self/mountinfo").splitlines(),
    "devices_list": read("/sys/fs/cgroup/devices" + devices + "/devices.list").splitlines()}
with open(LOG, "a") as log: log.write(json.dumps(record) + "\\n")
"""


@pytest.fixture
def recorded(mesos, real_launcher):
    """Run a container through a recorder instead of the product: recorded(**options) -> what was recorded, in order."""
    directory = mesos.directory / "recorder"
    directory.mkdir()
    log = mesos.directory / "log"
    source = RECORDER.replace("LOG", repr(str(log)))
    become = f"os.execv({str(real_launcher / 'mesos-containerizer')!r}, sys.argv)\n"
    for name, text in (("mesos-containerizer", source + become), ("seen", source)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    (directory / "mesos-executor").symlink_to(real_launcher / "mesos-executor")
    before = [{"shell": False, "value": str(directory / "seen"), "arguments": ["seen"]}]

    def recorded(**options) -> list[dict]:
        true = {"shell": True, "value": "true"}
        mesos.start(launcher=directory, **{"command": true, "pre_exec": before, **options}).end()
        return [json.loads(line) for line in log.read_text().splitlines()]

    return recorded


def normal(value: Any, record: dict, rootfs: str = "") -> Any:
    """Return a value with the names that differ from agent to agent replaced."""
    text = json.dumps(value)
    freezer = next(line.split(":", 2)[2] for line in record["cgroup"] if ":freezer:" in line)
    ids = re.findall(r"/mesos/([^/]+)", freezer)
    if rootfs:
        text = text.replace(rootfs, "ROOTFS")
    text = re.sub(r'[^" =]*/slaves/[^" ]*?/runs/', "RUNS/", text)
    text = re.sub(r'[^" =]*?/(run|var/run/mesos)/containers/', "RUNTIME/", text)
    for number, name in enumerate(ids):
        text = text.replace(name, f"ID{number}")
    return json.loads(text)


def rootfs_of(record: dict) -> str:
    info = record["launch_info"]
    if info.get("rootfs"):
        return info["rootfs"]
    return next((a.partition("=")[2] for a in info["command"].get("arguments", ()) if a.startswith("--rootfs=")), "")


def info_of(record: dict) -> dict:
    """Return what is compared of the launch information."""
    info = normal(record["launch_info"], record, rootfs_of(record))
    info.pop("pre_exec_commands", None)
    there = [mount for mount in info.get("mounts", []) if os.path.exists(mount["target"].replace("ROOTFS", ""))
             or not mount["target"].startswith("ROOTFS/proc/")]  # fmt: skip
    names = {v["name"] for v in info.pop("environment", {}).get("variables", [])}
    of_task = {v["name"] for v in info.pop("task_environment", {}).get("variables", [])}
    cuda = {"PATH", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "LD_LIBRARY_PATH", "MESOS_SANDBOX"}
    command = info.pop("command")
    return {
        **info,
        "mounts": there,
        "names": names & cuda,
        "names of the task": of_task & cuda,
        "shell": command["shell"],
    }


def call_of(record: dict) -> dict:
    """Return what is compared of the call itself."""
    flags = {name for name in record["env"] if name.startswith("MESOS_CONTAINERIZER_")}
    argv = [os.path.basename(record["argv"][0]), *(re.sub(r"(--launch_info=).*", r"\1", a) for a in record["argv"][1:])]
    pipes = sorted(target.partition(":")[0] for fd, target in record["fds"].items() if int(fd) > 2)
    return {"flags": flags, "argv": argv, "pipes": [p for p in pipes if p == "pipe"], "uid": record["uid"],
            "stdin": record["fds"]["0"], "names": normal(record["fds"]["1"], record).rpartition("/")[0],
            "runtime": normal(record["env"].get("MESOS_CONTAINERIZER_RUNTIME_DIRECTORY", ""), record),
            "first": record["pid"] == 1}  # fmt: skip


def cgroups_of(record: dict) -> dict[str, str]:
    lines = [line.split(":", 2) for line in normal(record["cgroup"], record)]
    return {controllers: path for _, controllers, path in lines if controllers in ("freezer", "devices")}


def assert_alike(ours: dict, theirs: dict) -> None:
    assert info_of(ours) == info_of(theirs)
    assert call_of(ours) == call_of(theirs)
    assert cgroups_of(ours)["freezer"] == cgroups_of(theirs)["freezer"]


def test_command_task(recorded):
    first, second, _ = recorded()
    assert_alike(first, FIRST)
    names = [{a.partition("=")[0] for a in r["launch_info"]["command"]["arguments"]} for r in (first, FIRST)]
    assert names[1] <= names[0]  # the task's command comes to a real executor by other ways than its arguments
    assert_alike(second, SECOND)
    assert list(second["argv"][1:3]) == SECOND["argv"][1:3]


def test_command_task_of_another_user(recorded, mesos):
    image = mesos.image("debian", {"PATH": "/bin", "NVIDIA_VISIBLE_DEVICES": "0"})
    assert_alike(recorded(user="nobody", image=image)[1], USER)


def test_executor_and_nested_container(recorded, mesos):
    task = {"image": mesos.image(), "pid_namespace": True, "command": {"shell": True, "value": "sleep 5"}}
    debug = {"kind": "debug", "command": {"shell": True, "value": "true"}}
    of_executor, of_task, of_debug = recorded(**EXECUTES, nested=[{**task, "nested": [debug]}])
    assert_alike({**of_executor, "launch_info": {**of_executor["launch_info"], "command": {"shell": False}}}, EXECUTOR)
    assert_alike(of_task, NESTED)
    assert cgroups_of(of_task) == cgroups_of(NESTED)
    assert info_of(of_debug) == info_of(DEBUG)
    assert cgroups_of(of_debug) == cgroups_of(DEBUG)
    assert call_of(of_debug)["flags"] == call_of(DEBUG)["flags"]


def test_beside_the_isolator(recorded, mesos):
    volume = mesos.directory / "volume"
    volume.mkdir()
    _, second, seen = recorded(granted=[0], gpus=1, volume=str(volume))
    assert_alike(second, ISOLATED)
    assert seen["devices_list"] == SEEN_ISOLATED["devices_list_before"]


def mounts_of(lines: list[str], rootfs: str) -> list[tuple[str, str, bool]]:
    """Return the mounts in the root directory: where, which file system, whether read-only."""
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        _, _, _, _, point, options = before.split(" ")[:6]
        if point == rootfs or point.startswith(rootfs + "/"):
            where = point.removeprefix(rootfs)
            bound = "file" if where.startswith("/dev/") and where.count("/") == 2 else after.split(" ")[0]
            if not where.endswith(BY_CNI) and not where.startswith("/proc/"):
                found.append((where, "bind" if where.startswith("/mnt") else bound, "ro" in options.split(",")))
    return sorted(set(found))


@pytest.mark.parametrize("nested", [False, True])
def test_what_a_command_before_the_tasks_sees(recorded, mesos, nested):
    if nested:
        task = {"image": mesos.image(), "pid_namespace": True}
        task["pre_exec"] = [{"shell": False, "value": str(mesos.directory / "recorder/seen"), "arguments": ["seen"]}]
        _, launch, ours = recorded(**EXECUTES, nested=[task])
        theirs = SEEN_NESTED
    else:
        _, launch, ours = recorded()
        theirs = SEEN
    their_root = theirs["argv"][1]
    assert mounts_of(ours["mounts"], launch["launch_info"]["rootfs"]) == mounts_of(
        theirs["mounts_in_rootfs"], their_root
    )
    assert ours["devices_list"] == theirs["devices_list_before"]
    assert cgroups_of(ours) == cgroups_of(theirs)
    assert (ours["ppid"], ours["pid"]) == ((theirs["ppid"], theirs["pid"]) if nested else (launch["pid"], ours["pid"]))
    assert str(ours["pid"]) == ours["proc_self"]
    assert (ours["uid"], ours["fds"]["0"]) == (theirs["uid"], theirs["fd0"])
    in_sandbox = "/runs/" in theirs["cwd"]
    assert ("/runs/" in ours["cwd"]) == in_sandbox

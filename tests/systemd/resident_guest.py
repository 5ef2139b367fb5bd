"""What is done with the resident on the machine that systemd boots; run there by a service.

    resident_guest.py SETTINGS.json

SETTINGS: work, package, config (as guest.py has them). It installs the resident as a person does, and writes
WORK/report.json: one entry a step, with what systemd says of the units and how often the front has started Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SOCKET, SERVICE = "oci-gpu-hook.socket", "oci-gpu-hook.service"
DROP_IN = Path(f"/etc/systemd/system/{SERVICE}.d/idle.conf")
# A call that is refused by whoever answers it, as nothing is at this path.
STATE = b'{"ociVersion": "1.0.2", "id": "a", "status": "creating", "pid": 1, "bundle": "/nonexistent"}'
PATIENCE = 30  # seconds
CHECK = """
import json
from oci_gpu_hook.admin.doctor import model, resident
from oci_gpu_hook.base.config import load
host = model.Host(config=load.load(load.DEFAULT_PATH), config_path=load.DEFAULT_PATH)
print(json.dumps([dict(finding.__dict__) for finding in resident.check(host)]))
"""


class Guest:
    """The machine, from the inside."""

    def __init__(self, settings: dict) -> None:
        self.settings = settings
        self.work = Path(settings["work"])
        self.report: list[dict] = []
        self.hook = Path()
        self.marks = self.work / "marks"

    @property
    def pythons(self) -> int:
        return len(self.marks.read_bytes()) if self.marks.exists() else 0

    def oci_gpu(self, *arguments: str) -> str:
        command = ["/usr/bin/python3", "-m", "oci_gpu_hook.admin.cli.main"]
        environment = {"PYTHONPATH": self.settings["package"], "PATH": os.environ["PATH"]}
        return said(*command, *arguments, env=environment)

    def doctor(self) -> list[dict[str, str]]:
        """Return what doctor's check of the resident finds; all of doctor needs packages that are not here."""
        found = said("/usr/bin/python3", "-c", CHECK, env={"PYTHONPATH": self.settings["package"]})
        findings: list[dict[str, str]] = json.loads(found)
        return findings

    def lay(self) -> None:
        """Install the resident, and have the front count how often it starts Python."""
        config = Path("/etc/oci-gpu-hook/config.toml")
        config.parent.mkdir(exist_ok=True)
        shutil.copy(self.settings["config"], config)
        self.hook = Path(self.oci_gpu("hook-path").strip())
        self.oci_gpu("install", "resident")
        sys.path.insert(0, self.settings["package"])
        from oci_gpu_hook.admin.install import front_file

        front = front_file.read_front(str(self.hook))
        if front is None:
            raise RuntimeError("the front was not built")
        counting = self.work / "python"
        counting.write_text(f'#!/bin/sh\nprintf 1 >> {self.marks}\nexec {front.interpreter} "$@"\n')
        counting.chmod(0o755)
        front_file.write_front(str(self.hook), "hook", str(counting), front.stub, resident=front.resident)

    def call(self) -> None:
        """Have the front refuse a container that has no bundle."""
        done = subprocess.run([self.hook, "prestart"], input=STATE, capture_output=True, check=False, timeout=30)
        why = b"oci-gpu-hook: error: cannot read '/nonexistent/config.json'"
        if done.returncode != 1 or not done.stderr.startswith(why) or done.stderr.count(b"\n") != 1:
            raise RuntimeError(f"{done}")

    def is_served(self) -> bool:
        before = self.pythons
        self.call()
        return self.pythons == before

    def note(self, step: str, **more: object) -> None:
        units = {unit: shown(unit) for unit in (SOCKET, SERVICE)}
        self.report.append({"step": step, "pythons": self.pythons, "units": units, **more})

    def replace(self) -> None:
        """Replace a file of the installation as `oci-gpu hook-path` does: the name leads to another one."""
        path = self.hook.with_name(f"{self.hook.name}.modules")
        copy = path.with_name("new")
        shutil.copy2(path, copy)
        copy.rename(path)


def said(*command: str, **options: object) -> str:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, cwd="/", stdin=subprocess.DEVNULL, **options
    )  # type: ignore[call-overload]
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def shown(unit: str) -> dict[str, str]:
    """Return what systemd says of a unit."""
    text = said("systemctl", "show", "-p", "ActiveState,Result,MainPID,SubState", unit)
    return dict(line.partition("=")[::2] for line in text.splitlines())


def await_so(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError("it does not come to that")
        time.sleep(0.05)


def activate(guest: Guest) -> None:
    """The first connection starts the service, and its front does not wait for that."""
    said("systemctl", "daemon-reload")
    said("systemctl", "start", SOCKET)
    guest.note("listening")
    guest.call()
    guest.note("first call")
    await_so(guest.is_served)
    guest.note("served", doctor=guest.doctor())


def upgrade(guest: Guest) -> None:
    """A whole upgrade, and one that is at its middle for twelve seconds, in which containers start all the time."""
    guest.replace()
    guest.call()
    guest.note("refused after an upgrade")
    await_so(guest.is_served)
    guest.note("served by the new one")
    stub = guest.hook.with_name(f"{guest.hook.name}.modules")
    away = stub.with_name("away")
    stub.rename(away)
    pids = set()
    until = time.monotonic() + 12
    while time.monotonic() < until:
        guest.call()
        pids.add(shown(SERVICE)["MainPID"])
        time.sleep(0.1)
    guest.note("amid an upgrade", pids=sorted(pids - {"0"}))
    away.rename(stub)
    await_so(guest.is_served)
    guest.note("served after it")


def idle(guest: Guest) -> None:
    """It ends when nobody has come for a while, and the next connection starts it."""
    start = said("systemctl", "show", "-p", "ExecStart", "--value", SERVICE).partition("argv[]=")[2].partition(" ;")[0]
    DROP_IN.parent.mkdir(parents=True)
    DROP_IN.write_text(f"[Service]\nExecStart=\nExecStart={start} --idle 1\n")
    said("systemctl", "daemon-reload")
    said("systemctl", "stop", SERVICE)
    guest.note("stopped")
    await_so(guest.is_served)
    guest.note("served after a stop")
    await_so(lambda: shown(SERVICE)["ActiveState"] == "inactive")
    guest.note("idle")
    await_so(guest.is_served)
    guest.note("served after idleness")


def give_up(guest: Guest) -> None:
    """The service fails whenever it is started, until systemd starts it no more, and closes the socket."""
    DROP_IN.write_text("[Service]\nExecStart=\nExecStart=/bin/false\n")
    said("systemctl", "daemon-reload")
    said("systemctl", "stop", SERVICE)
    calls = 0
    before = guest.pythons
    while shown(SOCKET)["ActiveState"] != "failed":
        guest.call()
        calls += 1
    began = time.monotonic()
    for _ in range(5):
        guest.call()
    seconds = time.monotonic() - began
    guest.note("given up", calls=calls + 5, of_python=guest.pythons - before, seconds=seconds, doctor=guest.doctor())
    DROP_IN.unlink()
    said("systemctl", "daemon-reload")


def reset(guest: Guest) -> None:
    """systemd has given up: doctor says how to go on."""
    said("systemctl", "stop", SOCKET, SERVICE)
    guest.call()
    guest.note("socket stopped", doctor=guest.doctor())
    said("systemctl", "reset-failed", SOCKET, SERVICE)  # as doctor says: systemd 257 counts a service's starts on
    said("systemctl", "start", SOCKET)
    await_so(guest.is_served)
    guest.note("served after a reset")
    guest.oci_gpu("uninstall", "resident")
    said("systemctl", "stop", SOCKET, SERVICE)
    said("systemctl", "daemon-reload")
    guest.call()
    guest.note("uninstalled")


def main() -> None:
    guest = Guest(json.loads(Path(sys.argv[1]).read_text()))
    failure = ""
    try:
        for act in (Guest.lay, activate, upgrade, idle, give_up, reset):
            act(guest)
    except Exception as error:  # noqa: BLE001  it is raised again outside
        failure = f"{type(error).__name__}: {error}"
        failure += said("journalctl", "-b", "-n", "30", "-u", SERVICE)
    (guest.work / "report.json").write_text(json.dumps({"steps": guest.report, "failure": failure}, indent=1))


main()

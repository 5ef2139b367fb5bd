"""What is done on the machine that systemd boots; run there by a service, with this machine's Python and nothing else.

    guest.py SETTINGS.json

SETTINGS: work (directory, the same inside and outside), package (directory of the hook's modules), libexec (where its
executables belong), config (of the hook), bundles (name → directory), podman (its commands by what they do). It writes
WORK/report.json: one entry a step, in order, with what the container's watcher got after it, and what else is worth
asserting. What was got meanwhile is in the watchers' logs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CONTROL = Path("/run/systemd/system.control")
TRANSIENT = Path("/run/systemd/transient")
DROP_IN = "50-oci-gpu-hook.conf"
PATIENCE = 20  # seconds


class Guest:
    """The machine, from the inside."""

    def __init__(self, settings: dict) -> None:
        self.settings = settings
        self.work = Path(settings["work"])
        self.report: list[dict] = []

    def note(self, container: str, step: str, **more: object) -> None:
        """Write down what the container's watcher gets from now on."""
        since = time.monotonic()
        granted, neighbour = self.await_attempts(container, since)
        entry = {"container": container, "step": step, "since": since, "granted": granted, "neighbour": neighbour}
        self.report.append({**entry, "drop-ins": drop_ins(), **more})

    def await_attempts(self, container: str, since: float) -> tuple[str, str]:
        log = self.work / "logs" / container / "log"
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            lines = [line.split() for line in log.read_text().splitlines()[-3:]] if log.exists() else []
            if len(lines) == 3 and all(len(line) == 3 and float(line[0]) > since for line in lines):
                return lines[-1][1], lines[-1][2]
            time.sleep(0.02)
        raise RuntimeError(f"the watcher of {container} is silent")

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": self.settings["package"], "PATH": os.environ["PATH"]}

    def command(self, *arguments: str) -> list[str]:
        return [
            "/usr/bin/python3",
            "-m",
            "oci_gpu_hook.admin.cli.main",
            "--config",
            self.settings["config"],
            *arguments,
        ]

    def oci_gpu(self, *arguments: str) -> dict:
        done = subprocess.run(
            self.command(*arguments),
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            env=self.environment,
            timeout=60,
        )
        return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}

    def start(self, name: str) -> int:
        """Start a container of a prepared bundle with systemd's cgroup driver; return its pid."""
        bundle = self.settings["bundles"][name]
        run("runc", "--systemd-cgroup", "run", "--no-new-keyring", "--detach", "--bundle", bundle, name)
        return json.loads(run("runc", "state", name))["pid"]


def run(*command: str) -> str:
    """Run a command to its end; files, not pipes: what a container inherits stays open."""
    out = Path(f"/tmp/output-{os.getpid()}")
    with out.open("w") as file:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, timeout=60
        )
    said = out.read_text()
    if done.returncode:
        raise RuntimeError(f"{command}: {said}")
    return said


def reload() -> None:
    run("systemctl", "daemon-reload")


def drop_ins() -> list[str]:
    """Return the units that have a drop-in of the hook's."""
    return sorted(path.parent.name.removesuffix(".d") for path in CONTROL.glob(f"*/{DROP_IN}"))


def forget(unit: str) -> None:
    """Have it from here on as with a hook that tells systemd nothing."""
    told = (CONTROL / f"{unit}.d" / DROP_IN).read_text().splitlines()[1:]
    shutil.rmtree(CONTROL / f"{unit}.d")
    kept = TRANSIENT / f"{unit}.d/50-DeviceAllow.conf"  # where systemd writes down what it was told
    kept.write_text("".join(line for line in kept.read_text().splitlines(keepends=True) if line.strip() not in told))


def lose_and_be_watched(guest: Guest) -> None:
    """The same trouble with `oci-gpu watch`, which next looks by itself long after all of this."""
    unit = "gpu-watched.scope"
    guest.start("watched")
    guest.note("watched", "started")
    lines = guest.work / "watch.log"
    with lines.open("w") as file:
        command = guest.command("watch", "--interval", "1h")
        watch = subprocess.Popen(command, stdout=file, stderr=file, env=guest.environment, cwd="/")
    try:
        await_so(lambda: "watching" in lines.read_text())
        time.sleep(2)  # its first look
        for step in ("reloaded", "reexecuted", "taken"):
            forget(unit)
            if step == "taken":
                watch.send_signal(signal.SIGSTOP)  # else it is there before anything is taken
            run("systemctl", "daemon-reexec" if step == "reexecuted" else "daemon-reload")
            run("systemctl", "set-property", "--runtime", unit, "CPUWeight=77")
            if step == "taken":
                guest.note("watched", step)
                watch.send_signal(signal.SIGCONT)
            await_so(lambda: unit in drop_ins())
            time.sleep(1)
            verified = guest.oci_gpu("verify", "watched", "--json")
            guest.note("watched", "given back" if step == "taken" else step, verify=verified)
    finally:
        watch.terminate()
    guest.report.append(
        {"container": "watched", "step": "ended", "status": watch.wait(PATIENCE), "lines": lines.read_text()}
    )
    run("runc", "delete", "--force", "watched")


def attach(guest: Guest) -> None:
    """A container that has asked for nothing is given a GPU while it runs, and lives through all that others do."""
    unit = scope_of(guest.start("attached"))
    guest.note("attached", "started", unit=unit)
    guest.note("attached", "attached", attach=guest.oci_gpu("attach", "attached", "--devices", "0"))
    run("systemctl", "set-property", "--runtime", unit, "CPUWeight=77")
    guest.note("attached", "property set")
    reload()
    guest.note("attached", "reloaded")
    update("--cpu-share=512", "attached")
    guest.note("attached", "updated by runc")
    run("systemctl", "daemon-reexec")
    guest.note("attached", "reexecuted", verify=guest.oci_gpu("verify", "attached", "--json"))
    detach = guest.oci_gpu("detach", "attached", "--all")
    reload()
    guest.note("attached", "detached and reloaded", detach=detach)
    run("runc", "delete", "--force", "attached")


def await_so(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError("it does not come to that")
        time.sleep(0.02)


def lose_and_repair(guest: Guest) -> None:
    """The trouble: what systemd does not know of, it takes away. Then the cure for who has that already."""
    guest.start("lost")
    guest.note("lost", "started")
    forget("gpu-lost.scope")
    guest.note("lost", "drop-in removed", verify=guest.oci_gpu("verify", "lost", "--json"))
    reload()
    run("systemctl", "set-property", "--runtime", "gpu-lost.scope", "CPUWeight=77")  # 257 writes no rules before
    guest.note("lost", "reloaded", verify=guest.oci_gpu("verify", "lost", "--json"))
    guest.note("lost", "repaired", repair=guest.oci_gpu("repair", "lost"))
    reload()
    guest.note("lost", "reloaded after repair", verify=guest.oci_gpu("verify", "lost", "--json"))
    run("runc", "delete", "--force", "lost")
    guest.report.append({"container": "lost", "step": "deleted", "drop-ins": drop_ins()})


def keep(guest: Guest) -> None:
    """With the drop-in nothing that systemd or the runtime does takes the access away."""
    pid = guest.start("kept")
    scope = scope_of(pid)
    guest.note("kept", "started", unit=scope)
    for number in (1, 2, 3):
        reload()
        guest.note("kept", f"reloaded {number}")
    run("systemctl", "daemon-reexec")
    guest.note("kept", "reexecuted")
    run("systemctl", "set-property", "--runtime", scope, "CPUWeight=77")
    guest.note("kept", "property set")
    run("systemctl", "set-property", "--runtime", scope, "DeviceAllow=/dev/fuse rw")
    guest.note("kept", "device allowed to the unit")
    reload()
    guest.note("kept", "reloaded after that")
    run("runc", "update", "--resources", resources(guest.work / "resources.json"), "kept")
    guest.note("kept", "updated by runc")
    reload()
    guest.note("kept", "reloaded after the update", verify=guest.oci_gpu("verify", "kept", "--json"))
    os.kill(pid, signal.SIGKILL)  # and nobody runs poststop
    await_end(scope)
    guest.report.append({"container": "kept", "step": "killed", "drop-ins": drop_ins()})


def lay(guest: Guest) -> None:
    """Lay the executables, for the Python of this machine."""
    laid = guest.oci_gpu("hook-path", "--directory", guest.settings["libexec"])
    if laid["status"]:
        raise RuntimeError(laid["stderr"])


def before_a_reload(guest: Guest) -> None:
    """Between a container's start and systemd's first reload, which is when systemd reads drop-ins, it changes units.

    Each change of a property has it write the device rules again, from what it knows then.
    """
    scope = scope_of(guest.start("told"))
    guest.note("told", "started", unit=scope)
    run("systemctl", "set-property", "--runtime", scope, "CPUWeight=77")
    guest.note("told", "property set")
    update("--cpu-share=512", "told")
    guest.note("told", "updated by runc")
    run("systemctl", "set-property", "--runtime", scope, "DeviceAllow=/dev/fuse rw")
    guest.note("told", "device allowed to the unit", verify=guest.oci_gpu("verify", "told", "--json"))
    reload()
    guest.note("told", "reloaded")
    run("runc", "delete", "--force", "told")
    left = sorted(map(str, Path("/run/systemd").glob("*/gpu-told*")))
    guest.report.append({"container": "told", "step": "deleted", "drop-ins": drop_ins(), "left": left})


def untold(guest: Guest) -> None:
    """A systemd that does not answer: the container starts, and has the drop-in."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind("/run/silent")
        silent.listen()
        run("mount", "--bind", "/run/silent", "/run/systemd/private")
        began = time.monotonic()
        try:
            guest.start("untold")
        finally:
            run("umount", "/run/systemd/private")
    guest.note("untold", "started", seconds=time.monotonic() - began)
    reload()
    guest.note("untold", "reloaded")
    run("runc", "delete", "--force", "untold")


def update(*arguments: str) -> None:
    """Have runc update a container: it tells systemd first, and then may fail where a limit cannot be set."""
    try:
        run("runc", "update", *arguments)
    except RuntimeError as error:
        if has_controllers() or "no such file or directory" not in str(error):
            raise


def resources(path: Path) -> str:
    """Write what `runc update` shall set: a limit, on a machine with controllers of cgroup v2; else no more than is."""
    path.write_text(json.dumps({"pids": {"limit": 100}} if has_controllers() else {}))
    return str(path)


def has_controllers() -> bool:
    """Tell whether limits can be set; on a machine of cgroup v1 those of v2 have no controllers but for devices."""
    return "pids" in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()


def scope_of(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line for line in lines if line.endswith(".scope")).rpartition("/")[2]


def await_end(scope: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(["systemctl", "is-active", "--quiet", scope], check=False).returncode == 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{scope} does not end")
        time.sleep(0.05)


def share(guest: Guest) -> None:
    """A container with a part of a GPU: its MPS daemon is a service of systemd's, which ends with the container."""
    pid = guest.start("share")
    (unit,) = services()
    group = Path("/sys/fs/cgroup/system.slice", unit, "cgroup.procs")
    programs = [Path(f"/proc/{each}/exe").resolve().name for each in group.read_text().split()]
    guest.note("share", "started", unit=unit, programs=programs)
    reload()
    guest.note("share", "reloaded", units=services(), verify=guest.oci_gpu("verify", "share", "--json"))
    os.kill(pid, signal.SIGKILL)
    run("runc", "delete", "--force", "share")  # which runs poststop
    left = sorted(path.name for path in Path(guest.settings["config"]).parent.glob("state/mps/*"))
    guest.report.append({"container": "share", "step": "deleted", "units": services(), "left": left})


def services() -> list[str]:
    """Return the services of MPS daemons, whatever has become of them."""
    listed = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "oci-gpu-mps-*")
    return sorted(line.split()[0] for line in listed.splitlines() if line.strip())


def free(guest: Guest) -> None:
    """A container that may use every device has no policy, so nothing is left for it; and it cleans up after kept."""
    guest.start("free")
    guest.note("free", "started")
    reload()
    guest.note("free", "reloaded")
    for name in ("free", "kept"):
        run("runc", "delete", "--force", name)
    guest.report.append({"container": "free", "step": "deleted", "drop-ins": drop_ins()})


def podman(guest: Guest) -> None:
    """The same through Podman with its systemd cgroup manager."""
    command = guest.settings["podman"]
    run(*command["create"])
    guest.note("podman", "started")
    run("systemctl", "set-property", "--runtime", scope_of(int(run(*command["pid"]))), "CPUWeight=77")
    guest.note("podman", "property set before a reload")
    for number in (1, 2, 3):
        reload()
        guest.note("podman", f"reloaded {number}")
    run("systemctl", "daemon-reexec")
    guest.note("podman", "reexecuted")
    try:
        run(*command["update"])  # runc tells systemd first, and then fails where the limit cannot be set
    except RuntimeError as error:
        no_image = "healthcheck-timeout must be at least" in str(error)  # Podman 5.8, of a container without an image
        if not no_image and (has_controllers() or "cpu.weight: no such file" not in str(error)):
            raise
    guest.note("podman", "updated")
    reload()
    guest.note("podman", "reloaded after the update")
    run(*command["remove"])
    guest.report.append({"container": "podman", "step": "removed", "drop-ins": drop_ins()})


def main() -> None:
    guest = Guest(json.loads(Path(sys.argv[1]).read_text()))
    failure = ""
    try:
        acts = (lay, before_a_reload, untold, lose_and_repair, lose_and_be_watched, attach, keep, share, free, podman)
        for act in acts:
            act(guest)
    except Exception as error:  # noqa: BLE001  it is raised again outside
        failure = f"{type(error).__name__}: {error}"
    systemd = run("systemctl", "--version").splitlines()[0]
    document = {"steps": guest.report, "failure": failure, "systemd": systemd}
    (guest.work / "report.json").write_text(json.dumps(document, indent=1))


main()

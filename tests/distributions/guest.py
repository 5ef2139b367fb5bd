"""What is done on the machine that systemd boots; run there by a service, with this machine's Python and nothing else.

    guest.py SETTINGS.json

SETTINGS: work (directory, the same inside and outside), package (of the hook's modules), libexec (where its executables
belong), config (of the hook), image (directory). It starts a container for each cell (cells.py), does to all of them
what there is to do, and writes WORK/report.json: for each cell what its watcher got after each step, or why it was not
started; what was left at the end; and the versions of the engines.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.distributions.cells import ATTACHED, CELLS, GRANTED, REPAIRED, STARTED, STEPS, Cell
from tests.distributions.engines import IMAGE, USER, Containerd, Docker, Engine, Kubernetes, Podman, run

PATIENCE = 30  # seconds
USERS_CDI = "/usr/local/share/cdi"  # a user's dockerd does not look into what rootlesskit links in /etc and /run


class Guest:
    """The machine, from the inside."""

    def __init__(self, settings: dict) -> None:
        self.settings = settings
        self.work = Path(settings["work"])
        self.libexec = settings["libexec"]
        self.config = settings["config"]
        self.results: dict[str, dict] = {cell.name: {"failure": "", "steps": {}, "errors": {}} for cell in CELLS}
        environment = (
            "HOME=/home/gpu",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            f"XDG_RUNTIME_DIR=/run/user/{USER}",
            f"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{USER}/bus",
        )
        become = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "env", "-i", "-C", "/home/gpu")
        self.as_user = (*become, *environment)
        self.report: dict = {"cells": self.results, "failure": ""}

    def oci_gpu(self, *arguments: str) -> str:
        """Run the command for people."""
        environment = {"PYTHONPATH": self.settings["package"], "PATH": os.environ["PATH"]}
        command = ("/usr/bin/python3", "-m", "oci_gpu_hook.admin.cli.main", *arguments)
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd="/", env=environment, timeout=120
        )
        if done.returncode:
            raise RuntimeError(f"oci-gpu {' '.join(arguments)}: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done.stdout

    def set_up(self) -> None:
        """Teach the engines as administrators do, and give each the image."""
        self.report["systemd"] = run("systemctl", "--version").split()[1]
        Path("/etc/oci-gpu-hook").mkdir(exist_ok=True)
        shutil.copy(self.config, "/etc/oci-gpu-hook/config.toml")
        self._settings_of_engines()
        run("umount", "--recursive", "/sys/kernel")  # systemd-nspawn's; Podman takes such a mount for one that it made
        run("useradd", "--create-home", f"--uid={USER}", "gpu")
        user = self.work / "user"
        user.mkdir()
        os.chown(user, USER, USER)
        run(*self.as_user, "mkdir", "-p", ".config/containers/systemd")
        run(
            *self.as_user,
            "sh",
            "-c",
            f'printf \'[storage]\\ndriver="overlay"\\ngraphroot="{user}"\\n\' > .config/containers/storage.conf',
        )
        run("systemctl", "start", f"user@{USER}.service")
        for engine in ("docker", "podman", "containerd"):
            self.oci_gpu("install", engine, "--directory", self.libexec, *self._real_runtime())
        for node in Path(self.settings["dev"]).iterdir():  # users' engines bind those of the host's /dev
            if not Path("/dev", node.name).exists():
                run("cp", "--archive", node, "/dev/")
        hook = ("--hook-path", f"{self.libexec}/oci-gpu-hook")
        for directory in ("/run/cdi", USERS_CDI):
            Path(directory).mkdir(exist_ok=True)
            self.oci_gpu("cdi", "generate", "--format", "json", "--output", f"{directory}/nvidia.json", *hook)
        docker = json.loads(Path("/etc/docker/daemon.json").read_text())
        docker["data-root"] += "-userns"
        Path("/etc/docker/userns.json").write_text(json.dumps(docker))
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "containerd")
        run("systemctl", "reset-failed", "docker")
        run("systemctl", "restart", "docker", "docker-userns")
        self.engines = {
            "docker": Docker(self, "/run/docker.sock"),
            "docker userns": Docker(self, "/run/docker-userns.sock"),
            "docker rootless": self._users_docker(),
            "containerd": Containerd(self),
            "containerd, CRI": Kubernetes(self),
        }
        for runtime in ("crun", "runc"):
            self.engines[f"podman, {runtime}"] = Podman(self, runtime)
            self.engines[f"podman, {runtime} rootless"] = Podman(self, runtime, rootless=True)
        self._images()
        self.report["versions"] = {
            "docker": run("dockerd", "--version").split()[2].split("+")[0],
            "podman": run("podman", "--version").split()[2],
            "containerd": run("containerd", "--version").split()[2].split("~")[0].split("+")[0],
            "runc": run("runc", "--version").split()[2].split("+")[0],
            "crun": run("crun", "--version").split()[2],
        }

    def _real_runtime(self) -> tuple[str, ...]:
        """Name a runc that lets go of weights where the machine's cgroup v2 has no controllers.

        containerd gives one to every sandbox, and runc then refuses it. Nothing else has one.
        """
        if "cpu" in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split():
            return ()
        script = self.work / "runc-without-weights"
        script.write_text(
            """#!/bin/sh
if [ -e config.json ]; then sed -i 's/"cpu":{"shares":2}/"cpu":{}/' config.json; fi
exec /usr/sbin/runc "$@"
"""
        )
        script.chmod(0o755)
        return ("--real-runtime", str(script))

    @property
    def docker_reads_cdi(self) -> bool:
        """Tell whether this Docker knows CDI; an older one refuses to start with the settings for it."""
        return int(run("dockerd", "--version").split()[2].split(".")[0]) >= 25

    def _users_docker(self) -> Docker:
        """Start a dockerd of the user as docs/engines.md has it, without a network, and teach it."""
        runtime = f"/run/user/{USER}"
        settings = {"data-root": f"{self.work}/user/docker", "bridge": "none", "iptables": False}
        settings["runtimes"] = {"oci-gpu": {"path": f"{self.libexec}/oci-gpu-runtime"}}
        if self.docker_reads_cdi:
            settings |= {"features": {"cdi": True}, "cdi-spec-dirs": [USERS_CDI]}
        home = Path("/home/gpu/.config")
        unit = (
            f"[Service]\nExecStart=/usr/bin/rootlesskit --net=host --copy-up=/etc --copy-up=/run --propagation=rslave"
            f" --state-dir={runtime}/dockerd-rootless /bin/sh -c 'rm -f /run/docker /run/containerd /run/xtables.lock;"
            f" exec dockerd --config-file={home}/docker/daemon.json --host=unix://{runtime}/docker.sock'\n"
            "Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin\nDelegate=yes\nKillMode=mixed\n"
        )
        for file, text in {"docker/daemon.json": json.dumps(settings), "systemd/user/docker.service": unit}.items():
            (home / file).parent.mkdir(parents=True, exist_ok=True)
            (home / file).write_text(text)
        run("chown", "-R", f"{USER}:{USER}", home)
        run(*self.as_user, "systemctl", "--user", "daemon-reload")
        run(*self.as_user, "systemctl", "--user", "start", "docker.service")
        docker = Docker(self, f"{runtime}/docker.sock", rootless=True)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                run(*docker.docker, "info")
                break
            except RuntimeError:
                if time.monotonic() > deadline:
                    said = run("journalctl", "--no-pager", f"_UID={USER}", "--lines=60")
                    raise RuntimeError(f"the user's dockerd does not answer: {said}") from None
                time.sleep(0.2)
        return docker

    def _settings_of_engines(self) -> None:
        docker = {"data-root": f"{self.work}/docker", "bridge": "none", "iptables": False, "live-restore": True}
        if self.docker_reads_cdi:
            docker["features"] = {"cdi": True}  # on by itself since 28.2
        Path("/etc/docker").mkdir(exist_ok=True)
        Path("/etc/docker/daemon.json").write_text(json.dumps(docker))
        Path("/etc/containerd").mkdir(exist_ok=True)
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        Path("/etc/containerd/config.toml").write_text(
            f'version = 2\nroot = "{self.work}/containerd"\n'
            f'[{cri}]\nsandbox_image = "{IMAGE}"\nrestrict_oom_score_adj = true\nenable_cdi = true\n'
            f'[{cri}.containerd]\nsnapshotter = "native"\n'
            f'[{cri}.containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
            f"[{cri}.containerd.runtimes.runc.options]\nSystemdCgroup = true\n"
        )
        # Podman 4 takes fuse-overlayfs for root where it is installed, and there is no /dev/fuse here.
        driver = "vfs" if run("podman", "--version").split()[2].startswith("4.") else "overlay"
        storage = f'[storage]\ndriver = "{driver}"\n'
        Path("/etc/containers/storage.conf").write_text(
            f'{storage}graphroot = "{self.work}/podman"\nrunroot = "/run/containers/storage"\n'
        )
        Path("/etc/containers/containers.conf").write_text("[containers]\npids_limit = 0\n")
        for file in ("/etc/subuid", "/etc/subgid"):
            with Path(file).open("a") as lines:
                lines.write("remapped:300000:65536\n")
        with Path("/etc/passwd").open("a") as lines:
            lines.write("remapped:x:2000:2000::/:/bin/false\n")
        with Path("/etc/group").open("a") as lines:
            lines.write("remapped:x:2000:\n")
        flags = "-H unix:///run/docker-userns.sock --userns-remap=remapped --exec-root=/run/docker-userns"
        flags += " --pidfile=/run/docker-userns.pid --config-file=/etc/docker/userns.json"
        flags += " --containerd=/run/containerd/containerd.sock --containerd-namespace=userns"
        flags += " --containerd-plugins-namespace=userns-plugins"
        Path("/run/systemd/system/docker-userns.service").write_text(
            "[Unit]\nAfter=containerd.service\n[Service]\nType=notify\nKillMode=process\nDelegate=yes\n"
            f"ExecStart=/usr/sbin/dockerd {flags}\n"
        )

    def _images(self) -> None:
        archive = self.work / "image.tar"
        run("tar", "-C", self.settings["image"], "-cf", archive, ".")
        for engine in self.engines.values():
            if isinstance(engine, Docker):
                run(*engine.docker, "import", archive, IMAGE)
        run("podman", "import", "--change", 'CMD ["/bin/sleep", "86400"]', archive, IMAGE)  # of a pod's sandbox
        run(*self.as_user, "podman", "import", archive, IMAGE)
        saved = self.work / "saved.tar"
        run("podman", "save", "--format=oci-archive", f"--output={saved}", IMAGE)
        local = ("--local",) if "--local" in run("ctr", "images", "import", "--help") else ()
        for namespace in ("default", "k8s.io"):
            command = ("ctr", "--namespace", namespace, "images", "import", *local)
            run(*command, "--no-unpack", "--index-name", IMAGE, saved)

    def engine(self, cell: Cell) -> Engine:
        return self.engines.get(f"{cell.engine} {cell.kind}") or self.engines[cell.engine]

    def living(self) -> list[Cell]:
        return [cell for cell in CELLS if not self.results[cell.name]["failure"]]

    def start_all(self) -> None:
        for cell in CELLS:
            log = self.work / "logs" / cell.name
            log.mkdir(parents=True)
            log.chmod(0o777)
            try:
                self.engine(cell).start(cell, str(log))
                if cell.way == ATTACHED:
                    self.oci_gpu("attach", cell.name, "--devices", "0")
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                self.results[cell.name]["failure"] = str(error)

    def do(self, step: str) -> None:
        """Do one step to everything that lives; what an engine refuses is written down."""
        if step.startswith("daemon-re"):
            command = step.split(maxsplit=1)[0]
            run("systemctl", command)
            run(*self.as_user, "systemctl", "--user", command)
        elif step == "restart of the daemon":
            run("systemctl", "reset-failed", "docker", "docker-userns", "containerd")
            run("systemctl", "restart", "containerd")
            run("systemctl", "restart", "docker", "docker-userns")
        else:
            act = step.split(maxsplit=1)[0].replace("-", "_")
            for cell in self.living():
                try:
                    getattr(self.engine(cell), act)(cell)
                except (RuntimeError, OSError, ValueError, StopIteration, subprocess.SubprocessError) as error:
                    self.results[cell.name]["errors"][step] = str(error)

    def note(self, step: str) -> None:
        """Write down what every watcher gets from now on: of the granted node, and of its neighbour."""
        since = time.monotonic()
        waiting = self.living()
        while waiting and time.monotonic() < since + PATIENCE:
            for cell in tuple(waiting):
                log = self.work / "logs" / cell.name / "log"
                lines = [line.split() for line in log.read_text().splitlines()[-3:]] if log.exists() else []
                if len(lines) == 3 and all(len(line) == 3 and float(line[0]) > since for line in lines):
                    self.results[cell.name]["steps"][step] = lines[-1][1:]
                    waiting.remove(cell)
            time.sleep(0.05)
        for cell in waiting:
            self.results[cell.name]["failure"] = f"{step}: its watcher is silent"

    def repair(self, step: str) -> None:
        """Give back what a step has taken from somebody, and note what that gave."""
        lost = [cell.name for cell in self.living() if self.results[cell.name]["steps"][step][0] != GRANTED]
        if lost:
            self.oci_gpu("repair", "--all")
            self.note(f"{step}{REPAIRED}")

    def count_attempts(self) -> None:
        """Write down what all attempts of each watcher gave, from its start on, or since it was attached a GPU."""
        for cell in self.living():
            gave = [line.split()[1] for line in (self.work / "logs" / cell.name / "log").read_text().splitlines()[:-1]]
            if cell.way == ATTACHED:
                gave = gave[gave.index(GRANTED) :] if GRANTED in gave else gave
            self.results[cell.name]["attempts"] = {each: gave.count(each) for each in sorted({*gave})}

    def remove_all(self) -> None:
        for cell in self.living():
            try:
                self.engine(cell).remove(cell)
            except (RuntimeError, subprocess.SubprocessError) as error:
                self.results[cell.name]["errors"]["removed"] = str(error)
        try:
            self.oci_gpu("repair", "--all")
        except RuntimeError as error:
            self.report["repair"] = str(error)
        self.report["left"] = {
            "leases": json.loads(self.oci_gpu("leases", "--json")),
            "drop-ins": sorted(map(str, Path("/run/systemd/system.control").glob("*/50-oci-gpu-hook.conf"))),
        }


def main() -> None:
    guest = Guest(json.loads(Path(sys.argv[1]).read_text()))
    try:
        guest.set_up()
        guest.start_all()
        guest.note(STARTED)
        for step in STEPS[1:]:
            guest.do(step)
            guest.note(step)
            guest.repair(step)
        guest.count_attempts()
        guest.remove_all()
    except Exception as error:  # noqa: BLE001  it is raised again outside
        guest.report["failure"] = f"{type(error).__name__}: {error}"
    (guest.work / "report.json").write_text(json.dumps(guest.report, indent=1))


main()

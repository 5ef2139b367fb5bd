"""A cluster of one node with eight simulated GPUs: munged, slurmctld and slurmd, as Debian has them.

It has a mount namespace, a network and a host name of its own, and cgroups by the name of its node.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.engines.machine import EngineMachine
from tests.runtime import bundle as bundles
from tests.runtime import rootfs as images
from tests.runtime.host import Host
from tests.runtime.simulated import SimulatedHost

PROGRAMS = ("slurmctld", "slurmd", "srun", "munged")
USER, OTHER_USER = 20031, 20032
GPUS = 8
ADDRESS = "10.87.0.1"
PATIENCE = 60  # seconds
_MUNGE = "/run/munge/munge.socket.2"
_SLURM_CONF = """\
ClusterName=test
SlurmctldHost={node}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
MpiDefault=none
StateSaveLocation={work}/state
SlurmdSpoolDir={work}/spool
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile={work}/slurmctld.log
SlurmdLogFile={work}/slurmd.log
SlurmdDebug=debug
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc={work}/completed
LaunchParameters=use_interactive_step
SlurmdParameters=config_overrides
ReturnToService=2
MaxArraySize=1001
KillWait=2
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
GresTypes=gpu
NodeName={node} NodeAddr={address} CPUs=64 RealMemory=1000 Gres={gres}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""
_CGROUP_CONF = {
    "v1-only": "CgroupPlugin=cgroup/v1\n",
    "v2": "CgroupPlugin=cgroup/v2\nIgnoreSystemd=yes\n",
}


class Cluster:
    """The cluster; `oci-gpu install slurm` has made its oci.conf and gres.conf."""

    def __init__(self, work: Path, image: Path, simulated: SimulatedHost, layout: str) -> None:
        self.work = work
        self.simulated = simulated
        self.node = f"gpu-node-{os.getpid()}"
        host = Host(work.parent, layout, ("net", "uts"))
        self.machine = EngineMachine(work, image, simulated, host)
        self.machine.host.call("hostname", self.node)
        self.machine.host.call("ip", "link", "set", "lo", "up")
        # getaddrinfo with AI_ADDRCONFIG, as Slurm asks, finds nothing where there is no address but loopback's.
        self.machine.host.call("ip", "address", "add", f"{ADDRESS}/24", "dev", "lo")
        for name in ("state", "spool", "bundles", "out"):
            (work / name).mkdir(mode=0o755)
        (work / "out").chmod(0o777)
        self._users()
        self._munge()
        self.layout = layout
        self.constrain(True)
        self.machine.write("/etc/slurm/slurm.conf", "")
        self.said = self.machine.oci_gpu("install", "slurm", "--directory", self.machine.libexec)
        gres = next(line for line in self.said.splitlines() if "Gres=" in line).rpartition("Gres=")[2]
        text = _SLURM_CONF.format(node=self.node, address=ADDRESS, work=work, gres=gres)
        self.machine.write("/etc/slurm/slurm.conf", text)
        self._image = image

    def constrain(self, yes: bool) -> None:
        """Write cgroup.conf; slurmd is to be restarted."""
        text = f"{_CGROUP_CONF[self.layout]}ConstrainDevices={'yes' if yes else 'no'}\n"
        self.machine.write("/etc/slurm/cgroup.conf", text)

    def start(self) -> None:
        """Start the daemons, and wait until the node is there."""
        munged = ("munged", "--foreground", f"--socket={_MUNGE}")
        self.machine.start(
            "setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", *munged, until=("munge", "-n")
        )
        self.machine.start("slurmctld", "-D", until=("scontrol", "ping"))
        self.start_slurmd()

    def start_slurmd(self) -> None:
        self.slurmd = self.machine.start(
            "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "slurmd", "-D", until=("true",)
        )
        self.await_node("idle", "mixed", "allocated")

    def stop_slurmd(self, how: int = signal.SIGTERM) -> None:
        self.slurmd.send_signal(how)
        self.slurmd.wait(timeout=PATIENCE)
        self.machine.daemons.remove(self.slurmd)

    def await_node(self, *states: str) -> None:
        self.until(lambda: self("sinfo", "-h", "-p", "low", "-o", "%T").strip() in states, "the node is not there")

    def until(self, done, what: str, patience: float = PATIENCE) -> None:
        """Wait until something is so."""
        give_up = time.monotonic() + patience
        while not done():
            assert time.monotonic() < give_up, f"{what}\n{self.log()}"
            time.sleep(0.1)

    def log(self) -> str:
        """Return the last lines of slurmd's log."""
        return (self.work / "slurmd.log").read_text()[-4000:]

    def __call__(self, *command: object, check: bool = True, **options) -> str:
        """Run a command as root; return its stdout."""
        return self.machine.run(*command, check=check, **options).stdout

    def as_user(self, *command: object, uid: int = USER, env: tuple[str, ...] = ()) -> tuple[object, ...]:
        """Return a command of a user's."""
        become = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
        environment = ("env", "-i", "-C", self.work / "out", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", *env)
        return (*become, *environment, *command)

    def user(self, *command: object, check: bool = True, **options) -> subprocess.CompletedProcess[str]:
        """Run a command of a user's to its end."""
        return self.machine.run(*self.as_user(*command, **options), check=check)

    def popen(self, *command: object, **options) -> subprocess.Popen[str]:
        """Start a command of a user's."""
        return subprocess.Popen(
            self.machine.host.command(*self.as_user(*command, **options)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def bundle(self, name: str, uid: int = USER, rootless: bool = True, **options) -> Path:
        """Make a bundle of a user's, as Slurm's documentation has them made: rootless, with a rootfs that is his."""
        directory = self.work / "bundles" / name
        directory.mkdir()
        rootfs = images.copy(self._image, directory / "rootfs")  # Slurm 22.05 knows no other name of it
        subprocess.run(["chown", "-R", f"{uid}:{uid}", rootfs], check=True)
        made = bundles.make(directory, ["/probe"], **options)
        if rootless:
            made.config["linux"]["namespaces"].append({"type": "user"})
            for kind in ("uidMappings", "gidMappings"):
                made.config["linux"][kind] = [{"containerID": 0, "hostID": uid, "size": 1}]
        made.write()
        return directory

    def leases(self, uid: int = USER) -> list[dict]:
        """Return the leases of a user's containers."""
        command = self.machine.command("leases", "--json")
        table = self.machine.run(*self.as_user("unshare", "--user", "--map-root-user", *command, uid=uid)).stdout
        return json.loads(table)

    def jobs(self) -> list[str]:
        """Return the jobs that are in the queue."""
        return self("squeue", "-h", "-o", "%i %T").splitlines()

    def cancel_all(self) -> None:
        """Empty the queue."""
        for job in self("squeue", "-h", "-o", "%A").split():
            self("scancel", job, check=False)
        self.until(lambda: not self.jobs(), "jobs do not end")
        self.await_node("idle")

    def close(self) -> None:
        self.machine.close()
        for name in (f"slurm_{self.node}", f"{self.node}_slurmstepd.scope"):
            for _ in range(50):
                try:
                    remove(self.machine.host, name)
                    break
                except OSError:
                    time.sleep(0.1)
        subprocess.run(["rm", "-rf", "--one-file-system", self.work], check=False)

    def _users(self) -> None:
        for file, line in (("passwd", "{name}:x:{uid}:{uid}::/:/bin/sh"), ("group", "{name}:x:{uid}:")):
            path = self.machine.path(f"/etc/{file}")
            lines = [line.format(name=f"user{uid}", uid=uid) for uid in (USER, OTHER_USER)]
            path.write_text(path.read_text() + "".join(f"{text}\n" for text in lines))

    def _munge(self) -> None:
        for directory in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
            self.machine.host.call("mkdir", "-p", directory)
            self.machine.host.call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
            self.machine.host.call("chown", "munge:munge", directory)
        self.machine.path("/etc/munge/munge.key").write_bytes(os.urandom(128))


def layout() -> str:
    """Return the cgroups that Slurm can use here: its plugin for v2 refuses a kernel that has any hierarchy of v1."""
    hierarchies = Path("/proc/self/cgroup").read_text().splitlines()
    return "v2" if hierarchies == [line for line in hierarchies if line.startswith("0::")] else "v1-only"


def remove(host: Host, name: str) -> None:
    """Remove the cgroups of a name in every hierarchy, with those in them."""
    for directory, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
        if name in directory.split("/"):
            os.rmdir(directory)


def missing() -> list[str]:
    """Return the programs that are not installed."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [program for program in PROGRAMS if not shutil.which(program, path=path)]

"""For tests of leases: a machine whose processes, reboots and clock a test decides."""

from __future__ import annotations

from oci_gpu_hook.allocation.holders import Processes


class World:
    """The processes of a machine: what lives, and which boot it is."""

    def __init__(self):
        self.boot = 1
        self.ticks = 100
        self.alive = {}
        self.pids = 300
        self.uptime = 0

    def start(self, pid=None):
        self.ticks += 1
        if pid is None:
            self.pids += 1
            pid = self.pids
        self.alive[pid] = self.ticks
        return pid

    def reboot(self):
        self.boot += 1
        self.uptime = 0
        self.ticks = 100
        self.alive = {}
        self.pids = 300


class FakeProcesses(Processes):
    """The real rules of who lives, over the world's processes."""

    world: World

    def __init__(self):
        self.boot_id = f"boot-{self.world.boot}"
        self.pid_namespace = 7

    def start_time(self, pid):
        return self.world.alive.get(pid, 0)

    def is_taken(self, pid):
        return pid in self.world.alive

    def uptime(self):
        return self.world.uptime

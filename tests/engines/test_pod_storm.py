"""Pods by the score at containerd's CRI, on a node with eight GPUs; they, their shims and containerd killed meanwhile.

OCI_GPU_STORM_PODS: how many (default 40; `make stress` takes 200). OCI_GPU_STRESS_SEED: of the wishes, to have them
again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.cri.client import CriError, NotThereError
from tests.cri.pods import Pod
from tests.runtime import stress
from tests.runtime.simulated import SimulatedHost

PODS = int(os.environ.get("OCI_GPU_STORM_PODS", "40"))
SEED = int(os.environ.get("OCI_GPU_STRESS_SEED", random.randrange(1 << 32)))
GPUS = 8
WORKERS = 8
PREFIX = "io.oci-gpu-hook."
ENDS = {"removed": 50, "crashed, started again": 25, "its shim killed": 15, "stopped, forgotten": 10}


@pytest.fixture
def node(containerd):
    """The engines' machine with eight GPUs."""
    directory = containerd.engines.work / "eight"
    make(str(directory), gpus=GPUS)
    host = SimulatedHost(directory)
    config = containerd.engines.path("/etc/oci-gpu-hook/config.toml")
    before = config.read_text()
    config.write_text(host.config.read_text())
    yield host
    config.write_text(before)


class Storm:
    """Starts pods, sees what they hold, and ends them. What must not be is added to `complaints`."""

    def __init__(self, containerd) -> None:
        self.containerd = containerd
        self.holds: list[stress.Hold] = []
        self.counts: dict[str, int] = {}
        self.complaints: list[str] = []
        self._lock = threading.Lock()
        self._away = threading.Event()  # while there is no containerd

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def live(self, name: str, wish: stress.Wish) -> None:
        """Have a pod from its start to its end; where containerd goes away, from a new start, as a kubelet does."""
        try:
            tries = 60
            while tries and not self._lived(name, wish):
                tries -= 1
                time.sleep(0.5)
            assert tries, "containerd did not come back"
        except CriError as error:
            said = str(error)
            if " available" in said or "cannot be granted" in said:
                self.count("refused: GPUs are held by others")
            elif "killed" in wish.end or self._away.is_set():
                self.count("ended under the engine's hands")
            else:
                self.complaints.append(f"{name}, {wish.end}: {said}")
        except (OSError, AssertionError) as error:
            self.complaints.append(f"{name}, {wish.end}: {error!r}")

    def _lived(self, name: str, wish: stress.Wish) -> bool:
        try:
            self._live(name, wish)
        except NotThereError:
            self.count("tries while containerd was away")
            return False
        return True

    def _live(self, name: str, wish: stress.Wish) -> None:
        pod = Pod(self.containerd.kubernetes, name, wish.annotations)
        try:
            container = pod.start("app")
            self.count("started")
            self._hold(pod, name, container, wish)
            if wish.end == "crashed, started again":
                os.kill(pod.pid(container), signal.SIGKILL)
                self._hold(pod, name, pod.start("app"), wish)
            elif wish.end == "its shim killed":
                os.kill(shim(pod), signal.SIGKILL)
                self.count("shims killed")
            elif wish.end == "stopped, forgotten":
                pod.stop(container)
                return
        finally:
            if wish.end != "stopped, forgotten":
                pod.close()

    def _hold(self, pod: Pod, name: str, container: str, wish: stress.Wish) -> None:
        pid = pod.pid(container)
        nodes = os.listdir(f"/proc/{pid}/root/dev")
        minors = frozenset(int(node[6:]) for node in nodes if node.startswith("nvidia") and node[6:].isdigit())
        since = time.monotonic()
        time.sleep(wish.pause)
        assert os.path.exists(f"/proc/{pid}/root/dev"), "a container died that nobody killed"
        with self._lock:
            self.holds.append(stress.Hold(name, minors, wish.exclusive, since, time.monotonic()))

    def crash(self) -> None:
        """End containerd without a word, and start it again."""
        self._away.set()
        with self.containerd.crashed():
            time.sleep(0.5)
        self.count("containerd killed")

    def clear(self) -> None:
        """Remove every pod that is left, as a kubelet does with those that it does not know."""
        for pod in self.containerd.cri("ListPodSandbox").items:
            self.containerd.cri("StopPodSandbox", pod_sandbox_id=pod.id)
            self.containerd.cri("RemovePodSandbox", pod_sandbox_id=pod.id)


def shim(pod: Pod) -> int:
    """Return the process that watches a pod's containers for containerd."""
    answer = pod.engine.cri("PodSandboxStatus", pod_sandbox_id=pod.sandbox, verbose=True)
    pid = int(json.loads(answer.info["info"])["pid"])
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wish(chance: random.Random) -> stress.Wish:
    """Return what a pod asks for, as tests/runtime has it for containers, with an end of a pod."""
    asked = stress.wish(chance, GPUS)
    end = chance.choices([*ENDS], weights=[*ENDS.values()])[0]
    return stress.Wish(asked.annotations, asked.exclusive, end, chance.uniform(0.05, 0.8))


@pytest.mark.timeout(1800)
def test_no_gpu_is_held_twice_or_lost(containerd, node, capsys):
    chance = random.Random(SEED)
    storm = Storm(containerd)
    wishes = [wish(chance) for _ in range(PODS)]
    started = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        for number, each in enumerate(wishes[: PODS // 2]):
            pool.submit(storm.live, f"storm-{number}", each)
        pool.submit(storm.crash)
        for number, each in enumerate(wishes[PODS // 2 :], PODS // 2):
            pool.submit(storm.live, f"storm-{number}", each)
    seconds = time.monotonic() - started
    storm.clear()
    everything = {PREFIX + "exclusive": "true", PREFIX + "count": str(GPUS)}
    storm.live("last", stress.Wish(everything, exclusive=True, end="removed", pause=0.0))
    with capsys.disabled():
        print(f"\n{PODS} pods on {GPUS} GPUs in {seconds:.1f} s, seed {SEED}")
        print("".join(f"  {number:4}  {what}\n" for what, number in sorted(storm.counts.items())), end="")
        print(f"  {len(stress.conflicts(storm.holds)):4}  GPUs held exclusively and by another at one time")
    assert storm.complaints == []
    assert stress.conflicts(storm.holds) == []
    # No GPU is lost: one container is given all of them, at once and alone.
    assert storm.holds[-1].minors == {gpu.minor for gpu in node.gpus()}
    assert containerd.engines.leases() == []
    # The run was one: containers held GPUs, shims and containerd were killed.
    assert len(storm.holds) > PODS // 3
    assert storm.counts.get("containerd killed") == 1

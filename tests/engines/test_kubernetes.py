"""Kubernetes at the CRI: containerd is told what a kubelet tells it, for pods of the RuntimeClass `oci-gpu`."""

from __future__ import annotations

import re
import time

import pytest

from tests.cri.client import CriError
from tests.cri.pods import RUNNING, Ended
from tests.engines.answer import Answer
from tests.runtime.test_devices import assert_reaches, reach

PREFIX = "io.oci-gpu-hook."
ALONE = {PREFIX + "count": "1", PREFIX + "exclusive": "true"}
VISIBLE = "NVIDIA_VISIBLE_DEVICES"


def seen(ended: Ended) -> dict:
    """Return what a probe has seen."""
    return Answer(*ended).seen()


def granted(pod, container: str, simulated) -> tuple[int, ...]:
    """Return the indices of the GPUs that a running container reaches, having seen that it reaches no other."""
    found = seen(pod.exec(container, "/probe", *reach(simulated)))
    indices = tuple(gpu.index for gpu in simulated.gpus() if found[f"open={gpu.node}"] == "ENXIO")
    assert_reaches(found, simulated, indices)
    return indices


def assert_has_none(pod, container: str) -> None:
    assert not [name for name in seen(pod.exec(container, "/probe", "list=/dev"))["list=/dev"] if "nvidia" in name]


def holders(containerd) -> dict[str, int]:
    """Return the names of those who hold GPUs, and how many each."""
    leases = containerd.engines.leases()
    assert {lease["engine"] for lease in leases} <= {"containerd"}
    return {lease["pod"]: len(lease["gpus"]) for lease in leases}


class TestAsking:
    @pytest.mark.parametrize(("value", "indices"), [("0", (0,)), ("{uuid}", (1,)), ("all", (0, 1))])
    def test_by_the_environment(self, pods, simulated, value, indices):
        pod = pods("env")
        value = value.format(uuid=simulated.gpus()[1].uuid)
        app = pod.start("app", env={VISIBLE: value})
        assert granted(pod, app, simulated) == indices
        assert seen(pod.exec(app, "/probe", "dlopen=libcuda.so.1"))["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")

    def test_by_the_pod_s_annotation_each_container_for_itself(self, pods, containerd, simulated):
        """And neither does the sandbox take one."""
        pod = pods("annotation", ALONE)
        given = [granted(pod, pod.start(name), simulated) for name in ("one", "other")]
        assert sorted(given) == [(0,), (1,)]
        assert holders(containerd) == {"default/annotation/one": 1, "default/annotation/other": 1}

    def test_by_an_annotation_for_one_container(self, pods, containerd, simulated):
        pod = pods("named", {PREFIX + "count.trainer": "2", PREFIX + "exclusive.trainer": "true"})
        assert_has_none(pod, pod.start("proxy"))
        assert granted(pod, pod.start("trainer"), simulated) == (0, 1)
        assert holders(containerd) == {"default/named/trainer": 2}

    @pytest.mark.parametrize("value", ["void", ""])
    def test_a_sidecar_declines(self, pods, containerd, simulated, value):
        pod = pods("sidecar", {PREFIX + "count": "2", PREFIX + "exclusive": "true"})
        assert_has_none(pod, pod.start("sidecar", env={VISIBLE: value}))
        assert granted(pod, pod.start("app"), simulated) == (0, 1)
        assert holders(containerd) == {"default/sidecar/app": 2}

    def test_a_read_only_root_and_a_user(self, pods, simulated):
        pod = pods("strict")
        app = pod.start("app", env={VISIBLE: "1"}, security={"readonly_rootfs": True})
        assert granted(pod, app, simulated) == (1,)

    def test_two_pods_at_once_and_a_third_that_waits(self, pods, containerd, simulated):
        first, second = pods("first", ALONE), pods("second", ALONE, namespace="team-b")
        holding = first.start("app")
        both = [granted(first, holding, simulated), granted(second, second.start("app"), simulated)]
        assert sorted(both) == [(0,), (1,)]
        third = pods("third", ALONE)
        refused = third.create("app", "/bin/sleep", "600")
        with pytest.raises(CriError, match="held by") as error:
            containerd.cri("StartContainer", container_id=refused)
        assert {*re.findall(r"'(\S+/app)'", str(error.value))} == {"default/first/app", "team-b/second/app"}
        third.remove(refused)
        first.stop(holding)
        assert granted(third, third.start("app"), simulated) == both[0]

    def test_a_refusal_is_what_the_pod_s_event_says(self, pods, containerd):
        pod = pods("unknown")
        container = pod.create("app", "/bin/true", env={VISIBLE: "9"})
        with pytest.raises(CriError, match="unknown device '9': this host has GPU 0"):
            containerd.cri("StartContainer", container_id=container)


class TestWithoutGpu:
    @pytest.fixture
    def broken(self, engines):
        """A host whose configuration cannot be read."""
        file = engines.path("/etc/oci-gpu-hook/config.toml")
        text = file.read_text()
        file.write_text("]")
        yield
        file.write_text(text)

    def test_a_pod_is_as_under_the_engine_s_own_handler(self, pods, broken):
        def facts(handler: str) -> list:
            pod = pods("none", handler=handler)
            found = seen(pod.run("app", "/probe", "list=/dev", "mountinfo"))
            # Ids, device numbers, peer groups, and what names container and snapshots are each container's own.
            own = r"[0-9a-f-]{32,}|snapshots/[\d/a-z:]+|master:\d+"
            mounts = [re.sub(own, "", line) for line in found["mountinfo"].splitlines()]
            return [sorted(found["list=/dev"]), [line.split()[3:] for line in mounts]]

        assert facts("oci-gpu") == facts("")


class TestLife:
    def test_an_init_container_gives_its_gpus_back(self, pods, containerd, simulated):
        both = {PREFIX + "count": "2", PREFIX + "exclusive": "true"}
        pod = pods("init", both)
        for name in ("check", "warm-up"):
            assert_reaches(seen(pod.run(name, "/probe", *reach(simulated))), simulated, (0, 1))
        assert granted(pod, pod.start("app"), simulated) == (0, 1)
        assert holders(containerd) == {"default/init/app": 2}

    def test_commands_in_it_have_its_gpus_also_after_an_update(self, pods, containerd, simulated):
        pod = pods("exec", {PREFIX + "devices": "1"})
        app = pod.start("app")
        for shares in (512, 256):
            containerd.cri("UpdateContainerResources", container_id=app, linux={"cpu_shares": shares})
            assert granted(pod, app, simulated) == (1,)
        called = f"default/exec/app (containerd {app[:12]})"
        assert containerd.engines.oci_gpu("verify", app[:12]) == f"{called}: has what it was given\n"

    def test_a_container_that_crashes_is_started_again(self, pods, containerd, simulated):
        pod = pods("crash", {PREFIX + "count": "2", PREFIX + "exclusive": "true"})
        for _ in range(3):
            assert pod.run("app", "/bin/sh", "-c", "ls /dev/nvidia1; exit 3") == Ended(3, "/dev/nvidia1\n", "")
        app = pod.start("app")
        containerd.engines.run("kill", "-9", str(pod.pid(app)))
        deadline = time.monotonic() + 30
        while pod.status(app).state == RUNNING:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        pod.remove(app)
        assert granted(pod, pod.start("app"), simulated) == (0, 1)

    def test_gpus_outlast_a_crash_of_containerd(self, pods, containerd, simulated):
        pod = pods("daemon", ALONE)
        app = pod.start("app")
        before = granted(pod, app, simulated)
        with containerd.crashed():
            assert holders(containerd) == {"default/daemon/app": 1}
        assert granted(pod, app, simulated) == before
        other = pods("after", ALONE)
        assert {*before, *granted(other, other.start("app"), simulated)} == {0, 1}

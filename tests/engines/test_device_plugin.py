"""What NVIDIA's device plugin has a kubelet tell the engine, by each of its strategies for the list of devices.

Source: k8s-device-plugin 0.20, internal/plugin/server.go (getAllocateResponse), internal/cdi/cdi.go.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cri.client import CriError
from tests.cri.pods import Ended
from tests.engines.answer import Answer
from tests.runtime.test_devices import assert_reaches, reach

VISIBLE = "NVIDIA_VISIBLE_DEVICES"
KIND = "k8s.device-plugin.nvidia.com/gpu"  # of the plugin's own CDI specification
MOUNTS = "/var/run/nvidia-container-devices"
STRATEGIES = ("envvar", "envvar, device specs", "volume-mounts", "cdi-annotations", "cdi-cri")
EXCLUSIVE = {"io.oci-gpu-hook.count": "2", "io.oci-gpu-hook.exclusive": "true"}


def allocated(strategy: str, simulated, *indices: int) -> dict[str, Any]:
    """Return what the kubelet makes of the plugin's answer: fields of the container."""
    gpus = [simulated.gpus()[index] for index in indices]
    names = [f"{KIND}={gpu.uuid}" for gpu in gpus]
    nodes = [gpu.node for gpu in gpus] + ["/dev/nvidiactl", "/dev/nvidia-uvm"]
    specs = [
        {"container_path": node, "host_path": f"{simulated.dev}{node.removeprefix('/dev')}", "permissions": "rw"}
        for node in nodes
    ]
    by_env = {"env": {VISIBLE: ",".join(gpu.uuid for gpu in gpus)}}
    empty = [{"container_path": f"{MOUNTS}/{gpu.uuid}", "host_path": "/dev/null"} for gpu in gpus]
    answers: dict[str, dict[str, Any]] = {
        "envvar": by_env,
        "envvar, device specs": by_env | {"devices": specs},
        "volume-mounts": {"env": {VISIBLE: MOUNTS}, "mounts": empty},
        "cdi-annotations": {"annotations": {"cdi.k8s.io/nvidia-device-plugin_4f2a": ",".join(names)}},
        "cdi-cri": {"CDI_devices": [{"name": name} for name in names]},
    }
    return answers[strategy]


@pytest.fixture(scope="module")
def node(containerd):
    """A node with the plugin's specification, and where volume mounts are accepted, as docs/kubernetes.md has it."""
    engines = containerd.engines
    hook = engines.libexec / "oci-gpu-hook"
    text = engines.oci_gpu("cdi", "generate", "--format", "json", "--name", "uuid", "--hook-path", hook)
    file = f"/run/cdi/{KIND.replace('/', '-')}.json"
    engines.run("mkdir", "-p", "-m", "755", "/run/cdi")
    engines.write(file, json.dumps(json.loads(text) | {"kind": KIND}))
    config = engines.path("/etc/oci-gpu-hook/config.toml")
    before = config.read_text()
    config.write_text(f"accept-nvidia-visible-devices-as-volume-mounts = true\n{before}")
    yield containerd
    config.write_text(before)
    engines.path(file).unlink()


@pytest.fixture
def start(pods, node):
    """Start a container of a new pod with what a strategy gives; return the pod and the container."""

    def start(strategy: str, *indices: int, name: str = "pod") -> tuple:
        if strategy == "cdi-cri" and node.version() < (1, 7):
            pytest.skip("containerd 1.6 knows no CDI devices")
        pod = pods(name)
        return pod, pod.start("app", **allocated(strategy, node.engines.simulated, *indices))

    return start


def seen(ended: Ended) -> dict:
    return Answer(*ended).seen()


@pytest.mark.parametrize("strategy", STRATEGIES)
class TestStrategies:
    @pytest.mark.parametrize("indices", [(1,), (0, 1)], ids=str)
    def test_the_container_has_what_was_allocated(self, start, node, simulated, strategy, indices):
        pod, app = start(strategy, *indices)
        found = seen(pod.exec(app, "/probe", *reach(simulated), "dlopen=libcuda.so.1", "dlopen=libnvidia-ml.so.1"))
        assert_reaches(found, simulated, indices)
        assert found["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")
        assert found["dlopen=libnvidia-ml.so.1"].endswith("/libnvidia-ml.so.1")
        (lease,) = node.engines.leases()
        assert lease["pod"] == "default/pod/app"
        assert {*lease["gpus"]} == {simulated.gpus()[index].uuid for index in indices}
        assert not lease["exclusive"]

    def test_nobody_gets_it_for_himself_meanwhile(self, start, pods, simulated, strategy):
        start(strategy, 1)
        other = pods("other", EXCLUSIVE)
        with pytest.raises(CriError, match="GPU 1 held by 'default/pod/app'"):
            other.start("app")

    def test_it_is_refused_what_somebody_has_for_himself(self, start, pods, node, strategy):
        if strategy == "cdi-cri" and node.version() < (1, 7):
            pytest.skip("containerd 1.6 knows no CDI devices")
        pods("other", EXCLUSIVE).start("app")
        with pytest.raises(CriError, match="'default/other/app' holds it exclusively"):
            start(strategy, 0)


def test_containerd_1_6_gives_no_cdi_devices_and_says_nothing(pods, node, simulated):
    """So docs/kubernetes.md asks for a later one there."""
    if node.version() >= (1, 7):
        return
    pod = pods("old")
    found = seen(pod.exec(pod.start("app", **allocated("cdi-cri", simulated, 0)), "/probe", "list=/dev"))
    assert not [name for name in found["list=/dev"] if name.startswith("nvidia")]

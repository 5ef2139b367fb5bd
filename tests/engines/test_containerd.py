"""containerd: `ctr run --runc-binary`, and the handler that its CRI plugin reads."""

from __future__ import annotations

import tomllib

from tests.runtime.test_devices import assert_reaches, reach


def test_ctr_runs_a_container_with_its_gpu(containerd, simulated):
    probe = (*reach(simulated, user_namespace=True), "dlopen=libcuda.so.1")
    seen = containerd.run("--env", "NVIDIA_VISIBLE_DEVICES=1", probe=probe).seen()
    assert_reaches(seen, simulated, (1,), own_nodes=False)
    assert seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")


def test_annotations_ask(containerd, simulated):
    probe = tuple(reach(simulated, user_namespace=True))
    seen = containerd.run("--annotation", "io.oci-gpu-hook.devices=0", probe=probe).seen()
    assert_reaches(seen, simulated, (0,), own_nodes=False)


def test_a_container_that_asks_for_nothing_gets_nothing(containerd):
    seen = containerd.run(probe=("list=/dev",)).seen()
    assert not [name for name in seen["list=/dev"] if name.startswith("nvidia")]


def test_a_refusal_is_what_ctr_shows(containerd):
    answer = containerd.run("--env", "NVIDIA_VISIBLE_DEVICES=9", probe=("list=/",))
    assert answer.status != 0
    assert "oci-gpu-runtime: error: " in answer.stderr


def test_the_cri_plugin_has_the_handler(containerd):
    dumped = containerd.engines.run("containerd", "--config", containerd.config, "config", "dump").stdout
    plugins = tomllib.loads(dumped)["plugins"]
    plugin = plugins.get("io.containerd.cri.v1.runtime") or plugins["io.containerd.grpc.v1.cri"]  # since 2.0; before
    handlers = plugin["containerd"]["runtimes"]
    assert handlers["oci-gpu"]["options"]["BinaryName"] == str(containerd.runtime)
    assert "io.oci-gpu-hook.*" in handlers["oci-gpu"]["pod_annotations"]
    assert "runc" in handlers

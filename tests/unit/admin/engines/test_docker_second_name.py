"""`oci-gpu install docker --also-as nvidia`: a compose file with `runtime: nvidia`, where NVIDIA's is not installed."""

from __future__ import annotations

import json

import pytest

from oci_gpu_hook.admin.engines import docker
from tests.unit.admin.engines.conftest import RUNTIME, put, tree
from tests.unit.admin.engines.test_engines import DAEMON_JSON

ALSO = ("--also-as", "nvidia")


@pytest.mark.parametrize("steps", [[("--default", *ALSO)], [(), ALSO], [ALSO, ("--default",)]], ids=str)
@pytest.mark.parametrize("name", DAEMON_JSON)
def test_it_goes_in_and_out(root, oci_gpu, name, steps):
    file = put(root, docker.FILE, DAEMON_JSON[name], 0o640)
    before = tree(root)
    for options in steps:
        assert oci_gpu("install", "docker", *options)[0] == 0
    runtimes = json.loads(file.read_bytes())["runtimes"]
    assert runtimes["nvidia"] == runtimes["oci-gpu"] == {"path": RUNTIME}
    once = tree(root)
    for options in (*steps, ()):
        assert oci_gpu("install", "docker", *options)[0] == 0
    assert tree(root) == once
    assert [finding.text for finding in docker.check(str(root)) if "runtime nvidia" in finding.text]
    assert oci_gpu("uninstall", "docker")[0] == 0
    assert tree(root) == before


def test_what_was_edited_since_stays(root, oci_gpu):
    file = put(root, docker.FILE, DAEMON_JSON["four"])
    oci_gpu("install", "docker", *ALSO)
    file.write_text(file.read_text().replace("10.0.0.1", "10.9.9.9"))
    assert oci_gpu("uninstall", "docker")[0] == 0
    assert file.read_text() == DAEMON_JSON["four"].replace("10.0.0.1", "10.9.9.9")


def test_where_nvidia_s_runtime_is_installed_the_name_is_its(root, oci_gpu):
    put(root, "/usr/bin/nvidia-container-runtime", "#!/bin/sh\n", 0o755)
    before = tree(root)
    status, _, complaint = oci_gpu("install", "docker", *ALSO)
    assert (status, tree(root)) == (1, before)
    assert "NVIDIA's own runtime is installed, /usr/bin/nvidia-container-runtime" in complaint
    assert oci_gpu("install", "docker")[0] == 0


def test_another_runtime_of_that_name_stays(root, oci_gpu):
    put(root, docker.FILE, '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "runtimeArgs": []}}}')
    before = tree(root)
    status, _, complaint = oci_gpu("install", "docker", *ALSO)
    assert (status, tree(root)) == (1, before)
    assert "another runtime of the name nvidia" in complaint


@pytest.mark.parametrize("name", ["runc", "oci-gpu", "a b", "io.containerd.runc.v2", "../x", "é"])
def test_names_that_cannot_be(root, oci_gpu, name):
    before = tree(root)
    status, _, complaint = oci_gpu("install", "docker", "--also-as", name)
    assert (status, tree(root)) == (1, before)
    assert "cannot be the runtime's second name" in complaint


def test_it_is_docker_s_alone(oci_gpu):
    status, _, complaint = oci_gpu("install", "containerd", *ALSO)
    assert status == 2
    assert "is for docker" in complaint

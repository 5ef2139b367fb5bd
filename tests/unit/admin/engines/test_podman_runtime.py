"""`oci-gpu install podman --runtime`: a drop-in that makes oci-gpu-runtime Podman's, and its way back."""

from __future__ import annotations

import tomllib

import pytest

from oci_gpu_hook.admin.engines import podman, podman_runtime
from tests.unit.admin.engines.conftest import RUNTIME, put, tree

INSTALL = ("install", "podman", "--runtime")


def test_it_goes_in_and_out(root, oci_gpu):
    before = tree(root)
    assert oci_gpu(*INSTALL)[0] == 0
    engine = tomllib.loads((root / podman_runtime.FILE[1:]).read_text())["engine"]
    assert (engine["runtime"], engine["runtimes"]) == ("oci-gpu", {"oci-gpu": [RUNTIME]})
    assert {"crun", "runc", "oci-gpu"} <= set(engine["runtime_supports_json"])
    assert "oci-gpu" not in engine["runtime_supports_nocgroups"]
    assert [finding.ok for finding in podman.check(str(root))] == [True, True]
    once = tree(root)
    assert "Nothing to change" in oci_gpu(*INSTALL)[1]
    assert oci_gpu("install", "podman")[0] == 0
    assert tree(root) == once
    assert oci_gpu("uninstall", "podman")[0] == 0
    assert tree(root) == before


def test_another_runtime_that_was_chosen_stays(root, oci_gpu):
    put(root, "/etc/containers/containers.conf", '[engine]\nruntime = "kata"\n')
    before = tree(root)
    status, _, complaint = oci_gpu(*INSTALL)
    assert (status, tree(root)) == (1, before)
    assert "'/etc/containers/containers.conf': makes 'kata' Podman's runtime" in complaint
    assert oci_gpu("install", "podman")[0] == 0


@pytest.mark.parametrize("command", [INSTALL, ("uninstall", "podman")], ids=str)
def test_a_file_of_another_stays(root, oci_gpu, command):
    put(root, podman_runtime.FILE, "[engine]\n")
    before = tree(root)
    status, _, complaint = oci_gpu(*command)
    assert (status, tree(root)) == (1, before)
    assert "was not made by oci-gpu-hook" in complaint


@pytest.mark.parametrize("edit", [("oci-gpu = [", "other = ["), (RUNTIME, "/nonexistent"), ("[engine.", "[[")], ids=str)
def test_the_doctor_sees_a_runtime_that_is_none(root, oci_gpu, edit):
    oci_gpu(*INSTALL)
    file = root / podman_runtime.FILE[1:]
    file.write_text(file.read_text().replace(*edit))
    assert not all(finding.ok for finding in podman.check(str(root)))


def test_it_is_podman_s_alone(oci_gpu):
    status, _, complaint = oci_gpu("install", "docker", "--runtime")
    assert status == 2
    assert "is for podman" in complaint

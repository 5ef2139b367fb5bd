"""Uninstalling one engine leaves what another one uses, and what an operator has made by hand."""

from __future__ import annotations

import json

import pytest

from oci_gpu_hook.admin.engines import docker, installations
from tests.unit.admin.engines.conftest import HOOK, RUNTIME, put, tree

HOOK_FILE = "usr/share/containers/oci/hooks.d/oci-gpu-hook.json"
SECOND = "/srv/second/daemon.json"


@pytest.mark.parametrize(("first", "second"), [("podman", "crio"), ("crio", "podman")])
def test_podman_and_cri_o_share_a_file(root, oci_gpu, first, second):
    before = tree(root)
    oci_gpu("install", first)
    oci_gpu("install", second)
    status, out, _ = oci_gpu("uninstall", first)
    assert (status, (root / HOOK_FILE).exists()) == (0, True)
    assert f"oci-gpu uninstall {second}" in out
    oci_gpu("uninstall", second)
    assert tree(root) == before


def test_an_engine_that_was_never_installed_into_keeps_nothing(root, oci_gpu):
    before = tree(root)
    oci_gpu("install", "podman")
    oci_gpu("uninstall", "podman")
    assert tree(root) == before


def test_without_a_record_the_file_is_that_of_all_who_read_it(root, oci_gpu):
    oci_gpu("install", "podman")
    (root / installations.PATH[1:]).unlink()
    assert "stays for CRI-O" in oci_gpu("uninstall", "podman")[1]
    assert (root / HOOK_FILE).exists()
    (root / "usr/bin/crio").unlink()
    oci_gpu("uninstall", "podman")
    assert not (root / HOOK_FILE).exists()


def test_two_dockers_share_the_name_that_docker_gpus_calls(root, oci_gpu):
    put(root, SECOND, "{}")
    before = tree(root)
    oci_gpu("install", "docker")
    oci_gpu("install", "docker", "--file", SECOND)
    link = root / docker.HOOK_LINK[1:]
    status, out, _ = oci_gpu("uninstall", "docker", "--file", SECOND)
    assert (status, link.is_symlink()) == (0, True)
    assert f"{docker.HOOK_LINK} stays" in out
    oci_gpu("install", "docker", "--file", SECOND)
    oci_gpu("uninstall", "docker")
    assert link.is_symlink()
    oci_gpu("uninstall", "docker", "--file", SECOND)
    assert tree(root) == before


def test_a_second_docker_whose_file_is_gone_needs_nothing(root, oci_gpu):
    oci_gpu("install", "docker")
    oci_gpu("install", "docker", "--file", SECOND)
    (root / SECOND[1:]).unlink()
    oci_gpu("uninstall", "docker")
    assert not (root / docker.HOOK_LINK[1:]).is_symlink()


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_runtime_entry_of_the_operators_stays(root, oci_gpu, is_recorded):
    own = {"path": "/opt/other/oci-gpu-runtime", "runtimeArgs": ["--debug"]}
    file = put(root, docker.FILE, json.dumps({"runtimes": {"mine": own}}))
    oci_gpu("install", "docker")
    if not is_recorded:
        (root / installations.PATH[1:]).unlink()
    oci_gpu("uninstall", "docker")
    assert json.loads(file.read_text()) == {"runtimes": {"mine": own}}


def test_the_second_name_goes_with_the_first(root, oci_gpu):
    file = put(root, docker.FILE, '{"debug": true}')
    oci_gpu("install", "docker", "--also-as", "nvidia")
    oci_gpu("install", "docker")
    oci_gpu("uninstall", "docker")
    assert json.loads(file.read_text()) == {"debug": True}


def test_no_default_runtime_stays_that_is_not_there(root, oci_gpu):
    file = put(root, docker.FILE, '{"debug": true}')
    oci_gpu("install", "docker", "--also-as", "gpus")
    file.write_text(file.read_text().replace('"debug": true', '"default-runtime": "gpus"'))
    oci_gpu("uninstall", "docker")
    assert json.loads(file.read_text()) == {}


def test_a_damaged_record_is_said_and_changes_nothing(root, oci_gpu):
    oci_gpu("install", "docker")
    for text in ("{", "3", "[3]", '[{"engine": 3}]', '[{"other": "x"}]'):
        put(root, installations.PATH, text)
        before = tree(root)
        for command in ("install", "uninstall"):
            status, _, complaint = oci_gpu(command, "docker")
            assert (status, tree(root)) == (1, before)
            assert "remove it" in complaint


def test_all_takes_everything_out_wherever_it_is(root, oci_gpu):
    put(root, SECOND, "{}")
    put(root, "/etc/k3s/config.toml", "version = 2\n")
    (root / "srv/hooks").mkdir(parents=True)
    before = tree(root)
    oci_gpu("install", "docker", "--also-as", "gpus")
    oci_gpu("install", "docker", "--file", SECOND)
    oci_gpu("install", "containerd", "--file", "/etc/k3s/config.toml")
    oci_gpu("install", "podman")
    oci_gpu("install", "crio", "--hooks-directory", str(root / "srv/hooks")[len(str(root)) :])
    put(root, "/var/run/cdi/oci-gpu-hook-nvidia.com-gpu.yaml", "x")
    there = tree(root)
    status, _, shown = oci_gpu("uninstall", "--all", "--dry-run")
    assert (status, tree(root)) == (0, there)
    assert f"would remove {root}{HOOK}" in shown
    assert oci_gpu("uninstall", "--all")[0] == 0
    assert tree(root) == {path: about for path, about in before.items() if f"/{path}" not in (HOOK, RUNTIME)}
    assert oci_gpu("uninstall", "--all")[0] == 0


def test_all_goes_on_after_a_file_that_it_may_not_change(root, oci_gpu):
    oci_gpu("install", "podman")
    put(root, docker.FILE, "{not json")
    status, _, complaint = oci_gpu("uninstall", "--all")
    assert status == 1
    assert "dockerd reads" in complaint
    assert not (root / HOOK_FILE).exists()
    assert (root / installations.PATH[1:]).exists()


@pytest.mark.parametrize("arguments", [(), ("docker", "--all")])
def test_an_engine_or_all(oci_gpu, arguments):
    status, _, complaint = oci_gpu("uninstall", *arguments)
    assert status == 2
    assert "takes an engine, or --all" in complaint


def test_uninstalling_everything_says_that_there_is_nothing(root, oci_gpu):
    oci_gpu("install", "docker")
    assert "Nothing is installed." not in oci_gpu("uninstall", "--all")[1]
    assert oci_gpu("uninstall", "--all")[:2] == (0, "Nothing is installed.\n")

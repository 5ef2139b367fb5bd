"""`hooks_dir`, wherever Podman and CRI-O are told it: the hook is put there, and the doctor looks there."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.admin.cli import main
from oci_gpu_hook.admin.engines import crio, hooks_directories, podman
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.hooks_directories import USUAL

HOOK = "/usr/libexec/oci-gpu-hook/oci-gpu-hook"
OWN = "/etc/containers/oci/hooks.d"
SAYS_OWN = f'[engine]\nhooks_dir = ["{OWN}"]\n'


@pytest.fixture
def root(tmp_path):
    for path in ("usr/bin/podman", "usr/bin/crio", HOOK[1:]):
        program = tmp_path / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return tmp_path


@pytest.fixture
def put(root):
    def write(path, text):
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write


def hooks(root) -> set[str]:
    """Return the directories that the hook is registered in."""
    return {f"/{path.parent.relative_to(root)}" for path in root.rglob("oci-gpu-hook.json")}


FILES = [
    "/usr/share/containers/containers.conf",
    "/etc/containers/containers.conf",
    "/etc/containers/containers.conf.d/10-site.conf",
    "/usr/share/containers/containers.conf.d/10-site.conf",
]


@pytest.mark.parametrize("file", FILES)
def test_podman_gets_the_hook_where_it_looks(root, put, file):
    put(file, SAYS_OWN)
    before = podman.check(str(root))
    assert [finding.ok for finding in before] == [False]
    assert f"{root}{OWN}, where it reads hooks, as {file} says" in before[0].text
    assert main.main(["install", "podman", "--root", str(root)]) == 0
    assert hooks(root) == {OWN}
    assert [finding.ok for finding in podman.check(str(root))] == [True]
    assert main.main(["install", "podman", "--root", str(root), "--dry-run"]) == 0
    assert main.main(["uninstall", "podman", "--root", str(root)]) == 0
    assert hooks(root) == set()


def test_the_doctor_sees_a_hook_where_nobody_looks(root, put):
    assert main.main(["install", "podman", "--root", str(root)]) == 0
    assert [finding.ok for finding in podman.check(str(root))] == [True]
    put(FILES[1], SAYS_OWN)
    assert [finding.ok for finding in podman.check(str(root))] == [False]
    assert main.main(["install", "podman", "--root", str(root)]) == 0
    assert hooks(root) == {USUAL, OWN}
    assert main.main(["uninstall", "podman", "--root", str(root)]) == 0
    assert hooks(root) == set()


@pytest.mark.parametrize("whose", ["rootful", "rootless"])
def test_root_and_users_may_have_directories_of_their_own(root, put, whose):
    put(f"/etc/containers/containers.{whose}.conf.d/1.conf", SAYS_OWN)
    assert main.main(["install", "podman", "--root", str(root)]) == 0
    assert hooks(root) == {USUAL, OWN}
    assert [finding.ok for finding in podman.check(str(root))] == [True, True]
    (root / OWN[1:] / "oci-gpu-hook.json").unlink()
    findings = {finding.text.partition(" does not")[0]: finding.ok for finding in podman.check(str(root))}
    assert findings["Podman" if whose == "rootful" else "Podman of users"] is False


def test_later_files_go_before_earlier_ones(root, put):
    put(FILES[1], '[engine]\nhooks_dir = ["/a"]\n')
    put("/etc/containers/containers.conf.d/1.conf", '[engine]\nhooks_dir = ["/b", "/c/"]\n')
    put("/etc/containers/containers.conf.d/2.conf", "[engine]\n")
    put("/etc/containers/containers.conf.d/3.not", '[engine]\nhooks_dir = ["/d"]\n')
    found = hooks_directories.of_podman(str(root))
    assert (found.paths, found.said_in) == (("/b", "/c"), "/etc/containers/containers.conf.d/1.conf")


def test_lists_may_append(root, put):
    put(FILES[1], '[engine]\nhooks_dir = ["/a", {append = true}]\n')
    put("/etc/containers/containers.conf.d/1.conf", '[engine]\nhooks_dir = ["/b"]\n')
    assert hooks_directories.of_podman(str(root)).paths == (USUAL, "/a", "/b")
    put("/etc/containers/containers.conf.d/2.conf", '[engine]\nhooks_dir = ["/c", {append = false}]\n')
    assert hooks_directories.of_podman(str(root)).paths == ("/c",)


def test_a_directory_that_is_there_is_preferred(root, put):
    put(FILES[1], '[engine]\nhooks_dir = ["/a", "/b"]\n')
    (root / "a").mkdir()
    assert main.main(["install", "podman", "--root", str(root)]) == 0
    assert hooks(root) == {"/a"}


@pytest.mark.parametrize("wrong", ["[engine", "\xff", "[engine]\nhooks_dir = []\n"])
def test_what_no_hook_can_be_registered_by_is_said(root, put, capsys, wrong):
    put(FILES[1], "").write_bytes(wrong.encode("latin-1"))
    assert main.main(["install", "podman", "--root", str(root)]) == 1
    assert "containers.conf" in capsys.readouterr().err
    assert hooks(root) == set()
    (finding,) = podman.check(str(root))
    assert not finding.ok


@pytest.mark.parametrize("value", ['"text"', "[1]", "{}", "[[]]"])
def test_values_of_another_kind_do_no_harm(root, put, value):
    put(FILES[1], f"[engine]\nhooks_dir = {value}\n")
    try:
        hooks_directories.of_podman(str(root))
    except EngineFileError:
        pytest.fail("podman itself reads such a file, or refuses it")
    podman.check(str(root))


@pytest.mark.parametrize("file", ["/etc/crio/crio.conf", "/etc/crio/crio.conf.d/10-x.conf"])
def test_crio_gets_the_hook_where_it_looks(root, put, file):
    put(file, f'[crio.runtime]\nhooks_dir = ["{OWN}"]\n')
    assert [finding.ok for finding in crio.check(str(root))] == [False]
    assert main.main(["install", "crio", "--root", str(root)]) == 0
    assert hooks(root) == {OWN}
    assert [finding.ok for finding in crio.check(str(root))] == [True]


def test_a_linked_file_is_read(root, put):
    put("/usr/share/site.conf", SAYS_OWN)
    (root / "etc/containers").mkdir(parents=True)
    os.symlink("/usr/share/site.conf", root / "etc/containers/containers.conf")
    assert hooks_directories.of_podman(str(root)).paths == (OWN,)


def test_a_user_s_own_file_counts_for_that_user(root, put, tmp_path, monkeypatch):
    own = tmp_path / "home/containers/containers.conf"
    own.parent.mkdir(parents=True)
    own.write_text(SAYS_OWN)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert hooks_directories.of_rootless_podman("/").paths == (OWN,)
    assert hooks_directories.of_podman("/").paths != (OWN,)

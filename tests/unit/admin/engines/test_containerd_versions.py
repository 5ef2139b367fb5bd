"""The version of the file that `oci-gpu install containerd` makes where there is none."""

from __future__ import annotations

import tomllib

import pytest

from oci_gpu_hook.admin.cli import main

PLUGINS = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
SAID = {
    "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3": 2,
    "containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+b4": 2,
    "containerd containerd.io v2.0.0 207ad711eabd375a01713109a8a197d197ff6542": 3,
    "containerd github.com/containerd/containerd/v2 2.1.4~ds2-4": 3,
    "nonsense": 2,
}


@pytest.fixture
def containerd(tmp_path, monkeypatch):
    """Where engines are looked for: a containerd that says what it is told to."""
    monkeypatch.setattr("oci_gpu_hook.admin.engines.programs.DIRECTORIES", (str(tmp_path),))
    (tmp_path / "runc").write_text("#!/bin/sh\n")
    (tmp_path / "runc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def says(text):
        program = tmp_path / "containerd"
        program.write_text(f"#!/bin/sh\necho '{text}'\n")
        program.chmod(0o755)

    return says


@pytest.mark.parametrize("says", SAID)
def test_a_new_file_is_of_the_newest_version_that_containerd_reads(containerd, tmp_path, says):
    containerd(says)
    file = tmp_path / "config.toml"
    arguments = ("containerd", "--file", str(file), "--directory", str(tmp_path / "libexec"))
    assert main.main(["install", *arguments]) == 0
    config = tomllib.loads(file.read_text())
    assert config["version"] == SAID[says]
    assert "oci-gpu" in config["plugins"][PLUGINS[SAID[says]]]["containerd"]["runtimes"]
    once = file.read_bytes()
    assert main.main(["install", *arguments]) == 0
    assert file.read_bytes() == once
    containerd("containerd x 3.0.0")  # upgraded meanwhile
    assert main.main(["uninstall", *arguments]) == 0
    assert not file.exists()


def test_a_file_that_is_there_keeps_its_version(containerd, tmp_path):
    containerd("containerd x 2.1.0")
    file = tmp_path / "config.toml"
    file.write_text("version = 2")
    arguments = ("containerd", "--file", str(file), "--directory", str(tmp_path / "libexec"))
    assert main.main(["install", *arguments]) == 0
    assert tomllib.loads(file.read_text())["version"] == 2
    assert main.main(["uninstall", *arguments]) == 0
    assert file.read_text() == "version = 2"

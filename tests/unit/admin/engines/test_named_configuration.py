"""`oci-gpu --config FILE install ENGINE`: the engine has containers started with that file, or the command refuses."""

from __future__ import annotations

import json

import pytest

from oci_gpu_hook.admin.cli import main
from tests.unit.admin.engines.conftest import tree

HOOK_FILE = "usr/share/containers/oci/hooks.d/oci-gpu-hook.json"


@pytest.fixture
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("configuration") / "config.toml"
    file.write_text("")
    return str(file)


@pytest.mark.parametrize("engine", ["podman", "crio"])
def test_hooks_d_names_it(root, config, engine):
    assert main.main(["--config", config, "install", engine, "--root", str(root)]) == 0
    assert json.loads((root / HOOK_FILE).read_text())["hook"]["args"] == [
        "oci-gpu-hook",
        "--config",
        config,
        "prestart",
    ]


@pytest.mark.parametrize("engine", ["docker", "containerd", "slurm"])
def test_what_calls_without_options_refuses_it(root, config, engine, capsys):
    before = tree(root)
    assert main.main(["--config", config, "install", engine, "--root", str(root)]) == 2
    assert f"cannot be used with {engine}" in capsys.readouterr().err
    assert tree(root) == before


@pytest.mark.parametrize(
    "command", [("install", "podman"), ("info",), ("leases",), ("request", "/bundle"), ("verify",)]
)
def test_a_file_that_is_not_there_is_an_error(tmp_path, command, capsys):
    assert main.main(["--config", str(tmp_path / "none.toml"), *command]) == 1
    assert "none.toml': does not exist; " in capsys.readouterr().err

"""`oci-gpu install docker --swarm`: the GPUs in daemon.json, the variable in config.toml, and both out again."""

from __future__ import annotations

import json
import tomllib

import pytest

from oci_gpu_hook.admin.cli import main
from oci_gpu_hook.admin.engines import docker, docker_swarm, files
from oci_gpu_hook.admin.engines.files import EngineFileError
from oci_gpu_hook.admin.engines.model import Target
from tests.runtime.fixtures import oci_gpu as command
from tests.unit.admin.engines.conftest import HOOK, RUNTIME, put, tree
from tests.unit.admin.engines.test_engines import DAEMON_JSON

CONFIG = "/etc/oci-gpu-hook/config.toml"
VARIABLE = "DOCKER_RESOURCE_NVIDIA-GPU"
CONFIGS = {
    "absent": None,
    "empty": "",
    "other tables": '[log]\nlevel = "info"',
    "the table": '[request] # mine\ndisable-require = true\n\n[log]\nlevel = "info"\n',
    "the key, empty": '[request]\nswarm-resource = ""\ndisable-require = true\n',
}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    directory = tmp_path_factory.mktemp("host")
    command("simulate", directory, "--gpus", "2", "--no-device-nodes")
    return directory


@pytest.fixture
def install(root, host, monkeypatch):
    """Change the files below `root` as `install` and `uninstall` do, with the GPUs of a simulated host."""
    monkeypatch.setattr(docker_swarm, "check_place", lambda _target: None)

    def install(way: str = "install", kind: str = "NVIDIA-GPU"):
        target = Target(root=str(root), hook=HOOK, runtime=RUNTIME, swarm=kind, config=str(host / "config.toml"))
        steps = getattr(docker, way)(target)
        files.apply(steps.changes)
        return steps

    return install


@pytest.mark.parametrize("daemon", DAEMON_JSON)
def test_daemon_json_goes_in_and_out(root, install, daemon):
    file = put(root, docker.FILE, DAEMON_JSON[daemon])
    before = tree(root)
    install()
    found = json.loads(file.read_text())
    assert found["default-runtime"] == "oci-gpu"
    assert [each.partition("=")[0] for each in found["node-generic-resources"]] == ["NVIDIA-GPU"] * 2
    assert all(each.partition("=")[2].startswith("GPU-") for each in found["node-generic-resources"])
    once = tree(root)
    assert install().changes == ()
    assert tree(root) == once
    install("uninstall")
    assert tree(root) == before


@pytest.mark.parametrize("name", CONFIGS)
def test_config_toml_goes_in_and_out(root, install, name):
    put(root, docker.FILE, "{}")
    text = CONFIGS[name]
    if text is not None:
        put(root, CONFIG, text)
    before = tree(root)
    install()
    found = tomllib.loads((root / CONFIG[1:]).read_text())
    expected = tomllib.loads(text or "")
    assert found == {**expected, "request": {**expected.get("request", {}), "swarm-resource": VARIABLE}}
    install("uninstall")
    assert tree(root) == before


def test_of_a_config_that_was_edited_only_the_key_goes(root, install):
    put(root, docker.FILE, "{}")
    file = put(root, CONFIG, '[log]\nlevel = "info"\n')
    install()
    file.write_text(file.read_text() + "disable-require = true\n")
    install("uninstall")
    assert tomllib.loads(file.read_text()) == {"log": {"level": "info"}, "request": {"disable-require": True}}


def test_resources_of_other_kinds_stay(root, install):
    file = put(root, docker.FILE, '{"node-generic-resources": ["fpga=2", "NVIDIA-GPU=GPU-gone"]}')
    install()
    assert (listed := json.loads(file.read_text())["node-generic-resources"])[0] == "fpga=2"
    assert len(listed) == 3
    assert "NVIDIA-GPU=GPU-gone" not in listed
    file.write_text(file.read_text() + "\n")
    install("uninstall")
    assert json.loads(file.read_text()) == {"node-generic-resources": ["fpga=2"]}


def test_a_kind_of_ones_own(root, install):
    put(root, docker.FILE, "{}")
    put(root, CONFIG, 'request.swarm-resource = ["DOCKER_RESOURCE_GPU"]\n')
    steps = install(kind="gpu")
    assert "--generic-resource gpu=1" in str(steps.notes)
    assert (root / CONFIG[1:]).read_text() == 'request.swarm-resource = ["DOCKER_RESOURCE_GPU"]\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[request]\nswarm-resource = "DOCKER_RESOURCE_X"\n', "has another swarm-resource: 'DOCKER_RESOURCE_X'"),
        ('request = {swarm-resource = ""}\n', "cannot be extended"),
        ("[request\n", "is not TOML"),
    ],
)
def test_what_is_not_as_expected_is_left_untouched(root, install, text, why):
    put(root, docker.FILE, "{}")
    put(root, CONFIG, text)
    before = tree(root)
    with pytest.raises(EngineFileError, match=why):
        install()
    assert tree(root) == before


@pytest.mark.parametrize("kind", ["a b", "a=b", "é", "a,b", "-"])
def test_kinds_that_cannot_be(root, kind, capsys):
    before = tree(root)
    assert main.main(["install", "docker", "--swarm", kind, "--dry-run"]) == 1
    assert "cannot be a kind of resources" in capsys.readouterr().err
    assert tree(root) == before


def test_an_image_has_no_gpus(root, capsys):
    assert main.main(["install", "docker", "--swarm", "--root", str(root)]) == 1
    assert "needs the GPUs of the node" in capsys.readouterr().err
    assert main.main(["install", "podman", "--swarm"]) == 2
    assert "is for docker, not podman" in capsys.readouterr().err


def test_the_doctor(root, install):
    file = put(root, docker.FILE, "{}")
    install()
    assert "Docker Swarm hands out 2 NVIDIA-GPU" in [each.text for each in docker.check(str(root)) if each.ok]
    (root / CONFIG[1:]).write_text("")
    file.write_text(file.read_text().replace('"default-runtime": "oci-gpu"', '"debug": false'))
    bad = [each.text for each in docker.check(str(root)) if not each.ok and "Swarm" in each.text]
    assert len(bad) == 2
    assert f"swarm-resource does not name {VARIABLE}" in bad[0]
    assert "oci-gpu is not the default runtime" in bad[1]

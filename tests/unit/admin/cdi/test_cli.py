"""`oci-gpu cdi`: what it prints, writes and refuses, on simulated hosts."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from oci_gpu_hook.admin.cli.main import main
from oci_gpu_hook.admin.install import place
from oci_gpu_hook.devices.cdi.spec_files import reading

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """A host with two GPUs, and one with a GPU that is divided."""
    base = tmp_path_factory.mktemp("hosts")
    assert main(["simulate", f"{base}/plain", "--gpus", "2"]) == 0
    assert main(["simulate", f"{base}/mig", "--gpus", "1", "--product", "A100", "--mig"]) == 0
    return base


@pytest.fixture
def cdi(hosts, capfd):
    """Run the command on a simulated host; return exit status, stdout and stderr."""

    def run(*arguments, host="plain"):
        capfd.readouterr()
        status = main(["--config", f"{hosts}/{host}/config.toml", "cdi", *map(str, arguments)])
        return status, *capfd.readouterr()

    return run


def generated(cdi, *arguments, **options):
    status, out, _ = cdi("generate", *arguments, **options)
    assert status == 0
    found = reading.parse(out.encode(), is_json=False)
    assert found.problems == ()
    return found.specification


def nodes(edits):
    return {node.path for node in edits.device_nodes}


def test_devices_by_index_uuid_and_all(cdi):
    specification = generated(cdi)
    names = [device.name for device in specification.devices]
    assert names[0] == "0"
    assert names[2] == "1"
    assert names[4:] == ["all"]
    assert names[1].startswith("GPU-")
    by_name = {device.name: nodes(device.edits) for device in specification.devices}
    assert "/dev/nvidia0" in by_name["0"] == by_name[names[1]]
    assert "/dev/nvidia1" not in by_name["0"]
    assert by_name["all"] == by_name["0"] | by_name["1"]
    assert {"/dev/nvidiactl", "/dev/nvidia-uvm"} <= nodes(specification.edits)
    assert nodes(specification.edits).isdisjoint(by_name["all"])


@pytest.mark.parametrize(("names", "count"), [("index", 3), ("uuid", 3), ("both", 5)])
def test_names_may_be_chosen(cdi, names, count):
    assert len(generated(cdi, "--name", names).devices) == count


def test_the_version_is_the_lowest_that_holds_it(cdi):
    assert generated(cdi).cdi_version == "0.5.0"
    specification = generated(cdi, "--additional-gids")
    assert specification.cdi_version == "0.7.0"
    assert any(device.edits.additional_gids for device in specification.devices)


def test_capabilities_choose_the_files(cdi):
    def libraries(specification):
        return {os.path.basename(mount.container_path).partition(".so")[0] for mount in specification.edits.mounts}

    every = libraries(generated(cdi))
    utility = libraries(generated(cdi, "--capabilities", "utility"))
    assert "libnvidia-ml" in utility
    assert "libcuda" in every - utility
    status, _, err = cdi("generate", "--capabilities", "computing")
    assert status == 2
    assert "'computing' is unknown" in err


def test_mounts_are_read_only_and_private(cdi):
    for mount in generated(cdi).edits.mounts:
        assert {"nosuid", "nodev", "bind", "private"} <= set(mount.options)
        assert "ro" in mount.options or mount.host_path.startswith(("/run", "/tmp")) or "run" in mount.host_path


def test_there_is_one_hook_and_no_second_tool(cdi):
    specification = generated(cdi)
    (hook,) = specification.edits.hooks
    assert hook.hook_name == "createContainer"
    assert hook.args[0] == os.path.basename(hook.path)
    assert os.access(hook.path, os.X_OK)
    assert specification.edits.env[-1] == "NVIDIA_VISIBLE_DEVICES=void"


def test_libraries_are_where_the_drivers_root_has_them(cdi):
    """The root is a directory of the host's own; a container has the paths in it, as by NVIDIA's toolkit."""
    specification = generated(cdi)
    paths = [mount.container_path for mount in specification.edits.mounts]
    places = [os.path.dirname(path) for path in paths if os.path.basename(path).startswith("libcuda.so.")]
    assert {os.path.dirname(place) for place in places} == {"/usr/lib"}
    assert specification.edits.env[0] == f"NVIDIA_CTK_LIBCUDA_DIR={places[0]}"
    assert "i386" not in places[0]


def test_mig_devices(cdi):
    specification = generated(cdi, host="mig")
    by_name = {device.name: nodes(device.edits) for device in specification.devices}
    assert {"0", "0:0", "all"} <= set(by_name)
    assert any(name.startswith("MIG-") for name in by_name)
    capabilities = {path for path in by_name["0:0"] if path.startswith("/dev/nvidia-caps/")}
    assert len(capabilities) == 2
    assert capabilities <= by_name["all"]
    only = generated(cdi, "--class", "mig", host="mig")
    assert only.kind == "nvidia.com/mig"
    assert {device.name for device in only.devices} == {n for n in by_name if ":" in n or n.startswith("MIG-")}


# What nvidia-ctk's modes of these names give: their nodes, and mounts (pkg/nvcdi: gds, mofed, nvswitch, gdrcopy, imex).
CLASSES = {
    "imex-channel": (r"/dev/nvidia-caps-imex-channels/channel\d+", set()),
    "gds": (r"/dev/nvidia-fs\d+", {"/run/udev", "/etc/cufile.json"}),
    "mofed": (r"/dev/infiniband/(uverbs\d+|rdma_cm)", set()),
    "nvswitch": (r"/dev/nvidia-nvswitch(ctl|\d+)", set()),
    "gdrcopy": (r"/dev/gdrdrv", set()),
}


@pytest.mark.parametrize("name", CLASSES)
def test_other_classes(cdi, name):
    specification = generated(cdi, "--class", name)
    assert specification.kind == f"nvidia.com/{name}"
    pattern, mounts = CLASSES[name]
    names = [device.name for device in specification.devices]
    assert names == (["0", "1", "all"] if name == "imex-channel" else ["all"])
    for device in specification.devices:
        assert device.edits.device_nodes
        assert all(re.fullmatch(pattern, path) for path in nodes(device.edits))
        assert {mount.container_path for mount in device.edits.mounts} == mounts


def test_a_class_that_the_host_has_nothing_of(cdi):
    status, out, err = cdi("generate", "--class", "mig")
    assert (status, out) == (1, "")
    assert "this host has no device of that class" in err


def test_json_and_yaml_are_the_same(cdi, tmp_path):
    _, out, _ = cdi("generate")
    assert cdi("generate", "--output", tmp_path / "x.json")[0] == 0
    assert json.loads((tmp_path / "x.json").read_text()) == yaml.safe_load(out)
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o644


def test_what_nvidias_toolkit_gives_is_given(cdi):
    """By meaning: each library, program and node that it gives for a host of four H100 with the same driver.

    Not given: its own variable for its own hook; nvidia-persistenced, the host's daemon (the hook does not give it
    either; capabilities.py); Vulkan's file goes to /usr/share, where the driver has it.
    """
    theirs = reading.parse((ROOT / "tests/data/cdi/nvidia_toolkit_4xh100.yaml").read_bytes(), is_json=False)
    assert theirs.specification
    ours = generated(cdi)

    def files(specification):
        return {os.path.basename(mount.container_path) for mount in specification.edits.mounts}

    def stems(specification):
        return {name.partition(".so")[0] for name in files(specification)}

    assert stems(theirs.specification) - stems(ours) <= {"nvidia-persistenced"}
    assert nodes(theirs.specification.edits) <= nodes(ours.edits)


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "cdi"
    path.mkdir(mode=0o755)
    return path


def outcomes(cdi, directory, **options):
    status, out, err = cdi("refresh", "--json", "--output", directory, **options)
    assert status == 0, err
    found = json.loads(out)
    jsonschema.validate(found, json.loads((ROOT / "schemas/cdi-refresh.schema.json").read_text()))
    return {os.path.basename(each["path"]): each["outcome"] for each in found}


def test_refresh_writes_once(cdi, directory):
    first = outcomes(cdi, directory)
    assert set(first.values()) == {"written"}
    assert "oci-gpu-hook-nvidia.com-gpu.yaml" in first
    before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    assert set(outcomes(cdi, directory).values()) == {"unchanged"}
    assert before == {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    (directory / "oci-gpu-hook-nvidia.com-gpu.yaml").write_text("damaged")
    assert outcomes(cdi, directory)["oci-gpu-hook-nvidia.com-gpu.yaml"] == "written"


def test_refresh_removes_what_the_host_has_not_any_more(cdi, directory, hosts):
    outcomes(cdi, directory)
    dev = hosts / "plain/dev"
    shutil.move(dev / "gdrdrv", hosts / "gdrdrv")
    try:
        assert outcomes(cdi, directory)["oci-gpu-hook-nvidia.com-gdrcopy.yaml"] == "removed"
    finally:
        shutil.move(hosts / "gdrdrv", dev / "gdrdrv")
    assert not (directory / "oci-gpu-hook-nvidia.com-gdrcopy.yaml").exists()


def test_refresh_refuses_beside_a_file_with_the_same_devices(cdi, directory):
    shutil.copy(ROOT / "tests/data/cdi/nvidia_toolkit_4xh100.yaml", directory / "nvidia.yaml")
    (directory / "nvidia.yaml").chmod(0o644)
    status, _, err = cdi("refresh", "--output", directory)
    assert status == 1
    assert "nvidia.com/gpu=0" in err
    assert "nvidia-cdi-refresh" in err
    assert [path.name for path in directory.iterdir()] == ["nvidia.yaml"]


def test_list_as_json(cdi, directory, tmp_path, capfd):
    outcomes(cdi, directory)
    (directory / "broken.yaml").write_text("kind: x\n")
    config = tmp_path / "config.toml"
    config.write_text(f'[cdi]\nspec-dirs = ["{directory}"]\n')
    capfd.readouterr()
    assert main(["--config", str(config), "cdi", "list", "--json"]) == 1
    out, err = capfd.readouterr()
    found = json.loads(out)
    jsonschema.validate(found, json.loads((ROOT / "schemas/cdi-list.schema.json").read_text()))
    assert "nvidia.com/gpu=all" in [device["name"] for device in found["devices"]]
    assert "broken.yaml" in found["problems"][0]
    assert "broken.yaml" in err
    (directory / "broken.yaml").unlink()
    assert main(["--config", str(config), "cdi", "list"]) == 0
    assert "nvidia.com/imex-channel=0" in capfd.readouterr().out


def test_validate(capfd, tmp_path):
    assert main(["cdi", "validate", str(ROOT / "tests/data/cdi/nvidia_toolkit_4xh100.yaml")]) == 0
    assert "valid: nvidia.com/gpu, 9 devices, CDI 0.5.0" in capfd.readouterr().out
    (tmp_path / "x.json").write_text('{\n "kind": "a"\n}\n')
    assert main(["cdi", "validate", str(tmp_path / "x.json")]) == 1
    assert "line 1: cdiVersion is missing" in capfd.readouterr().out
    assert main(["cdi", "validate", str(tmp_path / "absent")]) == 1
    assert "No such file" in capfd.readouterr().err


class TestTheHookThatItNames:
    """What prints a specification installs nothing, and what is written into a file means the same everywhere."""

    @pytest.fixture
    def nothing_installed(self, monkeypatch, tmp_path):
        monkeypatch.setattr(place, "default_directory", lambda: str(tmp_path / "own"))
        monkeypatch.setattr(place, "SYSTEM_DIRECTORY", str(tmp_path / "system"))
        return tmp_path

    @pytest.mark.parametrize("output", [(), ("--output", "nvidia.yaml")], ids=["printed", "into a file"])
    def test_generate_installs_none(self, cdi, nothing_installed, monkeypatch, output):
        monkeypatch.chdir(nothing_installed)
        status, out, err = cdi("generate", *output)
        assert (status, out) == (1, "")
        assert "oci-gpu hook-path" in err
        assert "OGH1920" in err
        assert [*nothing_installed.iterdir()] == []

    @pytest.mark.parametrize("where", ["own", "system"])
    def test_generate_names_the_installed_one(self, cdi, nothing_installed, where):
        hook = nothing_installed / where / "oci-gpu-hook"
        hook.parent.mkdir()
        hook.touch(0o755)
        (named,) = generated(cdi).edits.hooks
        assert named.path == str(hook)
        assert [*hook.parent.iterdir()] == [hook]

    @pytest.mark.parametrize("name", ["imex-channel", "gds"])
    def test_a_class_without_a_hook_needs_none(self, cdi, nothing_installed, name):
        assert generated(cdi, "--class", name).edits.hooks == ()

    def test_refresh_installs_it(self, cdi, nothing_installed, directory):
        outcomes(cdi, directory)
        assert (nothing_installed / "own/oci-gpu-hook").exists()

    @pytest.mark.parametrize("action", ["generate", "refresh"])
    def test_a_hook_by_a_relative_path_is_refused(self, cdi, directory, action):
        """Engines resolve it in a directory of their own, and refuse it."""
        output = directory if action == "refresh" else directory / "nvidia.yaml"
        status, out, err = cdi(action, "--hook-path", "bin/oci-gpu-hook", "--output", output)
        assert (status, out) == (2, "")
        assert "--hook-path 'bin/oci-gpu-hook': is not an absolute path" in err
        assert [*directory.iterdir()] == []

    def test_a_configuration_by_a_relative_path_is_named_by_its_whole_path(self, hosts, monkeypatch, capfd):
        """The engine starts the hook in a directory of its own."""
        monkeypatch.chdir(hosts / "plain")
        assert main(["--config", "config.toml", "cdi", "generate", "--hook-path", "/hook"]) == 0
        made = yaml.safe_load(capfd.readouterr().out)
        (hook,) = made["containerEdits"]["hooks"]
        assert hook["args"][1:3] == ["--config", str(hosts / "plain/config.toml")]

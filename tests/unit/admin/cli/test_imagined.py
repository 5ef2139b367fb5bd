"""`oci-gpu plan` of a container that nobody has made, and the names that it nearly asks by."""

from __future__ import annotations

import json
import os

import pytest

from oci_gpu_hook.admin.cli import main
from oci_gpu_hook.admin.simulate.host import make


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    made = make(str(tmp_path_factory.mktemp("gpu") / "host"), gpus=4, device_nodes=os.geteuid() == 0)
    return str(made.config)


@pytest.fixture
def plan(config, capsys):
    if os.geteuid() != 0:
        pytest.skip("needs root (device nodes of the simulated host)")

    def run(*options):
        status = main.main(["--config", config, "plan", *map(str, options)])
        return status, *capsys.readouterr()

    return run


def test_by_a_variable(plan):
    status, out, _ = plan("--env", "NVIDIA_VISIBLE_DEVICES=1", "--env", "NVIDIA_DRIVER_CAPABILITIES=utility")
    assert status == 0
    assert "GPU 1  NVIDIA H100 80GB HBM3" in out
    assert "Warnings" not in out


def test_by_count(plan):
    status, out, _ = plan("--count", "2", "--memory", "40GiB", "--exclusive", "--json")
    seen = json.loads(out)
    assert (status, len(seen["gpus"])) == (0, 2)
    assert (seen["request"]["count"], seen["request"]["exclusive"]) == (2, True)


def test_what_would_be_refused(plan):
    status, out, _ = plan("--count", "9")
    assert status == 1
    assert "oci-gpu-hook: error: " in out


def test_an_annotation(plan):
    assert "GPU 3" in plan("--annotation", "io.oci-gpu-hook.devices=3")[1]


def test_the_images_root(plan, tmp_path):
    (tmp_path / "image/usr/lib64").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    _, out, _ = plan("--env", "NVIDIA_VISIBLE_DEVICES=0", "--image-root", tmp_path / "image")
    assert "libraries go to /usr/lib64" in out
    assert sorted(tmp_path.rglob("*")) == before
    assert plan("--env", "NVIDIA_VISIBLE_DEVICES=0", "--image-root", tmp_path / "none")[0] == 1


def test_config_json_stands_for_its_bundle(plan, tmp_path):
    (tmp_path / "rootfs").mkdir()
    config = {"process": {"env": ["NVIDIA_VISIBLE_DEVICES=2"]}, "root": {"path": "rootfs"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert plan(tmp_path / "config.json") == plan(tmp_path)
    assert "GPU 2" in plan(tmp_path / "config.json")[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "plan: lacks a CONTAINER"),
        (("/bundle", "--count", "1"), "plan: takes a CONTAINER, or --env and its like"),
        (("--env", "X"), "--env 'X': has no '='"),
        (("--annotation", "X"), "--annotation 'X': has no '='"),
    ],
)
def test_wrong_usage(plan, options, said):
    status, out, complaint = plan(*options)
    assert (status, out) == (2, "")
    assert said in complaint


def test_a_setting_alone_is_told_what_it_lacks(plan):
    assert "OCI_GPU_COUNT=1" in plan("--env", "OCI_GPU_MEMORY=8GiB")[1]
    assert "OCI_GPU_COUNT=1" not in plan("--env", "OCI_GPU_MEMORY=8GiB", "--env", "OCI_GPU_COUNT=2")[1]


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        (("--env", "NVIDIA_VISIBLE_DEVICE=0"), "NVIDIA_VISIBLE_DEVICES"),
        (("--env", "nvidia_visible_devices=0"), "NVIDIA_VISIBLE_DEVICES"),
        (("--env", "OCIGPU_COUNT=0"), "OCI_GPU_COUNT"),
        (("--env", "OCI_GPU_CUONT=0"), "OCI_GPU_COUNT"),
        (("--annotation", "io.oci-gpu-hok.count=0"), "io.oci-gpu-hook.count"),
        (("--annotation", "io.oci-gpu-hook.cuont=0"), "io.oci-gpu-hook.count"),
        (("--annotation", "io.oci-gpu-hook/count=0"), "io.oci-gpu-hook.count"),
        (("--annotation", "oci-gpu-hook/memory=0"), "io.oci-gpu-hook.memory"),
    ],
)
def test_a_name_that_nearly_asks(plan, options, meant):
    status, out, _ = plan(*options)
    assert status == 0
    assert "asks for no GPU" in out
    assert f"is not read; did you mean {meant}?" in out


NOT_OURS = ("PATH", "NVIDIA_PRODUCT_NAME", "NVIDIA_REQUIRE_X", "CUDA_VISIBLE_DEVICES", "NVIDIA_GDS")


@pytest.mark.parametrize("name", NOT_OURS)
def test_a_name_of_others_is_not_suspected(plan, name):
    assert "did you mean" not in plan("--env", f"{name}=x")[1]

"""`oci-gpu request`, as people read it."""

from __future__ import annotations

import json

import pytest

from oci_gpu_hook.admin.cli import main
from tests.unit.nvidia.bundles import config_json


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(main, "COMMANDS", ("request",))

    def run(env, *arguments, config="", annotations=None, privileged=False):
        (tmp_path / "config.json").write_text(config_json(env, annotations=annotations, privileged=privileged))
        (tmp_path / "config.toml").write_text(config)
        status = main.main(["--config", str(tmp_path / "config.toml"), "request", str(tmp_path), *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_in_words(command):
    env = [
        "NVIDIA_VISIBLE_DEVICES=all",
        "OCI_GPU_COUNT=2",
        "OCI_GPU_MEMORY=40GiB",
        "OCI_GPU_EXCLUSIVE=1",
        "OCI_GPU_WAIT=9",
    ]
    env += [
        "NVIDIA_REQUIRE_CUDA=cuda>=12.4",
        "NVIDIA_REQUIRE_X=driver>=1",
        "NVIDIA_IMEX_CHANNELS=1",
        "NVIDIA_GDS=enabled",
    ]
    env += ["NVIDIA_MIG_CONFIG_DEVICES=all", "NVIDIA_DISABLE_REQUIRE=on"]
    status, out, err = command(env, privileged=True)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "GPUs:                 2 GPUs, whichever are free, each with at least 40 GiB, for this container alone",
        "asked for by:         environment",
        "driver capabilities:  compute, utility",
        "requirements:         'cuda>=12.4'",
        "                      'driver>=1'",
        "waits:                up to 9 s for GPUs to become free",
        "MIG configuration:    'all'",
        "IMEX channels:        1",
        "features:             gds",
        "warning: NVIDIA_DISABLE_REQUIRE='on' disables nothing; only 1, t, T, true, TRUE and True do",
    ]


@pytest.mark.parametrize(
    ("devices", "words"),
    [("0,1", "0, 1"), ("none", "none (driver files only)"), ("1g.10gb", "1 MIG device 1g.10gb, whichever is free")],
)
def test_which_gpus(command, devices, words):
    assert f"GPUs:                 {words}\n" in command([f"NVIDIA_VISIBLE_DEVICES={devices}"])[1]


def test_no_request_says_why(command):
    config = "[request]\naccept-nvidia-visible-devices-envvar-when-unprivileged = false"
    status, out, _ = command(["NVIDIA_VISIBLE_DEVICES=all"], config=config)
    assert status == 0
    assert out.startswith(
        "The container asks for no GPU.\nwarning: GPUs asked for by NVIDIA_VISIBLE_DEVICES are not given"
    )


def test_json(command):
    assert json.loads(command([], "--json")[1]) is None
    document = json.loads(command(["NVIDIA_VISIBLE_DEVICES=0"], "--json")[1])
    assert document == {
        "devices": ["0"],
        "count": None,
        "driverCapabilities": ["compute", "utility"],
        "requirements": [],
        "migConfigDevices": None,
        "migMonitorDevices": None,
        "imexChannels": [],
        "features": [],
        "source": "environment",
    }


def test_refusal_is_one_line(command):
    status, out, err = command(["NVIDIA_VISIBLE_DEVICES=0\n\x1b[2J"])
    assert (status, out) == (1, "")
    assert err.startswith(r"oci-gpu: error: NVIDIA_VISIBLE_DEVICES='0\n\x1b[2J': ")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()


def test_hostile_text_stays_on_its_line(command):
    out = command(["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_REQUIRE_X=\x1b[2J\nroot", "\x1b\n=1"])[1]
    assert all(line.isprintable() for line in out.splitlines())
    assert len(out.splitlines()) == 4


def test_a_directory_that_is_no_bundle(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(main, "COMMANDS", ("request",))
    config = tmp_path / "config.toml"
    config.touch()
    assert main.main(["--config", str(config), "request", str(tmp_path)]) == 1
    assert "config.json" in capsys.readouterr().err

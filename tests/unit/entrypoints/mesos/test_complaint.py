"""A Mesos task whose GPUs cannot be attached: its one line, and that it is counted."""

from __future__ import annotations

import pytest

from oci_gpu_hook.base import counts
from oci_gpu_hook.entrypoints.mesos import attach, complaint, proc_of_host


@pytest.fixture
def config(tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    path = tmp_path / "config.toml"
    path.write_text(f'[state]\ndir = "{tmp_path}/state"\n')
    return path


def test_a_refusal_is_shown_and_counted(config, tmp_path, capfd):
    complaint.complain("GPU 0: is held\x1b[31m; wait", "OGH1303", str(config))
    assert capfd.readouterr().err == "oci-gpu-hook: error: GPU 0: is held\\x1b[31m; wait [OGH1303]\n"
    assert counts.read(f"{tmp_path}/state") == {"refusals OGH1303": 1}


def test_a_bundle_that_is_gone(config, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(proc_of_host, "enter", lambda: None)  # this process is in no container
    assert attach.run([f"{tmp_path}/none"], str(config)) == 1
    assert capfd.readouterr().err.startswith("oci-gpu-hook: error: cannot read ")
    assert counts.read(f"{tmp_path}/state") == {"refusals OGH1002": 1}

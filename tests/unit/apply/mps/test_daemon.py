"""How a daemon that is coming up is asked whether it answers."""

from __future__ import annotations

import pytest

from oci_gpu_hook.apply.mps import place
from oci_gpu_hook.apply.mps.daemon import _Child
from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import ApplyError
from oci_gpu_hook.devices.model import Limiter


@pytest.mark.parametrize("said", ["", "echo Failed"])
def test_one_that_does_not_answer_is_asked_less_and_less_often(tmp_path, monkeypatch, said):
    """Each question starts a program: every 2 ms, on a busy host, that was what kept the daemon from coming up."""
    asked, program = tmp_path / "asked", tmp_path / "control"
    program.write_text(f"#!/bin/sh\necho >> {asked}\ncat > /dev/null\n{said}\n")
    program.chmod(0o755)
    monkeypatch.setattr(limits, "MPS_SECONDS", 0.5)
    limiter = Limiter(program=str(program), environment=(("PATH", "/bin:/usr/bin"),), commands=(), pipe="/tmp")
    socket = tmp_path / "state" / place.DIRECTORY / "PID-START-BOOT/pipe/control"
    socket.parent.mkdir(parents=True)
    socket.touch()
    with pytest.raises(ApplyError):
        _Child(str(tmp_path / "state"), 0, limiter, 0)._set_limits()
    assert 3 <= asked.read_text().count("\n") < 20

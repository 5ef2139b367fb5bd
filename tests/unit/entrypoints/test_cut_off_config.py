"""A config.json that is not whole says nothing of what was asked for: its container is refused, not started without."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.unit.nvidia.bundles import config_json, state_json

PROGRAM = "import sys; from oci_gpu_hook.entrypoints.hook import console; console()"
WHOLE = config_json(["PATH=/usr/bin"])


def prestart(directory, config):
    (directory / "config.json").write_text(config)
    command = [sys.executable, "-c", PROGRAM, "--config", str(directory / "none.toml"), "prestart"]
    state = state_json(str(directory))
    return subprocess.run(command, input=state, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("size", [0, 1, len(WHOLE) // 2, WHOLE.rindex(":")])
def test_a_part_is_refused(tmp_path, size):
    done = prestart(tmp_path, WHOLE[:size])
    assert done.returncode == 1
    assert "OGH1002" in done.stderr
    assert "config.json" in done.stderr


@pytest.mark.parametrize("end", ["", "\n", " \r\n\t"])
def test_all_of_it_asks_for_nothing(tmp_path, end):
    done = prestart(tmp_path, WHOLE + end)
    assert (done.returncode, done.stderr) == (0, "")

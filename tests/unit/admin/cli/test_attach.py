"""The command lines of `oci-gpu attach` and `detach`: what they refuse before they look for a container."""

from __future__ import annotations

import pytest

from oci_gpu_hook.admin.cli import main as cli


@pytest.mark.parametrize("names", ["", ",", " , "])
@pytest.mark.parametrize("words", [("attach", "web", "--devices"), ("detach", "web", "--devices")])
def test_an_empty_list_does_not_mean_all(capsys, words, names):
    """As of a shell's variable that is not set."""
    assert cli.main([*words, names]) == 2
    assert "argument --devices: names nothing" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon", "1e9"])
def test_a_grace_that_is_none(capsys, seconds):
    assert cli.main(["detach", "web", "--all", f"--grace={seconds}"]) == 2
    assert "give a number of seconds from 0 to 3600" in capsys.readouterr().err


def test_a_capability_that_does_not_exist(capsys):
    assert cli.main(["attach", "web", "--count", "1", "--capabilities", "compute,utilty"]) == 1
    said = capsys.readouterr().err
    assert "--capabilities='compute,utilty': 'utilty' is not a driver capability; did you mean 'utility'?" in said

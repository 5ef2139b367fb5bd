"""What the doctor finds of the executables that `oci-gpu install` lays: missing, broken, of another version."""

from __future__ import annotations

import pytest

from oci_gpu_hook.admin.doctor import executables
from oci_gpu_hook.admin.doctor.model import ERROR, NOTE, OK, WARNING, Host
from oci_gpu_hook.admin.install import executables as launch
from oci_gpu_hook.admin.install import place
from oci_gpu_hook.base.config.model import Config


@pytest.fixture
def laid(tmp_path, monkeypatch):
    directory = tmp_path / "libexec"
    monkeypatch.setattr(place, "default_directory", lambda: str(directory))
    return directory, Host(config=Config(), config_path="/nonexistent")


def found(host, *severities):
    return [finding.what for finding in executables.check(host) if finding.severity in severities]


def test_executables_that_are_not_laid(laid):
    directory, host = laid
    assert found(host, NOTE, WARNING, ERROR) == [f"{directory}/oci-gpu-hook is not installed"]


def test_executables_that_are_laid_run(laid):
    directory, host = laid
    launch.write(str(directory))
    assert found(host, ERROR, WARNING) == []
    assert f"{directory}/oci-gpu-hook runs" in found(host, OK)[0]


def test_no_container_is_reported_as_refused(laid):
    """The hook logs what it refuses in the host's log, so a check must not give it a container to refuse."""
    directory, host = laid
    directory.mkdir()
    hook = directory / "oci-gpu-hook"
    hook.write_text(f'#!/bin/sh\necho "$@" > {directory}/given\necho "usage: oci-gpu-hook" >&2\nexit 2\n')
    hook.chmod(0o755)
    assert any(what.startswith(f"{hook} runs") for what in found(host, OK))
    assert not {"prestart", "createRuntime", "poststop"} & set((directory / "given").read_text().split())


def test_an_executable_whose_python_is_gone_is_an_error(laid):
    directory, host = laid
    launch.write(str(directory))
    (directory / "oci-gpu-hook.pyc").unlink()
    errors = found(host, ERROR)
    assert any(what.endswith("oci-gpu-hook.pyc', which is gone") for what in errors)
    assert f"{directory}/oci-gpu-hook does not answer as it should" in errors


def test_an_executable_of_another_version_is_a_warning(laid):
    directory, host = laid
    launch.write(str(directory))
    with open(directory / "oci-gpu-hook", "ab") as file:
        file.write(b"another build")
    assert found(host, WARNING) == [f"{directory}/oci-gpu-hook is of another version of this package"]

"""The package was removed, by pip or apt, and its executables were not: running containers, and those that start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

import oci_gpu_hook

SAID = "oci-gpu-hook was removed: its package is not in "


@pytest.fixture(scope="module", params=["front", "stub"])
def installation(request, machine, runtime):
    """An installation from a copy of the package, and where that is; without the front as well."""
    directory = machine.work / f"removable-{request.param}-{runtime.name}"
    library = directory / "lib"
    no_front = ("front.elf",) if request.param == "stub" else ()
    package = Path(oci_gpu_hook.__file__).parent
    shutil.copytree(package, library / "oci_gpu_hook", ignore=shutil.ignore_patterns("__pycache__", *no_front))
    shutil.copy(pynvml.__file__, library)
    command = [sys.executable, "-m", "oci_gpu_hook.admin.cli.main", "hook-path", "--runtime"]
    command += ["--directory", str(directory / "libexec"), "--real-runtime", runtime.binary]
    environment = {**os.environ, "PYTHONPATH": str(library)}
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=directory)
    return replace(runtime, binary=str(directory / "libexec/oci-gpu-runtime")), library


@pytest.fixture
def removable(installation, configured):
    """The installation, and a function that takes the package away for the rest of the test."""
    installed, library = installation
    yield installed, lambda: library.rename(f"{library}-removed")
    if not library.exists():
        Path(f"{library}-removed").rename(library)


def test_a_container_that_asks_for_nothing_starts(removable, plain_bundle):
    installed, remove = removable
    remove()
    assert installed.run(plain_bundle(args=("/bin/true",))).status == 0


def test_a_container_that_asks_is_refused_in_words(removable, plain_bundle):
    installed, remove = removable
    remove()
    done = installed.run(plain_bundle(gpus="0", args=("/bin/true",)))
    assert done.status == 1
    assert f"oci-gpu-runtime: error: {SAID}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_container_that_runs_can_be_entered_stopped_and_removed(removable, plain_bundle):
    installed, remove = removable
    with installed.started(plain_bundle(gpus="0", args=("/bin/sleep", "600"))) as container:
        remove()
        assert container.exec("/bin/true").status == 0
        done = installed._call("delete", "--force", container.id)
        assert (done.status, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("asks", [True, False])
def test_the_hook_as_podman_registers_it(removable, runtime, make_bundle, asks):
    installed, remove = removable
    remove()
    bundle = make_bundle(args=("/bin/true",), gpus="0" if asks else None)
    for entry in [each for entries in bundle.config["hooks"].values() for each in entries]:
        entry["path"] = str(Path(installed.binary).with_name("oci-gpu-hook"))
    done = runtime.run(bundle)
    assert ((done.status != 0), (SAID in done.stderr)) == (asks, asks), done.stderr
    assert "Traceback" not in done.stderr

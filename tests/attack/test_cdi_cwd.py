"""`oci-gpu cdi` where the working directory is somebody else's, or gone: nothing of it is run, imported or believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.attack.test_environment import _MODULES, _PROGRAMS

PACKAGES = ("yaml", "rich", "pynvml", "jsonschema", "structlog", "psutil", "tomllib", "argparse", "fcntl", "marshal")
SPECIFICATION = {
    "cdiVersion": "0.5.0",
    "kind": "every.com/thing",
    "devices": [{"name": "one", "containerEdits": {"env": ["A=1"]}}],
}
ODD = ("a\nb: valid: x", "-rf", "\x1b[2Jx", "ü", "a'b", "%s{}", "--config")


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    made = make(str(tmp_path_factory.mktemp("hosts") / "host"), gpus=2)
    directory = Path(made.directory)
    specs = directory / "specs"
    specs.mkdir()
    (specs / "every.json").write_text(json.dumps(SPECIFICATION))
    config = directory / "config.toml"
    config.write_text(f'{config.read_text()}\n[cdi]\nspec-dirs = ["{specs}"]\n')
    return directory


@pytest.fixture
def hostile(tmp_path):
    """A directory in which whatever is touched the wrong way makes `mark`."""
    cwd, mark = tmp_path / "cwd", tmp_path / "mark"
    cwd.mkdir()
    code = f"open({str(mark)!r}, 'w')\n"
    for name in (*_MODULES, *PACKAGES):
        (cwd / f"{name}.py").write_text(code)
        (cwd / f"{name}.pth").write_text(f"import os; {code}")
    for name in ("oci_gpu_hook", "encodings", "site-packages"):
        (cwd / name).mkdir()
        (cwd / name / "__init__.py").write_text(code)
        (cwd / name / "x.pth").write_text(f"import os; {code}")
    (cwd / "pyvenv.cfg").write_text(f"home = {cwd}\n")
    for name in (*_PROGRAMS, "nvidia-ctk", "gcc", "systemctl"):
        (cwd / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (cwd / name).chmod(0o755)
    for name in ("config.toml", "cdi.yaml", "nvidia.yaml", "etc", "var", "cdi"):
        (cwd / name).write_text("not = [ to be read: ")
    for name in ODD:
        (cwd / name).write_text(json.dumps(SPECIFICATION))
    return cwd, mark


def call(host, cwd, *words):
    """Run the command in a directory, by its path or by its descriptor."""
    program = str(Path(sys.executable).with_name("oci-gpu"))
    command = (program, "--config", str(host / "config.toml"), *map(str, words))
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, preexec_fn=lambda: os.chdir(cwd)
    )


@pytest.mark.parametrize(
    "words",
    [
        ("cdi", "generate", "--hook-path", "/hook"),
        ("cdi", "generate", "--hook-path", "/hook", "--output", "made.yaml"),
        ("cdi", "refresh", "--hook-path", "/hook", "--output", "@SPECS@"),
        ("cdi", "list"),
        ("cdi", "list", "--json"),
        ("cdi", "validate", "./-rf"),
        ("plan", "--env", "OCI_GPU_DEVICES=every.com/thing=one"),
        ("doctor", "--json"),
    ],
    ids=" ".join,
)
def test_nothing_in_the_directory_is_run_or_imported(host, hostile, tally, tmp_path, words):
    cwd, mark = hostile
    done = call(host, cwd, *[word.replace("@SPECS@", str(tmp_path / "specs")) for word in words])
    tally.count()
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert done.returncode == 0 or words[0] == "doctor", done.stderr
    assert not mark.exists()


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_shown_in_one_line_of_what_can_be_seen(host, hostile, tally, name):
    cwd, _ = hostile
    done = call(host, cwd, "cdi", "validate", "--", name)
    tally.count()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stdout.endswith(": valid: every.com/thing, 1 device, CDI 0.5.0\n")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("cdi", "list"), 0, ""),
        (("cdi", "generate", "--hook-path", "/hook"), 0, ""),
        (("cdi", "generate", "--hook-path", "/hook", "--output", "x.yaml"), 1, "file 'x.yaml': cannot be written"),
        (("cdi", "refresh", "--hook-path", "/hook", "--output", "cdi"), 1, "directory 'cdi': cannot be written"),
        (("cdi", "validate", "x.yaml"), 1, "file 'x.yaml': No such file or directory"),
        (("cdi", "validate", "/proc/self/cwd/x.yaml"), 1, "No such file or directory"),
    ],
)
def test_a_directory_that_is_gone(host, tmp_path, tally, words, status, said):
    gone = tmp_path / "gone"
    gone.mkdir()
    fd = os.open(gone, os.O_RDONLY | os.O_DIRECTORY)
    gone.rmdir()
    try:
        done = call(host, fd, *words)
    finally:
        os.close(fd)
    tally.count()
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr

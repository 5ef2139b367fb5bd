"""The front, compiled once, and programs to start where it would start Python or the real program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from oci_gpu_hook.admin.install import executables, front_file

SOURCES = os.path.join(os.path.dirname(executables.PACKAGE), "front")
# Says on stdout what it was started with: exit 42 for Python, 43 for the real program.
WITNESS = """
import json, os, sys
stdin = b""
try:
    while chunk := os.read(0, 1 << 20): stdin += chunk
except OSError as error: stdin = str(error).encode()
def is_open(fd):
    try: return bool(os.fstat(fd))
    except OSError: return False
with open("/proc/self/status") as status: signals = dict(line.split(":\t") for line in status)
alarm = 1 << 13
fds = [fd for fd in range(64) if is_open(fd)]
kept = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdecimal() else -1
json.dump({"argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd(), "stdin": stdin.decode("latin-1"), "fds": fds,
  "alarm_ends": not alarm & (int(signals["SigBlk"], 16) | int(signals["SigIgn"], 16)),
  "kept": os.read(kept, 1 << 20).decode("latin-1") if kept > 2 else ""}, sys.stdout)
"""


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    if not os.path.exists(os.path.join(SOURCES, "build.sh")):
        pytest.skip("no sources of the front beside the installed package")
    compiler = os.environ.get("CC", "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("front") / "front.elf"
    subprocess.run(["sh", os.path.join(SOURCES, "build.sh"), path], check=True)
    return str(path)


@pytest.fixture
def lay(template, tmp_path, monkeypatch):
    """Lay a front of a role: lay(role, interpreter, stub, program) -> path."""
    monkeypatch.setattr(front_file, "TEMPLATE", template)

    def lay(role, interpreter="/bin/false", stub="/nonexistent", program=""):
        path = tmp_path / f"front-{role}"
        assert front_file.write_front(str(path), role, interpreter, stub, program)
        return str(path)

    return lay


@pytest.fixture
def witness(tmp_path):
    """Return the interpreter and the scripts (stub, real program) that say what they were started with."""
    stub = tmp_path / "stub.py"
    stub.write_text(WITNESS + "sys.stdout.flush(); os._exit(42)\n")
    program = tmp_path / "real"
    program.write_text(f"#!{os.path.realpath(sys.executable)} -ISB\n{WITNESS}sys.stdout.flush(); os._exit(43)\n")
    program.chmod(0o755)
    return os.path.realpath(sys.executable), str(stub), str(program)


@pytest.fixture
def bundle(tmp_path):
    """Make a bundle: bundle(text of config.json) -> its directory."""

    def bundle(config, name="bundle"):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        content = config if isinstance(config, bytes) else config.encode()
        (directory / "config.json").write_bytes(content)
        return str(directory)

    return bundle


@pytest.fixture
def report():
    """Read what a witness said: report(finished process) -> (who, what)."""

    def report(done):
        assert done.returncode in (42, 43), done
        return {42: "python", 43: "real"}[done.returncode], json.loads(done.stdout)

    return report

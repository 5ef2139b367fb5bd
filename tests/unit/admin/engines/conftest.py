"""A file system with every engine and this project's executables in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oci_gpu_hook.admin.cli import main

RUNTIME = "/usr/libexec/oci-gpu-hook/oci-gpu-runtime"
HOOK = "/usr/libexec/oci-gpu-hook/oci-gpu-hook"


@pytest.fixture
def root(tmp_path):
    for path in ("usr/sbin/dockerd", "usr/bin/podman", "usr/bin/crio", "usr/bin/containerd", RUNTIME[1:], HOOK[1:]):
        program = tmp_path / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return tmp_path


@pytest.fixture
def oci_gpu(root, capsys):
    """Run the command on that file system; returns exit status, stdout and stderr."""

    def run(*arguments: str):
        status = main.main([*arguments, "--root", str(root)])
        return status, *capsys.readouterr()

    return run


def tree(root) -> dict:
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            about = os.lstat(path)
            contents = os.readlink(path) if os.path.islink(path) else Path(path).read_bytes()
            found[os.path.relpath(path, root)] = (contents, about.st_mode, about.st_uid, about.st_gid)
    return found


def put(root, path: str, text: str, mode: int = 0o644):
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    file.chmod(mode)
    return file

"""What system calls say is taken for what it is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from oci_gpu_hook.base import syscalls

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="another user's files need root")


@ROOT
@pytest.mark.parametrize("number", [1000, (1 << 31) + 65536, (1 << 32) - 2])
def test_files_are_made_as_another_user_and_then_again_as_root(number):
    """setfsuid(2) returns the id before, which as an int may look like an error."""
    program = (
        "from oci_gpu_hook.base import syscalls\n"
        "def ids(): return [line.split()[4] for line in open('/proc/self/status') if line[:4] in ('Uid:', 'Gid:')]\n"
        f"syscalls.set_fs_ids({number}, {number})\nprint(*ids())\nsyscalls.set_fs_ids(0, 0)\nprint(*ids())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{number} {number}", "0 0"]


def test_what_is_there_and_what_is_not(tmp_path):
    (tmp_path / "dangling").symlink_to("nowhere")
    directory = os.open(tmp_path, os.O_PATH)
    assert syscalls.is_there(directory, "dangling")
    assert not syscalls.is_there(directory, "nowhere")
    os.close(directory)
    with pytest.raises(OSError, match="Bad file descriptor"):  # not known is not absent
        syscalls.is_there(directory, "dangling")

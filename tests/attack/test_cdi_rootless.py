"""Specification files as a user's engine reads them: in a user namespace root's files look like those of nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

USER = 23456
READ = """
import json, sys
from oci_gpu_hook.devices.cdi.spec_files import directories
found = directories.read(sys.argv[1:])
print(json.dumps([sorted(found.devices), [problem for file in found.files for problem in file.problems]]))
"""


@pytest.fixture
def specs(canary):
    """A directory of root's with a good file, where a user can read it."""
    path = canary.directory / "cdi"
    path.mkdir(mode=0o755)
    write(path, "roots")
    return path


def write(directory, name: str, mode: int = 0o644, owner: int = 0):
    document = {
        "cdiVersion": "0.5.0",
        "kind": f"{name}.com/x",
        "devices": [{"name": "a", "containerEdits": {"env": ["A=1"]}}],
    }
    path = directory / f"{name}.json"
    path.write_text(json.dumps(document))
    path.chmod(mode)
    os.chown(path, owner, owner)
    return path


def seen_by_a_user(directory) -> tuple[list[str], list[str]]:
    """Return devices and problems as a rootless engine's hook would find them."""
    begin = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "unshare", "--user", "--map-root-user")
    done = subprocess.run([*begin, sys.executable, "-c", READ, directory], check=True, capture_output=True, text=True)
    devices, problems = json.loads(done.stdout)
    return devices, problems


def test_a_user_reads_what_root_has_written(specs, tally):
    write(specs, "everybodys", mode=0o666)
    write(specs, "groups", mode=0o664)
    write(specs, "users", owner=USER)
    devices, problems = seen_by_a_user(specs)
    tally.count()
    assert devices == ["roots.com/x=a", "users.com/x=a"], "and what is the user's own"
    assert len(problems) == 2
    assert all("could be written by others" in problem for problem in problems)


def test_not_where_others_may_write(specs, tally):
    specs.chmod(0o777)
    devices, problems = seen_by_a_user(specs)
    tally.count()
    assert devices == []
    assert "where others could exchange it" in problems[0]


def test_root_itself_takes_nothing_of_nobodys(specs, tally):
    """Outside of a user namespace that id is a user's."""
    write(specs, "nobodys", owner=65534)
    done = subprocess.run([sys.executable, "-c", READ, specs], check=True, capture_output=True, text=True)
    tally.count()
    devices, problems = json.loads(done.stdout)
    assert devices == ["roots.com/x=a"]
    assert "owner 65534" in problems[0]

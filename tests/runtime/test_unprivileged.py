"""Every command of `oci-gpu` as a user who is not root, while root's container has a GPU: nothing it says is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from oci_gpu_hook.admin.cli.commands import COMMANDS
from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.simulated import SimulatedHost

pytestmark = pytest.mark.root
ROOT_DOES = "run this as root", "run as root", "run it as root"
# Commands whose answer is about what root holds, or that change it: a user is told to run them as root.
FORBIDDEN = {
    "leases": ("leases",),
    "leases --json": ("leases", "--json"),
    "leases release": ("leases", "release", "held"),
    "verify": ("verify",),
    "verify NAME": ("verify", "held"),
    "verify --json": ("verify", "--json"),
    "repair": ("repair", "--all"),
    "repair NAME": ("repair", "held"),
    "attach": ("attach", "held", "--count", "1"),
    "detach": ("detach", "held", "--all"),
    "watch": ("watch", "--once"),
    "gpus heal": ("gpus", "heal", "0"),
    "cdi refresh": ("cdi", "refresh", "--output", "@DIRECTORY@"),
    "uninstall --all": ("uninstall", "--all"),
    "hook-path": ("hook-path", "--directory", "@DIRECTORY@"),
    "install": ("install", "docker", "--directory", "@DIRECTORY@", "--root", "@ROOT@"),
    "request": ("request", "@DIRECTORY@/bundle"),
    "plan BUNDLE": ("plan", "@DIRECTORY@/bundle"),
}
# What users may see: exit status 0, or 1 of the doctor for warnings.
ALLOWED = {
    "info": ("info",),
    "gpus": ("gpus",),
    "top": ("top", "--once"),
    "metrics": ("metrics",),
    "doctor": ("doctor",),
    "plan": ("plan", "--count", "1"),
    "cdi list": ("cdi", "list"),
    "cdi generate": ("cdi", "generate", "--hook-path", "/hook"),
    "config": ("config",),
    "completion": ("completion", "bash"),
    "help": ("help", "leases"),
    "version": ("version",),
}
OTHERS = {"simulate", "uninstall", "run", "log"}  # make files where they are told to, or are tested by themselves


@pytest.fixture
def held(machine, directory, make_bundle):
    """A running container of root's with a GPU, called `held` by its bundle; yields a function that runs a command."""
    runtime = next(iter(machine.runtimes.values()))
    host = SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory))
    host.state_dir.chmod(0o700)
    closed = directory / "closed"
    (closed / "bundle").mkdir(parents=True, mode=0o700)
    closed.chmod(0o700)
    root = directory / "root"
    (root / "etc/docker").mkdir(parents=True)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/dockerd").write_text("")
    (root / "usr/bin/dockerd").chmod(0o755)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [word.replace("@DIRECTORY@", str(closed)).replace("@ROOT@", str(root)) for word in arguments]
        config = () if words[0] == "install" else ("--config", host.config)  # engines call the hook with the usual one
        program = (Path(sys.executable).with_name("oci-gpu"), *config, *words)
        user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        command = runtime.host.command(*user, *program)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "Permission denied" in done.stderr and "oci-gpu: error" not in done.stderr:
            pytest.skip("users cannot run this checkout's Python")
        return done

    bundle = make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)
    with runtime.started(bundle) as container:
        assert container.id
        yield call


@pytest.mark.parametrize("mode", ["0700", "0755"])
def test_what_only_root_may_do_is_said_so(held, directory, mode):
    """In a directory that everyone may list, the leases can be read, the journal cannot."""
    (directory / "host/state").chmod(int(mode, 8))
    for words in FORBIDDEN.values():
        if mode == "0755" and words[0] == "leases" and words[1:2] != ("release",):
            continue
        done = held(*words)
        said = (words, done.stdout, done.stderr)
        assert done.returncode == 1, str(said)[:600]
        assert any(text in done.stderr for text in ROOT_DOES), said
        assert done.stderr.count("\n") == 1, said
        assert "internal error" not in done.stderr, said
        assert "No running container" not in done.stdout, said
        assert not done.stdout or json.loads(done.stdout)["error"]["code"].startswith("OGH"), said


def test_what_users_may_see_is_not_wrong(held):
    for words in ALLOWED.values():
        done = held(*words)
        said = (words, done.stdout, done.stderr)
        assert done.returncode == 0 or words[0] == "doctor", said
        assert "internal error" not in done.stdout + done.stderr, said
        assert not any(text in done.stdout for text in ("2 of 2 available", "held by nobody", " free  ")), said
    assert "run this as root" in held("gpus").stderr
    assert {gpu["state"] for gpu in json.loads(held("gpus", "--json").stdout)} == {"unknown"}
    assert "only root can see" in held("plan", "--count", "1").stdout


def test_every_command_is_tried():
    tried = {words[0] for words in (*FORBIDDEN.values(), *ALLOWED.values())}
    assert tried | OTHERS >= {*COMMANDS}

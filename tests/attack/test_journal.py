"""An image that makes what the hook must remember of it larger than the hook can read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.attack.sandbox import ASKING
from tests.runtime import rootfs as images
from tests.runtime.host import tree


def test_a_journal_that_could_not_be_read_back_is_not_begun(enter, machine, simulated, directory, tally):
    """Links in the way are remembered with their targets; a byte that is not UTF-8 takes six in JSON."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    target = b"/" + (b"\xff" * 254 + b"/") * 15
    with enter(rootfs, env=(*ASKING, "OCI_GPU_VOLUME=true")) as sandbox:
        command = [Path(sys.executable).with_name("oci-gpu"), "--config", simulated.config, "plan", "--json"]
        plan = json.loads(subprocess.run([*command, sandbox.bundle], capture_output=True, check=True).stdout)
        mounts = plan["containerEdits"]["mounts"]
        mounted = [mount["containerPath"] for mount in mounts if not os.path.isdir(mount["hostPath"])]
        for path in (*mounted, *(link["path"] for link in plan["links"])):
            at = rootfs / path.strip("/")
            if path.startswith(("/usr/", "/lib/")) and not os.path.lexists(at):
                at.parent.mkdir(parents=True, exist_ok=True)
                os.symlink(target, os.fsencode(at))
        before = tree(rootfs)
        outcome = sandbox.attach()
        tally.count(outcome)
        assert "could not be read back" in outcome.refused
    assert sandbox.release().refused == ""
    assert tree(rootfs) == before

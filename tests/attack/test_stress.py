"""A million swaps against whatever looks at a container's paths or changes them: `make attack`.

Directories and files of the rootfs are swapped, all the while, for links that lead to the canary, to the kernel's files
and to a volume of the host. One container is started again and again, another one lives and is verified and repaired,
without pause. At the end nothing of the host has changed, and nothing is mounted outside of the rootfs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.attack.test_races import Swapper, lay
from tests.attack.traps import LIBRARIES
from tests.runtime import rootfs as images

SWAPS = {False: 20_000, True: 1_000_000}
LONGEST = 900  # seconds
REPOSITORY = Path(__file__).parents[2]

# Verifies and repairs the living containers of a configuration until its stdin ends; prints how often, and what came.
_LOOKER = """
import json, os, select, sys
sys.path.insert(0, {repository!r})
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.lifecycle import repair, running, verify
config = configs.of_this_user(configs.load(sys.argv[1]))
counted = dict(verified=0, lost=0, repaired=0, refused=0)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for entry in running.everything(config):
        found = verify.verify(entry, config)
        counted["verified"] += 1
        counted["lost"] += bool(found)
        assert not any("internal error" in finding.why for finding in found), found
        try:
            repair.repair(entry, config)
            counted["repaired"] += 1
        except HookError as error:
            assert "internal error" not in str(error), error
            counted["refused"] += 1
print(json.dumps(counted))
"""


def outside(sandbox, before: set[str]) -> list[str]:
    """Return the mounts that came to the container's namespace outside of its rootfs."""
    return [row for row in set(sandbox.mounts()) - before if not row.split()[4].startswith(f"{sandbox.rootfs}/")]


@pytest.mark.race
@pytest.mark.parametrize("kind", ["directories", "files"])
def test_swaps_against_start(kind, enter, machine, simulated, directory, canary, tally, full):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    pairs = lay(kind, rootfs, canary, simulated.driver_version)
    canary.seal()
    wanted = SWAPS[full] // 2  # each kind has its half
    give_up = time.monotonic() + LONGEST
    ends = {"ok": 0, "refused": 0}
    with Swapper(pairs) as swapper:
        while swapper.swaps < wanted:
            assert time.monotonic() < give_up
            with enter(rootfs) as sandbox:
                before = set(sandbox.mounts())
                outcome = sandbox.attach()
                assert outside(sandbox, before) == []
            assert sandbox.release().refused == ""
            ends["refused" if outcome.refused else "ok"] += 1
            tally.count(outcome)
        swaps = swapper.swaps
    print(f"start, {kind}: {swaps} swaps, {ends}")
    assert canary.is_untouched()


@pytest.mark.race
def test_swaps_against_verify_and_repair(runc, enter, machine, simulated, directory, canary, tally, full):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    pairs = []
    give_up = time.monotonic() + LONGEST
    with enter(rootfs) as sandbox:
        before = set(sandbox.mounts())
        assert sandbox.attach().refused == ""
        decoys = rootfs / "decoys"
        decoys.mkdir()
        targets = (canary.full("nvidia-smi"), "/proc/sys", canary.bare, "/decoys")
        for path, target in zip(("usr/bin", LIBRARIES, "etc/vulkan/icd.d", "dev"), targets, strict=True):
            decoy = decoys / path.replace("/", "-")
            decoy.symlink_to(target)
            if path != "dev":
                pairs.append((rootfs / path, decoy))
        for name in ("nvidia-smi", "nvidia-debugdump"):
            subprocess.run(
                ["nsenter", f"--mount=/proc/{sandbox.pid}/ns/mnt", "umount", rootfs / "usr/bin" / name], check=True
            )  # something to put back
        canary.seal()
        script = _LOOKER.format(repository=str(REPOSITORY))
        looker = subprocess.Popen(
            runc.host.command(sys.executable, "-c", script, simulated.config),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert looker.stdout is not None
            assert looker.stdout.readline() == "ready\n", looker.communicate()
            with Swapper(pairs) as swapper:
                while swapper.swaps < SWAPS[full]:
                    assert time.monotonic() < give_up
                    assert looker.poll() is None, looker.communicate()
                    assert outside(sandbox, before) == []
                    time.sleep(0.2)
                swaps = swapper.swaps
        finally:
            said, complaint = looker.communicate("stop", timeout=60)
        assert looker.returncode == 0, complaint
        counted = json.loads(said)
        assert outside(sandbox, before) == []
    tally.tried += counted["verified"] + counted["repaired"] + counted["refused"]
    tally.refused += counted["refused"]
    print(f"verify and repair: {swaps} swaps, {counted}")
    assert counted["verified"] >= (50 if full else 2)
    assert sandbox.release().refused == ""
    assert canary.is_untouched()
    assert os.path.isdir("/proc/sys/kernel")

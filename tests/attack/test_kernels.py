"""Kernels that lack the calls on which the safety rests, and seccomp profiles that refuse them: a clear refusal.

There is no fallback by path: each of the calls closes a race that the older ones leave open.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.attack.sandbox import ENVIRONMENT, Outcome
from tests.runtime import rootfs as images
from tests.runtime.host import difference, tree

REFUSE = Path(__file__).with_name("refuse.py")
# include/uapi/asm-generic/unistd.h, the same on every architecture; with the release that brought them.
CALLS = {
    "openat2 (5.6)": 437,
    "open_tree (5.2)": 428,
    "move_mount (5.2)": 429,
    "fsopen (5.2)": 430,
    "fsmount (5.2)": 432,
    "mount_setattr (5.12)": 442,
}


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_refused(call, error, enter, machine, simulated, directory, tally):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    before = _facts(rootfs)
    with enter(rootfs) as sandbox:
        mounts = sandbox.mounts()
        refusing = ["/usr/bin/python3", REFUSE, getattr(errno, error), CALLS[call]]
        command = sandbox.host.command(*refusing, sandbox.hook, "--config", simulated.config, "prestart")
        outcome = sandbox.run(command, sandbox.state(), ENVIRONMENT)
        tally.count(outcome)
        assert "seccomp" in outcome.refused or "Linux 5.12" in outcome.refused
        assert sandbox.mounts() == mounts
        assert difference(before, _facts(rootfs)) == []
        assert not list((simulated.state_dir / "containers").glob(f"{sandbox.id}*"))
        # The same container, on a kernel that has it.
        assert sandbox.attach() == Outcome("")
    assert sandbox.release() == Outcome("")


def _facts(rootfs) -> dict[str, tuple]:
    return {name: (*facts[:4], *facts[7:]) for name, facts in tree(rootfs).items()}

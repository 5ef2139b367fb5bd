"""A hook that may open few files: it does its work or refuses in a line, and what it had done by then is undone."""

from __future__ import annotations

import pytest

from oci_gpu_hook.apply.journal import reader
from oci_gpu_hook.base.config.model import Config
from tests.attack.sandbox import ENVIRONMENT
from tests.runtime import rootfs as images
from tests.runtime.host import tree

STEP = {True: 1, False: 9}
FEWEST, ENOUGH = 4, 400


@pytest.fixture(scope="session")
def hook(python_hook):
    """The process is the hook: a worker of the resident has the limits of its service."""
    return python_hook


def test_a_start_with_few_descriptors(enter, machine, simulated, directory, tally, full):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    before = tree(rootfs)
    config = Config(state_dir=str(simulated.state_dir))
    ends = {"refused": 0, "done": 0}
    for most in range(FEWEST, ENOUGH, STEP[full]):
        with enter(rootfs) as sandbox:
            mounts = sandbox.mounts()
            hook = (sandbox.hook, "--config", sandbox.simulated.config, "prestart")
            command = sandbox.host.command("sh", "-c", f'ulimit -n {most} && exec "$@"', "sh", *hook)
            outcome = sandbox.run(command, sandbox.state(), ENVIRONMENT)
            tally.count(outcome)
            ends["refused" if outcome.refused else "done"] += 1
            if outcome.refused:
                assert sandbox.mounts() == mounts, most
                assert tree(rootfs) == before, (most, outcome)
                assert reader.of_container(config, sandbox.id, str(sandbox.bundle)) == [], (most, outcome)
        assert sandbox.release().refused == ""
        assert tree(rootfs) == before, most
    assert ends["refused"] > 5
    assert ends["done"] > 5
    print(ends)


def test_a_low_soft_limit_is_no_limit(enter, machine, directory, tally):
    """It is there for programs of select(2); systemd gives 1,024, and a container may ask for 2,048 channels."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    with enter(rootfs) as sandbox:
        hook = (sandbox.hook, "--config", sandbox.simulated.config, "prestart")
        command = sandbox.host.command("sh", "-c", 'ulimit -S -n 64 && exec "$@"', "sh", *hook)
        assert sandbox.run(command, sandbox.state(), ENVIRONMENT).refused == ""
        tally.count()
        assert sandbox.release().refused == ""

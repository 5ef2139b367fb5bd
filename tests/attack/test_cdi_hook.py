"""The door of engines that know CDI: the hook of our specifications, which works from inside a container's namespace.

Nothing of the container runs yet, but its rootfs may be another's as well, and its image is anybody's.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter

import pytest

from tests.attack.test_races import Swapper, lay
from tests.attack.test_traps import THINNED, assert_mounts_inside, cases, systems
from tests.attack.traps import LIBRARIES, effects
from tests.attack.traps import lay as lay_trap
from tests.runtime import cdi_engine
from tests.runtime import rootfs as images
from tests.runtime.fixtures import oci_gpu
from tests.runtime.host import contents, difference

# What it makes; the rest is the engine's.
EFFECTS = {name: path for name, path in effects("VERSION").items() if name in ("link", "profile", "cache", "procfs")}
STAGE = "createContainer"


@pytest.fixture(scope="session")
def specification(simulated, hook):
    """The specification of the simulated host."""
    command = ("cdi", "generate", "--format", "json", "--hook-path", hook, "--capabilities", "all")
    return json.loads(oci_gpu("--config", simulated.config, *command))


@pytest.fixture(scope="session")
def words(specification):
    """The arguments of its hook."""
    (entry,) = specification["containerEdits"]["hooks"]
    assert entry["hookName"] == STAGE
    return entry["args"][1:]


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_trap_changes_nothing_outside(effect, words, enter, machine, simulated, directory, canary, tally, full):
    for number, (_, component, trap) in enumerate(cases(1 if full else THINNED, {effect: EFFECTS[effect]})):
        bundle = directory / f"bundle-{number}"
        bundle.mkdir()
        rootfs = images.copy(machine.image("debian"), bundle / "rootfs")
        path = EFFECTS[effect][0].replace("VERSION", simulated.driver_version)
        lay_trap(trap, rootfs, component.replace("VERSION", simulated.driver_version), path, canary)
        canary.seal()
        with enter(rootfs, *systems(effect)) as sandbox:
            mounts = sandbox.mounts()
            outcome = sandbox.adjust(words)
            tally.count(outcome)
            assert_mounts_inside(sandbox, mounts, canary, f"{trap} at {component}")
        assert canary.is_untouched(), f"{trap} at {component}"
        shutil.rmtree(bundle)


@pytest.mark.race
@pytest.mark.parametrize("kind", ["directories", "files", "inside", "climbing"])
def test_a_rootfs_that_does_not_hold_still(kind, words, enter, machine, simulated, directory, canary, tally, full):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    pairs = lay(kind, rootfs, canary, simulated.driver_version)
    canary.seal()
    counted: Counter[str] = Counter()
    give_up = time.monotonic() + (60 if full else 1)
    with Swapper(pairs) as swapper:
        while time.monotonic() < give_up:
            with enter(rootfs) as sandbox:
                before = sandbox.mounts()
                outcome = sandbox.adjust(words)
                assert_mounts_inside(sandbox, before, canary, kind)
            counted["refused" if outcome.refused else "ok"] += 1
            tally.count(outcome)
    assert canary.is_untouched()
    print(f"CDI, {kind}: {swapper.swaps} swaps, {dict(counted)}")


@pytest.mark.parametrize("below", ["", "etc", "usr/bin"])
def test_a_peer_of_the_hosts_own_mount(below, words, runc, enter, machine, directory, tally):
    """No runtime hands a rootfs over like this; if one did, every mount in it would be one on the host."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    shared = rootfs / below
    runc.host.call("mount", "--bind", shared, shared)
    runc.host.call("mount", "--make-shared", shared)
    try:
        before = runc.host.mounts()
        with enter(rootfs, "peer") as sandbox:
            outcome = sandbox.adjust(words)
            tally.count(outcome)
            assert runc.host.mounts() == before
            assert len(sandbox.mounts()) > len(before) or outcome.refused
        assert runc.host.mounts() == before
    finally:
        runc.host.call("umount", "-R", shared, check=False)


@pytest.mark.parametrize("propagation", ["shared", "rshared", "rslave"])
@pytest.mark.parametrize("own_mount", [False, True], ids=["in-a-mount", "is-a-mount"])
def test_the_host_sees_no_mount_more(
    propagation, own_mount, specification, runtime, make_bundle, machine, directory, tally
):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    if own_mount:
        runtime.host.call("mount", "--bind", rootfs, rootfs)
        runtime.host.call("mount", "--make-shared", rootfs)
    try:
        during = []
        for asks in (False, True):
            options = {"rootfs": str(rootfs), "rootfs_propagation": propagation}
            bundle = make_bundle(args=("/bin/sleep", "60"), name=f"asks-{asks}", **options)
            bundle.config.pop("hooks", None)
            if asks:
                cdi_engine.apply(specification, ("0",), bundle.config)
            with runtime.started(bundle):
                during.append([line.split()[4] for line in runtime.host.mounts()])
            tally.count()
        ours = [path for path in during[1] if path not in during[0] and path.endswith(("ld.so.cache", "/proc/driver"))]
        assert ours == []
    finally:
        if own_mount:
            runtime.host.call("umount", "-R", rootfs, check=False)


def test_a_volume_keeps_what_it_has(words, runc, enter, machine, simulated, directory, canary, tally):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    for number, at in enumerate((LIBRARIES, "etc", "usr/lib")):
        volume = canary.directory / f"volume-{number}"
        shutil.copytree(rootfs / at, volume, symlinks=True)
        (volume / "libcuda.so.1").symlink_to("a-link-of-the-hosts-own")
        canary.seal()
        before = contents(volume)
        with enter(rootfs) as sandbox:
            runc.host.call("nsenter", f"--mount=/proc/{sandbox.pid}/ns/mnt", "mount", "--bind", volume, rootfs / at)
            tally.count(sandbox.adjust(words))
        assert difference(before, contents(volume)) == [], at
        assert canary.is_untouched(), at

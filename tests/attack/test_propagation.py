"""A rootfs that passes its mounts on: the host, and other containers, must see none of the hook's."""

from __future__ import annotations

import pytest

from tests.runtime import rootfs as images


@pytest.fixture
def mounted_rootfs(runtime, machine, directory):
    """A rootfs that is a mount of the host, shared as systemd leaves them."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    runtime.host.call("mount", "--bind", rootfs, rootfs)
    runtime.host.call("mount", "--make-shared", rootfs)
    yield rootfs
    runtime.host.call("umount", rootfs)


PROPAGATION = ["shared", "rshared", "rslave"]


@pytest.mark.parametrize("propagation", PROPAGATION)
@pytest.mark.parametrize("own_mount", [False, True], ids=["in-a-mount", "is-a-mount"])
def test_the_host_sees_no_mount_more(propagation, own_mount, runtime, machine, make_bundle, directory, tally, request):
    rootfs = (
        request.getfixturevalue("mounted_rootfs")
        if own_mount
        else images.copy(machine.image("debian"), directory / "rootfs")
    )
    before = runtime.host.mounts()
    during = []
    for gpus, name in ((None, "quiet"), ("all", "asking")):
        bundle = make_bundle(
            args=("/bin/sleep", "60"), gpus=gpus, rootfs=str(rootfs), rootfs_propagation=propagation, name=name
        )
        with runtime.started(bundle) as container:
            # What a runtime passes on itself, for this is what was asked of it, is not the hook's.
            during.append([line.split()[4] for line in runtime.host.mounts()])
            if gpus:
                assert container.exec("/probe", "open=/dev/nvidia0").seen()["open=/dev/nvidia0"] == "ENXIO"
    tally.count()
    assert during[0] == during[1]
    assert runtime.host.mounts() == before


@pytest.mark.parametrize("below", ["", "dev", "usr/bin"])
def test_a_peer_of_the_hosts_own_mount(below, runc, enter, machine, simulated, directory, tally):
    """No runtime hands a rootfs over like this; if one did, every mount in it would be one on the host."""
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    for program in (simulated.driver_root / "usr/bin").iterdir():  # so that nothing has to be made there
        (rootfs / "usr/bin" / program.name).touch()
    shared = rootfs / below
    runc.host.call("mount", "--bind", shared, shared)
    runc.host.call("mount", "--make-shared", shared)
    try:
        before = runc.host.mounts()
        with enter(rootfs, "peer") as sandbox:
            outcome = sandbox.attach()
            tally.count(outcome)
            assert runc.host.mounts() == before
            assert len(sandbox.mounts()) > len(before) or outcome.refused
            assert bool(outcome.refused) == bool(below)
            assert below != "usr/bin" or "shared with the host" in outcome.refused
        assert sandbox.release().refused == ""
        assert runc.host.mounts() == before
    finally:
        runc.host.call("umount", shared)

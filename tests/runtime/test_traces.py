"""What is left of a container's GPUs when it has gone, or never came up: nothing, in its image and on the host."""

from __future__ import annotations

import pytest

from tests.runtime.host import difference, tree
from tests.runtime.rootfs import LIBRARY_DIRECTORY, VARIANTS

KINDS = {"plain": {}, "readonly": {"readonly": True}, "userns": {"user_namespace": True}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("image", VARIANTS)
def test_the_image_is_as_before(runtime, make_bundle, simulated, image, kind):
    bundle = make_bundle("open=/dev/nvidia0", gpus="all", image=image, **KINDS[kind])
    before = tree(bundle.rootfs)
    assert runtime.run(bundle).seen()["open=/dev/nvidia0"] == "ENXIO"
    assert difference(before, tree(bundle.rootfs)) == []


def test_what_the_container_wrote_itself_stays(runtime, make_bundle, simulated):
    bundle = make_bundle("create=/usr/bin/mine", "create=/etc/mine", gpus="all")
    before = tree(bundle.rootfs)
    assert runtime.run(bundle).seen() == {"create=/usr/bin/mine": "opened", "create=/etc/mine": "opened"}
    lines = difference(before, tree(bundle.rootfs))
    assert [line.split()[:2] for line in lines] == [["+", "etc/mine"], ["+", "usr/bin/mine"]]


def test_the_same_image_serves_again(runtime, make_bundle, simulated):
    first = make_bundle("dlopen=libcuda.so.1", gpus="0", name="first")
    for number in range(3):
        again = make_bundle("dlopen=libcuda.so.1", gpus="0", rootfs=str(first.rootfs), name=f"again{number}")
        assert runtime.run(again).seen()["dlopen=libcuda.so.1"].startswith("/")


@pytest.mark.parametrize("image", ["debian", "rhel"])
def test_a_failure_halfway_is_undone(runtime, make_bundle, simulated, image):
    bundle = make_bundle("list=/", gpus="all", image=image)
    # A directory where a file belongs: found out before anything is made. (A failure later: tests/unit/apply.)
    (bundle.rootfs / "usr/bin/nvidia-smi").mkdir(parents=True)
    before = tree(bundle.rootfs)
    complaint = runtime.run(bundle).complaint()
    assert "/usr/bin/nvidia-smi" in complaint
    assert difference(before, tree(bundle.rootfs)) == []


@pytest.fixture
def small_rootfs(runtime, machine, directory):
    """An image alone on a small tmpfs of the runtime's host; yields its path there."""
    rootfs = directory / "small"
    rootfs.mkdir()
    runtime.host.call("mount", "-t", "tmpfs", "-o", "mode=755,nr_inodes=1000", "none", rootfs)
    runtime.host.call("cp", "--archive", f"{machine.image('debian')}/.", rootfs)
    yield rootfs
    runtime.host.call("umount", rootfs)


def _leave_no_inode(host, rootfs):
    total, free = host.call("stat", "-f", "-c", "%c %d", rootfs).stdout.split()
    host.call("mount", "-o", f"remount,nr_inodes={int(total) - int(free)}", rootfs)


def _make_read_only(host, rootfs):
    # The file system, not the mount: crun makes a read-only bind mount writable again.
    host.call("mount", "-o", "remount,ro", rootfs)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(_leave_no_inode, "No space left on device"), (_make_read_only, "Read-only file system")],
    ids=["full", "read-only"],
)
def test_a_file_system_that_takes_nothing_is_said_and_left(
    runtime, make_bundle, simulated, small_rootfs, spoil, reason
):
    spoil(runtime.host, small_rootfs)
    assert runtime.host.call("touch", small_rootfs / "new", check=False).returncode != 0
    before = tree(runtime.host.path(small_rootfs))
    complaint = runtime.run(make_bundle("list=/", gpus="all", rootfs=str(small_rootfs))).complaint()
    assert reason in complaint
    assert difference(before, tree(runtime.host.path(small_rootfs))) == []
    # The same image serves whoever asks for nothing.
    assert runtime.run(make_bundle("list=/", rootfs=str(small_rootfs), name="quiet")).status == 0


def test_a_killed_container_leaves_nothing(runtime, make_bundle, simulated):
    bundle = make_bundle(args=("/bin/sleep", "60"), gpus="all")
    before = tree(bundle.rootfs)
    with runtime.started(bundle) as container:
        library = f"/{LIBRARY_DIRECTORY['debian']}/libcuda.so.1"
        assert container.exec("/probe", f"dlopen={library}").seen()[f"dlopen={library}"].startswith("/")
    assert difference(before, tree(bundle.rootfs)) == []


def test_a_container_that_was_created_and_never_started_leaves_nothing(runtime, make_bundle, simulated):
    bundle = make_bundle("list=/", gpus="all")
    before = tree(bundle.rootfs)
    with runtime.created(bundle) as container:
        assert container.state()["status"] == "created"
    assert difference(before, tree(bundle.rootfs)) == []

"""What is optional and has no place: it is left out, with what to say of it; what is not optional refuses."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.apply.operations import left_out
from oci_gpu_hook.apply.rootfs.directory import NoPlace, in_volume
from oci_gpu_hook.base.errors import DriverError, UnsafeRootfs
from oci_gpu_hook.devices.edits import GeneratedFile, Symlink
from tests.unit.apply.operations.conftest import bind, library, own, plan, samples

PROGRAM = "/usr/lib64/nvidia-smi"


@pytest.fixture
def volume(container, tmp_path):
    """A volume of the host at /usr/lib64 of the container."""
    path = tmp_path / "volume"
    path.mkdir()
    container.inside("mount", "--bind", str(path), str(container.root / "usr/lib64"))
    return path


def test_a_bind_is_left_out_and_the_rest_is_given(container, volume, source):
    made = plan(mounts=(bind(source, PROGRAM).replace(optional=True), bind(source, "/opt/libcuda.so.1")))
    entry = container.give(made)
    assert entry.mounts == ("/opt/libcuda.so.1",)
    assert [proof[0] for proof in entry.mounted] == ["/opt/libcuda.so.1"]
    assert list(volume.iterdir()) == []
    assert container.lost(entry) == []
    (said,) = container.warnings
    assert said == (
        f"left out: '{PROGRAM}', because '/usr/lib64' is a volume of the host, where the hook creates nothing; "
        "to have it, mount the volume elsewhere in the container, "
        "or put an empty file or directory of that name into it"
    )


@pytest.mark.parametrize(
    "there", [os.mkdir, os.mkfifo, lambda path: os.symlink("nowhere", path)], ids=["directory", "FIFO", "dangling link"]
)
def test_what_a_volume_has_in_the_way_is_its_own(container, volume, source, there):
    there(volume / "nvidia-smi")
    entry = container.give(plan(mounts=(bind(source, PROGRAM).replace(optional=True),)))
    assert entry.mounts == ()
    with pytest.raises(NoPlace, match="'/usr/lib64' is a volume of the host"):
        container.give(plan(mounts=(bind(source, PROGRAM),)))
    assert os.listdir(volume) == ["nvidia-smi"]


def test_a_file_where_a_directory_of_a_volume_would_be(container, volume, source):
    (volume / "nvidia-mps").touch()
    wanted = bind(source.parent, "/usr/lib64/nvidia-mps", directory=True)
    assert container.give(plan(mounts=(wanted.replace(optional=True),))).mounts == ()
    with pytest.raises(NoPlace, match="with something else of that name"):
        container.give(plan(mounts=(wanted,)))


def test_what_an_image_has_in_the_way_is_refused_though_optional(container, source):
    (container.root / "usr/lib64/nvidia-smi").mkdir()
    with pytest.raises(UnsafeRootfs, match="the image has a directory there"):
        container.give(plan(mounts=(bind(source, PROGRAM).replace(optional=True),)))


def test_a_file_system_goes_with_all_that_is_in_it(container, volume, source):
    mounts = (own("/usr/lib64/own").replace(optional=True), bind(source, "/usr/lib64/own/file"))
    entry = container.give(plan(mounts=mounts, files=(GeneratedFile(path="/usr/lib64/own/x", contents=b"x"),)))
    assert (entry.mounts, entry.changes, list(volume.iterdir())) == ((), (), [])


def test_links(container, volume):
    optional = Symlink(path="/usr/lib64/by-path/card", target="x", optional=True)
    assert container.give(plan(links=(optional,))).changes == ()
    with pytest.raises(NoPlace):
        container.give(plan(links=(optional.replace(optional=False),)))


def test_an_ld_cache_that_no_loader_needs(container, tmp_path):
    (tmp_path / "etc").mkdir()
    (container.root / "etc").mkdir()
    container.inside("mount", "--bind", str(tmp_path / "etc"), str(container.root / "etc"))
    made = plan(ld_cache=(library("/usr/lib64/libcuda.so.1"),))
    assert container.give(made).ld_cache == ()
    elsewhere = made.replace(image=made.image.replace(library_directory="/usr/local/nvidia/lib64", searched=False))
    with pytest.raises(NoPlace, match=r"cannot place '/etc/ld\.so\.cache'.*LD_LIBRARY_PATH=/usr/local/nvidia/lib64"):
        container.give(elsewhere)


def test_a_read_only_file_system(container, source):
    container.inside("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(container.root / "usr/lib64"))
    container.give(plan(mounts=(bind(source, PROGRAM).replace(optional=True),)))
    assert "Read-only file system" in container.warnings[0]
    with pytest.raises(NoPlace, match="Read-only file system"):
        container.give(plan(mounts=(bind(source, PROGRAM),)))


def test_a_mount_that_is_shared_with_the_host_is_refused_though_optional(container, volume, source):
    (volume / "nvidia-smi").touch()
    container.inside("mount", "--make-shared", str(container.root / "usr/lib64"))
    with pytest.raises(UnsafeRootfs, match="shared with the host"):
        container.give(plan(mounts=(bind(source, PROGRAM).replace(optional=True),)))


@pytest.mark.parametrize("kind", ["tmpfs", "bind", "symlink", "device_node", "ld_cache"])
def test_a_failure_after_all_was_made_is_undone(container, source, kind):
    before = container.tree()

    def fail():
        assert container.tree() != before
        raise DriverError("driver", "was exchanged", "start again")

    with pytest.raises(DriverError):
        container.give(samples(source)[kind], confirm=fail)
    assert container.tree() == before


def test_a_volume_is_one_reason_for_all_that_has_no_place_in_it():
    paths = [f"/usr/bin/{name}" for name in "abcde"]
    said = left_out.warnings({path: in_volume(path) for path in [*paths, "/run/x"]})
    assert [text.partition(" is a volume")[0] for text in said] == [
        "left out: '/usr/bin/a', '/usr/bin/b', '/usr/bin/c' and 2 more, because '/usr/bin'",
        "left out: '/run/x', because '/run'",
    ]
    assert "to have them, mount" in said[0]

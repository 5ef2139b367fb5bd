"""A rootfs with the mounts that config.json says, before a runtime has made them."""

from __future__ import annotations

import os
import stat

import pytest

from oci_gpu_hook.apply.rootfs.as_mounted import AsMounted
from oci_gpu_hook.apply.rootfs.directory import Directories, Directory, NoPlace
from oci_gpu_hook.base.errors import UnsafeRootfs
from oci_gpu_hook.oci import container as containers


def directory_of(directories: Directories, path: str) -> Directory:
    found = directories.find(path)
    assert found is not None
    return found


@pytest.fixture
def bundle(tmp_path):
    for path in ("rootfs/usr/bin", "rootfs/run", "rootfs/etc", "rootfs/var", "volume/below"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "rootfs/etc/passwd").write_text("of the image")
    (tmp_path / "volume/data").write_text("of the host")
    (tmp_path / "rootfs/var/run").symlink_to("/run")
    return tmp_path


@pytest.fixture
def mounted(bundle):
    """Return the rootfs of the bundle with mounts, each a destination, a source and options, or a type."""
    opened = []

    def make(*mounts, namespaces=("mount", "pid")):
        document = {
            "process": {},
            "root": {"path": "rootfs"},
            "linux": {"namespaces": [{"type": name} for name in namespaces]},
            "mounts": [
                {
                    "destination": destination,
                    "source": str(source),
                    "type": kind or "bind",
                    "options": list(options or (() if kind else ("rbind",))),
                }
                for destination, source, kind, options in mounts
            ],
        }
        state = containers.State(id="c1", pid=0, bundle=str(bundle), root="", annotations={})
        container = containers.of_document(document, state)
        rootfs = AsMounted(os.open(container.rootfs, os.O_PATH | os.O_DIRECTORY), container)
        opened.append(rootfs)
        return rootfs

    before = len(os.listdir("/proc/self/fd"))
    yield make
    for rootfs in opened:
        rootfs.__exit__()
    assert len(os.listdir("/proc/self/fd")) <= before + 8, "descriptors that look-ups returned are the tests' own"


def test_a_volume_shows_the_hosts_and_takes_nothing(mounted):
    rootfs = mounted(("/data", "volume", "", ()))
    assert rootfs.read("/data/data", 100) == b"of the host"
    assert rootfs.is_volume("/data/below/deeper")
    assert not rootfs.is_volume("/usr/bin")
    with Directories(rootfs) as directories, pytest.raises(NoPlace, match="'/data' is a volume of the host"):
        directory_of(directories, "/data").refuse_making("x")


def test_links_lead_into_volumes_by_any_path(mounted, bundle):
    rootfs = mounted(("/run", "volume", "", ()))
    (bundle / "rootfs/usr/lib").symlink_to("../var/run/below/..")
    for path in ("/var/run", "/usr/lib", "/../var/./run/"):
        assert rootfs.is_volume(path), path
        assert rootfs.exists(f"{path}/data"), path


def test_a_destination_is_resolved_in_the_rootfs(mounted, bundle):
    (bundle / "rootfs/out").symlink_to("/../../../usr")
    rootfs = mounted(("/out/bin", "volume", "", ()))
    assert rootfs.exists("/usr/bin/data")


def test_what_is_missing_of_a_destination_is_there(mounted, bundle):
    """Also through a link to nothing; the rootfs itself stays as it is."""
    (bundle / "rootfs/dangling").symlink_to("opt/made")
    rootfs = mounted(("/dangling/deep", "volume", "", ()), ("/srv/file", "volume/data", "", ()))
    assert rootfs.exists("/opt/made/deep/data")
    assert rootfs.read("/srv/file", 100) == b"of the host"
    assert not rootfs.is_volume("/opt/made")
    with Directories(rootfs) as directories:
        found = directory_of(directories, "/srv").entry("file")
        assert found is not None
        assert stat.S_ISREG(found[0])
        assert directory_of(directories, "/srv").entry("none") is None
        assert directories.find("/srv/none") is None
    assert not (bundle / "rootfs/opt").exists()


@pytest.mark.parametrize("destination", ["/none/x/../../usr/bin", "/usr/./bin/", "/none/../usr/none/../bin/."])
def test_dots_lead_back_from_what_is_missing(mounted, destination):
    rootfs = mounted((destination, "volume", "", ()))
    assert rootfs.exists("/usr/bin/data")
    assert rootfs.is_volume("/usr/bin")


def test_a_later_mount_hides_an_earlier_one(mounted):
    rootfs = mounted(("/run", "volume", "", ()), ("/run", "tmpfs", "tmpfs", ()))
    assert not rootfs.exists("/run/data")
    assert not rootfs.is_volume("/run")


def test_a_mount_above_hides_what_is_below(mounted):
    rootfs = mounted(("/run/below", "volume", "", ()), ("/run", "tmpfs", "tmpfs", ()))
    assert not rootfs.exists("/run/below")
    copied = mounted(("/run/below", "volume", "", ()), ("/run", "tmpfs", "tmpfs", ("tmpcopyup",)))
    assert copied.exists("/run/below/data")
    assert not copied.is_volume("/run/below")


def test_a_tmpfs_is_empty_and_the_containers_own(mounted):
    rootfs = mounted(("/etc", "tmpfs", "tmpfs", ()), ("/etc/hosts", "volume/data", "", ()))
    assert not rootfs.exists("/etc/passwd")
    assert rootfs.read("/etc/hosts", 100) == b"of the host"
    assert not rootfs.is_volume("/etc/x")
    copied = mounted(("/etc", "tmpfs", "tmpfs", ("tmpcopyup",)))
    assert copied.read("/etc/passwd", 100) == b"of the image"


def test_a_read_only_one_takes_nothing(mounted):
    """But a tmpfs does, which runtimes make read-only after the hooks."""
    rootfs = mounted(("/run", "mqueue", "mqueue", ("ro",)), ("/etc", "tmpfs", "tmpfs", ("ro",)))
    with Directories(rootfs) as directories:
        with pytest.raises(NoPlace, match="cannot create '/run/x' in the container: Read-only file system"):
            directory_of(directories, "/run").refuse_making("x")
        directory_of(directories, "/etc").refuse_making("x")


def test_a_mount_whose_source_is_missing_is_the_runtimes_to_complain_of(mounted):
    rootfs = mounted(("/run", "nowhere", "", ()))
    assert rootfs.exists("/run")


@pytest.mark.parametrize(("namespaces", "own"), [(("pid",), True), ((), False)])
def test_proc_is_the_containers_own_with_a_pid_namespace(mounted, namespaces, own):
    rootfs = mounted(("/proc", "proc", "proc", ()), namespaces=namespaces)
    assert rootfs.exists("/proc/driver")
    assert rootfs.is_volume("/proc") is not own
    assert not rootfs.exists("/proc/self/root/etc"), "no link of the kernel's is followed"


def test_shared_mounts_are_told(mounted):
    rootfs = mounted(("/run", "volume", "", ("rbind", "rshared")), ("/etc", "volume", "", ()))
    fd = rootfs.resolve("/run/below")
    assert rootfs.mount_of(fd) in rootfs.shared
    other = rootfs.resolve("/etc/below")
    assert rootfs.mount_of(other) not in rootfs.shared
    os.close(fd)
    os.close(other)


def test_links_without_end_and_files_on_the_way(mounted, bundle):
    (bundle / "rootfs/loop").symlink_to("loop")
    rootfs = mounted()
    for path, words in (("/loop/x", "loop of links"), ("/etc/passwd/x", "not a directory")):
        with pytest.raises(UnsafeRootfs, match=words):
            rootfs.directory(path)


@pytest.mark.parametrize("destination", ["/x\0y", "/x\ud800y", "/a" * 2000, "", "relative"])
def test_what_no_runtime_can_mount_is_passed_over(mounted, destination):
    rootfs = mounted((destination, "", "tmpfs", ()), ("/usr/bin", "", "tmpfs", ()))
    with Directories(rootfs) as directories:
        assert directory_of(directories, "/usr/bin").entry("nothing") is None

"""The drop-in for a container's systemd unit, in a directory that stands for the host. Real systemd is elsewhere."""

from __future__ import annotations

import errno
import os

import pytest

from oci_gpu_hook.apply.systemd import drop_in as systemd
from oci_gpu_hook.apply.systemd import units
from oci_gpu_hook.base.errors import ApplyError

NODES = ((195, 0), (195, 255))
SCOPE = "docker-abc.scope"
CGROUP = f"/system.slice/{SCOPE}"
# As systemd 252 writes it for runc's --systemd-cgroup.
TRANSIENT = """\
# This is a transient unit file, created programmatically via the systemd API. Do not edit.
[Unit]
DefaultDependencies=no

[Scope]
Slice=system.slice
Delegate=yes
DevicePolicy=strict
DeviceAllow=
DeviceAllow=char-pts rwm
DeviceAllow=/dev/char/5:2 rwm
"""


@pytest.fixture
def host(tmp_path):
    """A host that systemd booted, with a scope that runc made."""
    for name in ("run/systemd/system", "run/systemd/transient"):
        (tmp_path / name).mkdir(parents=True)
    configure(tmp_path, TRANSIENT)
    return tmp_path


def drop_in(cgroup, nodes, root):
    """Do what a start does: None where systemd leaves the devices alone, else the unit that has a drop-in now."""
    unit = systemd.restricted_unit(cgroup, root)
    if not unit:
        return None
    systemd.drop_in(unit, nodes, root)
    return unit


def configure(host, text, unit=SCOPE, directory="run/systemd/transient"):
    path = host / directory / unit
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_block_device_has_a_path_of_its_own(host):
    nodes = ((195, 0), (240, 7, "b"))
    assert drop_in(CGROUP, nodes, host) == SCOPE
    assert "DeviceAllow=/dev/block/240:7 rw\n" in written(host).read_text()
    assert systemd.covers(SCOPE, nodes, host)
    assert not systemd.covers(SCOPE, ((240, 7),), host)


def written(host, unit=SCOPE):
    return host / f"run/systemd/system.control/{unit}.d/50-oci-gpu-hook.conf"


def files(host):
    return sorted(str(path.relative_to(host)) for path in host.rglob("*"))


class TestUnitPath:
    @pytest.mark.parametrize(
        ("cgroup", "unit"),
        [
            (CGROUP, CGROUP),
            ("/machine.slice/libpod-1.scope/container", "/machine.slice/libpod-1.scope"),
            ("/system.slice/docker-1.scope/init.scope", "/system.slice/docker-1.scope"),
            ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope", None),
            ("/system.slice/a.service/libpod-payload-1", "/system.slice/a.service"),
            ("/user.slice/user-1.slice/user@1.service/user.slice/x.scope", "/user.slice/user-1.slice/user@1.service"),
            ("/a.scope", "/a.scope"),
            ("/system.slice/_cpu.scope", "/system.slice/_cpu.scope"),
            (r"/machine.slice/a\x2db.scope", None),
            ("/docker/abc", ""),
            ("/docker/abc.scope", ""),
            ("/kubepods/burstable/pod1/abc", ""),
            ("/system.slice", ""),
            ("/", ""),
            ("/.scope", ""),
            ("/a b.scope", ""),
            ("/a\nb.scope", ""),
            ("/ä.scope", ""),
            (f"/{'a' * 250}.scope", ""),
        ],
    )
    def test_the_unit_is_what_follows_the_slices(self, cgroup, unit):
        assert units.unit_path(cgroup) == (cgroup if unit is None else unit)


class TestDropIn:
    def test_it_allows_each_node_by_its_number(self, host):
        assert drop_in(CGROUP, NODES, str(host)) == SCOPE
        assert (
            written(host).read_text() == "[Scope]\nDeviceAllow=/dev/char/195:0 rw\nDeviceAllow=/dev/char/195:255 rw\n"
        )
        assert written(host).stat().st_mode & 0o7777 == 0o644
        assert os.listdir(written(host).parent) == ["50-oci-gpu-hook.conf"]

    def test_the_process_may_be_in_a_cgroup_below(self, host):
        assert drop_in(f"{CGROUP}/container", NODES, str(host)) == SCOPE

    def test_an_escaped_name_is_written_as_the_units(self, host):
        configure(host, TRANSIENT, "cpu.scope")
        assert drop_in("/system.slice/_cpu.scope", NODES, str(host)) == "cpu.scope"
        assert written(host, "cpu.scope").exists()

    def test_a_service_has_its_own_section(self, host):
        configure(host, "[Service]\nDevicePolicy=closed\n", "a.service", "etc/systemd/system")
        assert drop_in("/system.slice/a.service", NODES, str(host)) == "a.service"
        assert written(host, "a.service").read_text().startswith("[Service]\n")

    def test_writing_again_replaces_what_was_there(self, host):
        drop_in(CGROUP, NODES, str(host))
        assert drop_in(CGROUP, [(511, 1)], str(host)) == SCOPE
        assert written(host).read_text() == "[Scope]\nDeviceAllow=/dev/char/511:1 rw\n"

    @pytest.mark.parametrize(
        "cgroup",
        [
            "/docker/abc",
            "/docker/abc.scope",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-abc.scope",
            "/system.slice/unknown.scope",
            "/system.slice/docker-abc.scope ",
        ],
    )
    def test_nothing_is_written_where_systemd_does_not_restrict_the_devices(self, host, cgroup):
        before = files(host)
        assert drop_in(cgroup, NODES, str(host)) is None
        assert files(host) == before

    def test_nothing_is_written_where_systemd_does_not_run(self, host):
        (host / "run/systemd/system").rmdir()
        before = files(host)
        assert drop_in(CGROUP, NODES, str(host)) is None
        assert files(host) == before


AUTO = "DevicePolicy=auto"
CLOSED = "DevicePolicy=closed"


class TestDevicePolicy:
    """A DeviceAllow= for a unit without a policy would take all other devices away at the next reload."""

    @pytest.mark.parametrize(
        ("text", "restricted"),
        [
            ("[Scope]\nDelegate=yes\n", False),  # crun before it set a policy
            ("[Scope]\nDeviceAllow=\nDevicePolicy=auto\n", False),  # runc, privileged
            ("[Scope]\nDevicePolicy=strict\n", True),
            ("[Scope]\nDevicePolicy=strict\nDevicePolicy=auto\n", False),
            (" [Scope]\n DevicePolicy = closed \n", True),
            ("[Scope]\nDeviceAllow=/dev/fuse rw\n", True),
            ("[Scope]\nDeviceAllow=/dev/fuse rw\nDeviceAllow=\n", False),
            ("[Service]\nPrivateDevices=yes\n", True),
            ("[Service]\nPrivateDevices=no\n", False),
            ("# DevicePolicy=strict\n", False),
        ],
    )
    def test_of_a_fragment(self, host, text, restricted):
        configure(host, text)
        assert (drop_in(CGROUP, NODES, str(host)) is not None) is restricted

    @pytest.mark.parametrize(
        ("drop_ins", "restricted"),
        [
            ({"run/systemd/system.control/50-DevicePolicy.conf": "DevicePolicy=auto"}, False),
            ({"run/systemd/system.control/50-DeviceAllow.conf": "DeviceAllow=/dev/fuse rw"}, True),
            ({"etc/systemd/system/10.conf": AUTO, "run/systemd/system/20.conf": CLOSED}, True),
            ({"etc/systemd/system/20.conf": AUTO, "run/systemd/system/10.conf": CLOSED}, False),
            ({"etc/systemd/system/10.conf": AUTO, "run/systemd/system/10.conf": CLOSED}, False),
            ({"etc/systemd/system/10.confused": "DevicePolicy=closed"}, False),
            ({"run/systemd/system.control/50-oci-gpu-hook.conf": "DeviceAllow=/dev/char/195:0 rw"}, False),
        ],
    )  # fmt: skip
    def test_of_drop_ins_by_their_names_and_directories(self, host, drop_ins, restricted):
        strict_at_first = {"run/systemd/system.control/50-DevicePolicy.conf"} & drop_ins.keys()
        configure(host, TRANSIENT if strict_at_first else "[Scope]\n")
        if strict_at_first:
            configure(host, "[Scope]\nDevicePolicy=strict\n")
        for name, text in drop_ins.items():
            directory, file = os.path.split(name)
            configure(host, f"[Scope]\n{text}\n", file, f"{directory}/{SCOPE}.d")
        assert (drop_in(CGROUP, NODES, str(host)) is not None) is restricted

    def test_of_the_template_of_an_instance(self, host):
        configure(host, "[Service]\nDevicePolicy=closed\n", "a@.service", "usr/lib/systemd/system")
        assert drop_in("/system.slice/a@1.service", NODES, str(host)) == "a@1.service"

    def test_the_first_fragment_of_the_search_path_counts(self, host):
        configure(host, "[Scope]\nDevicePolicy=auto\n", directory="etc/systemd/system")
        assert drop_in(CGROUP, NODES, str(host)) == SCOPE  # the transient one comes first


class TestHostileDirectories:
    def refused(self, host, match):
        before = files(host)
        with pytest.raises(ApplyError, match=match):
            drop_in(CGROUP, NODES, str(host))
        assert files(host) == before

    @pytest.mark.parametrize("where", ["run/systemd/system.control", f"run/systemd/system.control/{SCOPE}.d"])
    def test_a_link_in_place_of_a_directory_is_refused(self, host, where, tmp_path_factory):
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        (host / where).parent.mkdir(parents=True, exist_ok=True)
        (host / where).symlink_to(elsewhere)
        self.refused(host, "Not a directory|symbolic links")
        assert os.listdir(elsewhere) == []

    def test_a_file_in_place_of_a_directory_is_refused(self, host):
        (host / "run/systemd/system.control").mkdir()
        (host / f"run/systemd/system.control/{SCOPE}.d").write_text("")
        self.refused(host, "Not a directory")

    @pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
    def test_a_directory_that_others_can_write_to_is_refused(self, host, mode):
        (host / f"run/systemd/system.control/{SCOPE}.d").mkdir(parents=True)
        (host / f"run/systemd/system.control/{SCOPE}.d").chmod(mode)
        self.refused(host, "users other than root can write")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_a_directory_of_someone_else_is_refused(self, host):
        (host / f"run/systemd/system.control/{SCOPE}.d").mkdir(parents=True)
        os.chown(host / f"run/systemd/system.control/{SCOPE}.d", 1000, 1000)
        self.refused(host, "users other than root can write")

    def test_a_link_in_place_of_the_file_is_replaced_and_not_followed(self, host, tmp_path_factory):
        target = tmp_path_factory.mktemp("elsewhere") / "target"
        target.write_text("precious")
        written(host).parent.mkdir(parents=True)
        written(host).symlink_to(target)
        drop_in(CGROUP, NODES, str(host))
        assert target.read_text() == "precious"
        assert not written(host).is_symlink()

    def test_a_read_only_run_is_a_clear_error(self, host, monkeypatch):
        def read_only(*_arguments, **_options):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(os, "mkdir", read_only)
        self.refused(host, f"{SCOPE}.*Read-only file system; .*reload takes the GPUs")


class TestRemove:
    def test_the_file_and_its_directory_go(self, host):
        before = files(host)
        drop_in(CGROUP, NODES, str(host))
        systemd.remove(SCOPE, str(host))
        assert files(host) == sorted([*before, "run/systemd/system.control"])

    def test_what_others_put_there_stays(self, host):
        drop_in(CGROUP, NODES, str(host))
        (written(host).parent / "50-CPUWeight.conf").write_text("[Scope]\nCPUWeight=50\n")
        systemd.remove(SCOPE, str(host))
        assert os.listdir(written(host).parent) == ["50-CPUWeight.conf"]

    def test_removing_what_is_not_there_is_no_error(self, host):
        before = files(host)
        systemd.remove(SCOPE, str(host))
        assert files(host) == before
        drop_in(CGROUP, NODES, str(host))
        systemd.remove(SCOPE, str(host))
        after = files(host)
        systemd.remove(SCOPE, str(host))
        assert files(host) == after

    @pytest.mark.parametrize("name", ["../../etc.scope", "/etc/passwd", "a.slice", "", ".scope", "a/b.service"])
    def test_what_names_no_unit_is_refused(self, host, name):
        with pytest.raises(ApplyError, match="is not a name of a unit"):
            systemd.remove(name, str(host))

    def test_a_link_in_place_of_the_directory_is_not_followed(self, host, tmp_path_factory):
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        (elsewhere / "50-oci-gpu-hook.conf").write_text("")
        (host / "run/systemd/system.control").mkdir()
        (host / f"run/systemd/system.control/{SCOPE}.d").symlink_to(elsewhere)
        with pytest.raises(ApplyError, match="cannot remove"):
            systemd.remove(SCOPE, str(host))
        assert os.listdir(elsewhere) == ["50-oci-gpu-hook.conf"]

    def test_units_lists_those_that_have_a_drop_in(self, host):
        assert units.units(str(host)) == ()
        configure(host, TRANSIENT, "b.scope")
        drop_in("/b.scope", NODES, str(host))
        drop_in(CGROUP, NODES, str(host))
        (host / "run/systemd/system.control/other.scope.d").mkdir()
        assert units.units(str(host)) == ("b.scope", SCOPE)

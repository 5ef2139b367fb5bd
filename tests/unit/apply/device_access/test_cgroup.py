"""Which cgroup decides about a container's devices, and the rules of cgroup v1; real cgroups are in tests/runtime."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.apply.device_access import cgroup, v1
from oci_gpu_hook.apply.device_access.model import DeviceCgroup
from oci_gpu_hook.base import rootless
from oci_gpu_hook.base.errors import ApplyError

V1 = "12:pids:/docker/abc\n5:devices:/docker/abc\n1:name=systemd:/docker/abc\n0::/docker/abc\n"
V2 = "0::/system.slice/docker-abc.scope\n"


@pytest.fixture
def files(monkeypatch):
    """What the process reads from /proc, by path; all else is absent."""
    contents: dict[str, str] = {}

    def read(path, *_size, **_options):
        if path not in contents:
            raise FileNotFoundError(2, "No such file or directory", path)
        return contents[path].encode()

    monkeypatch.setattr(cgroup, "read_file", read)
    monkeypatch.setattr(rootless, "read_start", read)
    return contents


class TestPaths:
    @pytest.mark.parametrize(
        ("text", "paths"),
        [
            (V1, ("/docker/abc", "/docker/abc")),
            (V2, (None, "/system.slice/docker-abc.scope")),
            ("4:cpu,devices:/x\n", ("/x", None)),
            ("4:devices:/a:b\n0::/c:d\n", ("/a:b", "/c:d")),
            ("3:cpuset:/devices\n", (None, None)),
            ("2:name=devices:/x\n", (None, None)),
            ("", (None, None)),
        ],
    )
    def test_each_hierarchy_is_told_from_the_others(self, files, text, paths):
        files["/proc/7/cgroup"] = text
        assert cgroup._paths(7) == paths

    @pytest.mark.parametrize("text", ["0::/../docker/abc\n", "5:devices:/..\n0::/fine\n"])
    def test_a_cgroup_outside_this_cgroup_namespace_is_a_clear_error(self, files, text):
        files["/proc/7/cgroup"] = text
        with pytest.raises(ApplyError, match="outside this process's cgroup namespace"):
            cgroup._paths(7)

    def test_the_hierarchy_that_does_not_decide_may_lie_anywhere(self, files):
        files["/proc/7/cgroup"] = "5:devices:/docker/abc\n0::/../elsewhere\n"
        assert cgroup._paths(7) == ("/docker/abc", "/../elsewhere")

    def test_a_process_that_is_gone_is_a_clear_error(self, files):
        with pytest.raises(ApplyError, match="process 7: No such file or directory"):
            cgroup._paths(7)


HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime shared:9 master:2 - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""
ELSEWHERE = r"""
50 1 0:33 /docker /mnt/my\040cgroups rw - cgroup cgroup rw,cpu,devices
51 1 0:33 /lxc /mnt/lxc rw - cgroup cgroup rw,cpu,devices
52 1 0:60 / /mnt/a\134b rw - cgroup2 none rw
53 1 0:61 / /mnt/c rw - cgroups cgroup2 rw,devices
"""


class TestDirectories:
    def test_the_usual_place_comes_first_and_the_mount_table_is_not_read_for_it(self, files):
        assert next(cgroup._directories(None, "/a")) == (2, "/a", "/sys/fs/cgroup/a")
        assert next(cgroup._directories("/a", "/b")) == (1, "/a", "/sys/fs/cgroup/devices/a")

    def test_on_a_hybrid_host_the_devices_of_v1_decide(self, files):
        files["/proc/self/mountinfo"] = HYBRID
        found = list(cgroup._directories("/docker/abc", "/docker/abc"))
        assert [version for version, _, _ in found] == [1, 1, 2]
        assert found[2][2] == "/sys/fs/cgroup/unified/docker/abc"

    def test_a_mount_of_a_part_is_used_for_what_lies_in_it(self, files):
        files["/proc/self/mountinfo"] = ELSEWHERE
        assert list(cgroup._directories("/docker/abc", None))[1:] == [(1, "/docker/abc", "/mnt/my cgroups/abc")]
        assert list(cgroup._directories("/docker", None))[1:] == [(1, "/docker", "/mnt/my cgroups")]
        assert list(cgroup._directories("/dockers/abc", None))[1:] == []
        assert list(cgroup._directories(None, "/x"))[1:] == [(2, "/x", "/mnt/a\\b/x")]


class TestFind:
    def test_a_cgroup_that_is_mounted_nowhere_is_a_clear_error(self, files):
        files["/proc/1/cgroup"] = V2
        files["/proc/self/mountinfo"] = ""
        with pytest.raises(ApplyError, match=r"docker-abc\.scope.*no cgroup file system that is mounted here"):
            cgroup.find(1)

    @pytest.mark.parametrize("text", ["", "0::/\n", "5:devices:/\n0::/\n"])
    def test_without_a_device_controller_there_is_nothing_to_do(self, files, text):
        files["/proc/1/cgroup"] = text
        files["/proc/self/mountinfo"] = ""
        found = cgroup.find(1)
        assert (found.version, found.levels) == (0, ())
        grant = cgroup.allow(found, [(195, 0)], ())
        assert (grant.changes, grant.note) == ([], "the container is in no cgroup that controls devices")
        assert cgroup.allows(found, 195, 0) is True

    def test_a_directory_that_does_not_hold_the_process_is_not_its_cgroup(self, tmp_path):
        (tmp_path / "cgroup.procs").write_text("17\n4242\n")
        assert cgroup._open_if_holding(str(tmp_path), 424) is None
        fd = cgroup._open_if_holding(str(tmp_path), 4242)
        assert fd is not None
        assert os.path.samestat(os.fstat(fd), tmp_path.stat())
        os.close(fd)
        assert cgroup._open_if_holding(str(tmp_path / "absent"), 4242) is None


class TestOwnTop:
    @pytest.mark.parametrize(
        ("path", "cgroups_path", "top"),
        [
            ("/docker/abc", "/docker/abc", "/docker/abc"),
            ("/docker/abc", "", "/docker/abc"),
            ("/docker/abc/init.scope", "/docker/abc", "/docker/abc"),
            ("/docker/outer/docker/abc/x/y", "/docker/abc", "/docker/outer/docker/abc"),
            ("/docker/abcdef", "/docker/abc", "/docker/abcdef"),
            ("/machine.slice/libpod-1.scope/container", "machine.slice:libpod:1", "/machine.slice/libpod-1.scope"),
            ("/system.slice/docker-1.scope/init.scope", "system.slice:docker:1", "/system.slice/docker-1.scope"),
            ("/system.slice/a.service/libpod-payload-1", "", "/system.slice/a.service/libpod-payload-1"),
            ("/", "", "/"),
        ],
    )
    def test_a_container_owns_its_scope_or_what_its_bundle_names(self, path, cgroups_path, top):
        assert cgroup._own_top(path, cgroups_path) == top


class TestRefusals:
    def found(self, version):
        return DeviceCgroup(version=version, path="/a", own_path="/a", levels=(99,))

    def failing(self, monkeypatch, error):
        class Controller:
            @staticmethod
            def allow(*_arguments):
                raise OSError(error, os.strerror(error))

        monkeypatch.setattr(cgroup, "_controller", lambda _version: Controller)

    @pytest.mark.parametrize(("version", "error"), [(1, 13), (1, 1), (2, 1)])
    def test_in_a_user_namespace_a_refusal_is_noted(self, monkeypatch, files, version, error):
        files["/proc/self/uid_map"] = "         0       1000          1\n         1     100000      65536\n"
        self.failing(monkeypatch, error)
        assert "user namespace" in cgroup.allow(self.found(version), [(195, 0)], ()).note

    @pytest.mark.parametrize(("version", "error", "remedy"), [(1, 13, "CAP_SYS_ADMIN"), (2, 1, "CAP_BPF")])
    def test_on_the_host_a_refusal_is_an_error(self, monkeypatch, files, version, error, remedy):
        files["/proc/self/uid_map"] = "         0          0 4294967295\n"
        self.failing(monkeypatch, error)
        with pytest.raises(ApplyError, match=remedy):
            cgroup.allow(self.found(version), [(195, 0)], ())

    def test_a_kernel_without_device_programs_leaves_nothing_to_do(self, monkeypatch, files):
        files["/proc/self/uid_map"] = "         0          0 4294967295\n"
        self.failing(monkeypatch, 22)
        assert "CONFIG_CGROUP_BPF" in cgroup.allow(self.found(2), [(195, 0)], ()).note

    def test_what_was_done_before_a_failure_is_undone_in_reverse(self, monkeypatch, files):
        undone = []

        class Done:
            def __init__(self, name):
                self.name = name

            def undo(self):
                undone.append(self.name)

            def close(self):
                undone.append(f"close {self.name}")

        class Controller:
            @staticmethod
            def allow(_cgroup, _nodes, _rules, changes):
                changes += [Done("first"), Done("second")]
                raise ApplyError("a", "b", "c")

        monkeypatch.setattr(cgroup, "_controller", lambda _version: Controller)
        with pytest.raises(ApplyError):
            cgroup.allow(self.found(2), [(195, 0)], ())
        assert undone == ["second", "first", "close first", "close second"]


class TestV1Rules:
    """What must be added to a list for the kernel to let one open with reading and writing through."""

    @pytest.mark.parametrize(
        ("listed", "missing"),
        [
            ("", "rw"),
            ("a *:* rwm", ""),
            ("c 195:0 rw", ""),
            ("c 195:0 rwm", ""),
            ("c 195:* rwm", ""),
            ("c *:* rw", ""),
            ("c *:0 rw", ""),
            ("c *:* m", "rw"),
            ("c 195:0 r", "w"),
            ("c 195:0 wm", "r"),
            ("c 195:* r\nc 195:0 w", "r"),
            ("c 195:* r\nc *:0 w", "rw"),
            ("b 195:0 rwm", "rw"),
            ("c 195:1 rwm\nc 19:50 rwm\nc 1950:0 rwm", "rw"),
        ],
    )
    def test_missing_access(self, tmp_path, listed, missing):
        (tmp_path / "devices.list").write_text(listed and listed + "\n")
        directory = os.open(tmp_path, os.O_RDONLY)
        assert v1._missing(v1._read_list(directory), 195, 0) == missing
        os.close(directory)

    @pytest.mark.parametrize(
        ("listed", "missing"),
        [
            ("a *:* rwm", ""),
            ("b 7:1 rw", ""),
            ("b 7:* rwm", ""),
            ("b *:1 rw", ""),
            ("c 7:1 rwm", "rw"),
            ("b 7:1 r", "w"),
        ],
    )
    def test_missing_access_to_a_block_device(self, tmp_path, listed, missing):
        (tmp_path / "devices.list").write_text(listed + "\n")
        directory = os.open(tmp_path, os.O_RDONLY)
        assert v1._missing(v1._read_list(directory), 7, 1, "b") == missing
        os.close(directory)

"""Where the state of a hook is that runs in a user namespace."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.base import rootless

WHOLE = "         0          0 4294967295\n"
OURS = "         0      20010          1\n         1     300000      65536\n"


@pytest.fixture
def uid_map(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "uid_map"
        path.write_text(text)
        return str(path)

    return write


def test_root_of_the_host_uses_what_is_configured(uid_map):
    assert rootless.state_directory("/nonexistent/state", uid_map(WHOLE)) == "/nonexistent/state"


def test_a_user_s_is_in_the_runtime_directory(uid_map, tmp_path):
    own = tmp_path / "20010"
    own.mkdir(mode=0o700)
    found = rootless.state_directory("/proc/nonexistent", uid_map(OURS), str(tmp_path))
    assert found == f"{own}/oci-gpu-hook"


@pytest.mark.parametrize("trouble", ["absent", "open to others", "a link"])
def test_without_a_runtime_directory_it_is_in_tmp_by_uid(uid_map, tmp_path, trouble):
    own = tmp_path / "20010"
    if trouble == "open to others":
        own.mkdir()
        own.chmod(0o777)
    elif trouble == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o777)
        (tmp_path / "elsewhere").chmod(0o777)
        own.symlink_to(tmp_path / "elsewhere")
    assert rootless.state_directory("/proc/nonexistent", uid_map(OURS), str(tmp_path)) == "/tmp/oci-gpu-hook-20010"


def test_a_configured_directory_of_one_s_own_is_used(uid_map, tmp_path):
    own = tmp_path / "state"
    own.mkdir(mode=0o700)
    assert rootless.state_directory(str(own), uid_map(OURS), str(tmp_path)) == str(own)


def test_the_namespace_is_told_by_its_map(uid_map):
    assert rootless.in_first_user_namespace(uid_map(WHOLE)) is True
    assert rootless.in_first_user_namespace(uid_map(OURS)) is False


def test_in_a_real_user_namespace(tmp_path):
    """As another user than the one whose directory is configured, the state directory is this user's."""
    code = "from oci_gpu_hook.base import rootless; print(rootless.state_directory('/proc/1/nothing'))"
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        os.chdir(os.path.dirname(os.path.dirname(os.path.dirname(rootless.__file__))))
        os.execvp("unshare", ["unshare", "--user", "--map-root-user", "/usr/bin/python3", "-c", code])
    os.close(writer)
    with open(reader) as answer:
        text = answer.read().strip()
    if os.waitpid(pid, 0)[1]:
        pytest.skip("this machine lets nobody make user namespaces")
    uid = os.geteuid()
    assert text in (f"/run/user/{uid}/oci-gpu-hook", f"/tmp/oci-gpu-hook-{uid}")

"""What `oci-gpu hook-path` lays: started in a hostile place it runs this package and nothing else."""

from __future__ import annotations

import grp
import importlib.util
import json
import os
import pwd
import struct
import subprocess
import sys

import pytest

from oci_gpu_hook.admin.cli.main import main
from oci_gpu_hook.admin.install import executables, front_file, programs
from oci_gpu_hook.admin.install.bytecode import compile_package
from oci_gpu_hook.admin.install.trusted_files import check_owners
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.entrypoints.runtime_call import FOR_FRONT

DOOR = """
import json, os, sys
def main(*arguments):
    print(json.dumps({"arguments": arguments, "flags": [sys.flags.isolated, sys.flags.no_site, sys.flags.utf8_mode,
        sys.flags.dont_write_bytecode], "path": sys.path, "cached": globals().get("__cached__", "laid"),
        "env": dict(os.environ)}))
    return 5
"""
ASKING = '{"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]}}'


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Stand in for the package: doors that say how they were reached."""
    home = tmp_path / "site packages" / "oci_gpu_hook"
    (home / "entrypoints" / "mesos").mkdir(parents=True)
    doors = ("hook", "runtime", "mesos/__init__", "mesos/shim")
    for name in ("__init__", "entrypoints/__init__", *(f"entrypoints/{door}" for door in doors)):
        (home / f"{name}.py").write_text("" if name.endswith("__init__") else DOOR)
    monkeypatch.setattr(executables, "PACKAGE", str(home))
    monkeypatch.setattr(front_file, "TEMPLATE", str(home / "front.elf"))
    return home


@pytest.fixture
def real(tmp_path):
    path = tmp_path / "real runc"
    path.write_text('#!/bin/sh\necho real "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture(params=["front", "stub"])
def laid(request, package, real, tmp_path):
    """Lay everything, with the front and without."""
    if request.param == "front":
        (package / "front.elf").symlink_to(request.getfixturevalue("template"))
    return executables.write(str(tmp_path / "libexec"), real)


def said(done, status=5):
    assert done.returncode == status, done
    return json.loads(done.stdout)


def run(*command, **options):
    return subprocess.run(command, capture_output=True, check=False, timeout=30, **options)


def test_hook_is_isolated_from_where_it_is_started(laid, package, bundle, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the working directory')")
    hostile = {"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "json.py"), "PYTHONDONTWRITEBYTECODE": "1"}
    state = json.dumps({"bundle": bundle(ASKING)}).encode()
    answer = said(run(laid.hook, "prestart", input=state, cwd=tmp_path, env=hostile))
    assert answer["arguments"][0][1:] == ["prestart"]
    assert answer["flags"] == [1, 1, 1, 1]
    assert [each for each in answer["path"] if each.startswith(str(tmp_path))] == [str(package.parent)]
    assert os.path.exists(f"{answer['path'][-1]}/pynvml.py")
    assert answer["cached"] == "laid"  # out of the one file (oci_gpu_hook/base/cpython/hotpath.py), not searched for


def test_stub_starts_by_itself(laid):
    assert said(run(laid.hook_stub, "poststop"))["arguments"] == [[laid.hook_stub, "poststop"]]


@pytest.mark.parametrize("damage", ["absent", "empty", "cut", "of another Python"])
def test_without_the_one_file_all_is_imported_as_usual(laid, damage):
    path = laid.hook_stub.removesuffix(".py") + ".modules"
    with open(path, "rb") as file:
        content = file.read()
    os.unlink(path)
    if damage != "absent":
        with open(path, "wb") as file:
            file.write({"empty": b"", "cut": content[:400]}.get(damage, content[:8] + b"?" * (len(content) - 8)))
    answer = said(run(laid.hook_stub, "poststop"))
    assert answer["arguments"] == [[laid.hook_stub, "poststop"]]
    assert answer["cached"] != "laid"


def test_runtime_sends_create_to_python_and_the_rest_to_the_real_one(laid, real, bundle):
    answer = said(run(laid.runtime, "create", "--bundle", bundle(ASKING), "a b", env={"A": "1"}))
    started = laid.runtime_stub + ("c" if front_file.read_front(laid.runtime) else "")  # the front starts its byte code
    first, *words = answer["arguments"][0]
    is_for_front = started.endswith("c")
    assert (first, answer["arguments"][1]) == (started, real)
    assert words[is_for_front:] == ["create", "--bundle", bundle(ASKING), "a b"]
    assert words[0].startswith(FOR_FRONT) == is_for_front
    assert answer["env"].get("A") == (None if is_for_front else "1")
    assert run(laid.runtime, "state", "a b").stdout == b"real state a b\n"


def test_laying_again_changes_nothing(laid, real, tmp_path):
    before = {entry.name: entry.stat().st_ino for entry in os.scandir(tmp_path / "libexec")}
    assert executables.write(str(tmp_path / "libexec"), real) == laid
    assert {entry.name: entry.stat().st_ino for entry in os.scandir(tmp_path / "libexec")} == before


def test_strict_umask_does_not_lock_rootless_engines_out(package, real, tmp_path):
    umask = os.umask(0o077)
    try:
        executables.write(str(tmp_path / "libexec"), real)
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(umask)
    assert (tmp_path / "libexec").stat().st_mode & 0o7777 == 0o755
    assert (package / "__pycache__").stat().st_mode & 0o7777 == 0o755
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in (package / "__pycache__").iterdir())


@pytest.mark.parametrize("damage", ["content", "mode", "absent", "link"])
def test_stale_executable_is_replaced(laid, real, tmp_path, damage):
    with open(laid.hook, "rb") as file:
        content = file.read()
    os.unlink(laid.hook)
    other = tmp_path / "other"
    other.write_bytes(b"x" if damage in ("content", "link") else content)
    if damage == "link":
        os.symlink(other, laid.hook)
    elif damage != "absent":
        os.rename(other, laid.hook)
        os.chmod(laid.hook, 0o755 if damage == "content" else 0o644)
    executables.write(str(tmp_path / "libexec"), real)
    with open(laid.hook, "rb") as file:
        assert (file.read(), os.lstat(laid.hook).st_mode & 0o7777) == (content, 0o755)
    if damage == "link":
        assert other.read_bytes() == b"x"


def test_mesos_front_hands_over_the_environment(package, template, real, tmp_path):
    (package / "front.elf").symlink_to(template)
    path = str(tmp_path / "mesos-containerizer")
    executables.write_mesos_front(path, real)
    answer = said(run(path, "launch", '--launch_info={"rootfs": "/r"}', env={"LD_PRELOAD": ""}))
    (descriptor, *arguments), helper, front, config = answer["arguments"]
    assert descriptor.isdecimal()
    assert (arguments, helper) == ([path, "launch", '--launch_info={"rootfs": "/r"}'], real)
    assert (front, config) == (path, "/etc/oci-gpu-hook/config.toml")


def test_mesos_front_needs_the_executable(package, real, tmp_path):
    with pytest.raises(HookError, match="was not built"):
        executables.write_mesos_front(str(tmp_path / "mesos-containerizer"), real)


def test_foreign_template_is_refused(package, real, tmp_path):
    (package / "front.elf").write_bytes(b"\x7fELF of another version")
    with pytest.raises(HookError, match="not this version's front"):
        executables.write(str(tmp_path / "libexec"), real)


@pytest.mark.parametrize("name", ["with space", "x" * 120])
def test_interpreter_that_no_shebang_can_name(package, request, real, tmp_path, monkeypatch, name):
    """A wrapper stands for an interpreter that is installed there: links are resolved."""
    directory = tmp_path / name
    directory.mkdir()
    interpreter = directory / "python3"
    interpreter.write_text(f'#!/bin/sh\nexec {os.path.realpath(sys.executable)} "$@"\n')
    interpreter.chmod(0o755)
    with pytest.raises(HookError, match="#! line"):
        executables.write(str(tmp_path / "libexec"), real, str(interpreter))
    (package / "front.elf").symlink_to(request.getfixturevalue("template"))
    laid = executables.write(str(tmp_path / "libexec"), real, str(interpreter))
    assert said(run(laid.hook, "poststop"))["arguments"] == [[laid.hook_stub + "c", "poststop"]]


@pytest.mark.parametrize("interpreter", ["/nonexistent/python3", "/bin/true", "/bin/cat"])
def test_interpreter_that_does_not_do(interpreter):
    with pytest.raises(HookError, match="does not run as Python"):
        programs.usable_interpreter(interpreter)


def test_interpreter_of_a_virtual_environment_is_resolved():
    found = programs.usable_interpreter()
    assert os.path.isabs(found)
    assert not os.path.islink(found)
    assert not found.startswith(sys.prefix) or sys.prefix == sys.base_prefix


def test_real_runtime_is_never_ourselves(laid, monkeypatch, tmp_path):
    with pytest.raises(HookError, match="is not an OCI runtime"):
        programs.find_real_runtime(laid.runtime)
    with pytest.raises(HookError, match="is not an OCI runtime"):
        programs.find_real_runtime("/nonexistent/runc")
    path = tmp_path / "bin"
    path.mkdir()
    (path / "runc").symlink_to(laid.runtime)
    monkeypatch.setenv("PATH", str(path))
    assert programs.find_real_runtime() == ""


def test_no_real_runtime_lays_the_hook_alone(package, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", "/nonexistent")
    laid = executables.write(str(tmp_path / "libexec"))
    assert (laid.runtime, laid.runtime_stub) == ("", "")
    assert os.path.exists(laid.hook)
    assert main(["hook-path", "--runtime", "--directory", str(tmp_path / "libexec")]) == 1
    assert "--real-runtime" in capsys.readouterr().err


@pytest.mark.parametrize("which", ["package", "module", "above"])
def test_what_everyone_can_write_is_refused(package, real, tmp_path, which):
    victim = {"package": package, "module": package / "entrypoints" / "hook.py", "above": package.parent}[which]
    victim.chmod(0o777)
    with pytest.raises(HookError, match="everyone may write"):
        executables.write(str(tmp_path / "libexec"), real)
    assert not os.path.exists(tmp_path / "libexec" / "oci-gpu-hook")


@pytest.mark.parametrize("which", ["directory", "module"])
def test_what_everyone_can_write_of_nvidia_ml_py_is_refused(package, real, tmp_path, monkeypatch, which):
    """The hook asks NVML by that module, as root, from wherever it is when the hook is installed."""
    directory = tmp_path / "site"
    directory.mkdir()
    (directory / "pynvml.py").write_text("")
    (directory if which == "directory" else directory / "pynvml.py").chmod(0o777)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.syspath_prepend(directory)
    with pytest.raises(HookError, match="everyone may write"):
        executables.write(str(tmp_path / "libexec"), real)
    assert not os.path.exists(tmp_path / "libexec" / "oci-gpu-hook")


def test_sticky_directory_above_is_as_good_as_its_owner(tmp_path):
    tmp_path.chmod(0o1777)
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o644)
    assert check_owners(str(tmp_path / "file")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_what_another_user_can_write_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    os.chown(tmp_path / "file", 1234, -1)
    assert "user 1234" in check_owners(str(tmp_path / "file"))[0]


def _group(*, alone: bool) -> int:
    """Return a group of this machine's that somebody else than root is in, or nobody."""
    of_users = {user.pw_gid for user in pwd.getpwall() if user.pw_uid}
    for group in grp.getgrall():
        if group.gr_gid and not group.gr_mem and (group.gr_gid in of_users) != alone:
            return group.gr_gid
    pytest.skip("no such group here")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
@pytest.mark.parametrize("which", ["package", "module", "above"])
def test_what_a_group_can_write_is_refused(package, real, tmp_path, which):
    victim = {"package": package, "module": package / "entrypoints" / "hook.py", "above": package.parent}[which]
    for gid in (_group(alone=False), 4_000_123):
        os.chown(victim, -1, gid)
        victim.chmod(0o775)
        with pytest.raises(HookError, match=r"may write there.*g-w"):
            executables.write(str(tmp_path / "libexec"), real)
        assert not os.path.exists(tmp_path / "libexec" / "oci-gpu-hook")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_what_a_group_of_nobody_can_write_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o664)
    assert check_owners(str(tmp_path / "file")) == []  # of the group root
    os.chown(tmp_path / "file", -1, _group(alone=True))
    assert "can be written by group" in check_owners(str(tmp_path / "file"))[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="a group and its bits")
def test_a_list_of_others_who_can_write_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    entries = ((1, 6, 0xFFFFFFFF), (2, 6, 1234), (4, 4, 0xFFFFFFFF), (0x10, 6, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF))
    written = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:  # include/uapi/linux/posix_acl_xattr.h: tag, permissions, id
        os.setxattr(file, "system.posix_acl_access", written)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")
    with pytest.raises(HookError, match="access control list"):
        check_owners(str(file))


@pytest.mark.parametrize("is_checkout", [False, True])
def test_byte_code_follows_the_source(package, monkeypatch, is_checkout):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "pycache_prefix", "/nonexistent")
    cached = package / "entrypoints" / "__pycache__" / f"hook.{sys.implementation.cache_tag}.pyc"
    assert compile_package(str(package), is_checkout=is_checkout) == []
    first = cached.stat().st_ino
    assert cached.read_bytes()[:8] == importlib.util.MAGIC_NUMBER + bytes([0 if is_checkout else 1, 0, 0, 0])
    compile_package(str(package), is_checkout=is_checkout)
    assert cached.stat().st_ino == first
    (package / "entrypoints" / "hook.py").write_text(DOOR + "# changed\n")
    compile_package(str(package), is_checkout=is_checkout)
    assert cached.stat().st_ino != first


def test_byte_code_that_cannot_be_written_is_a_warning(package):
    (package / "__pycache__").write_text("in the way")
    (warning,) = compile_package(str(package), is_checkout=False)
    assert "starts slowly" in warning


def test_hook_path_prints_each_executable(laid, real, tmp_path, capsys):
    where = ["--directory", str(tmp_path / "libexec"), "--real-runtime", real]
    for options, path in [
        ([], laid.hook),
        (["--python"], laid.hook_stub),
        (["--runtime"], laid.runtime),
        (["--runtime", "--python"], laid.runtime_stub),
    ]:
        assert main(["hook-path", *where, *options]) == 0
        assert capsys.readouterr().out == f"{path}\n"


def test_directory_that_cannot_be_made_is_an_error(package, real, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["hook-path", "--directory", str(tmp_path / "file" / "x")]) == 1
    assert "Not a directory" in capsys.readouterr().err

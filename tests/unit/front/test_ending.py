"""The front at poststop: it takes back what a start has made, as Python does, and starts Python in any doubt."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oci_gpu_hook.apply import cleanup
from oci_gpu_hook.apply.journal import changes as made
from oci_gpu_hook.apply.journal import journal
from oci_gpu_hook.apply.journal.entry import key
from oci_gpu_hook.base.processes import boot_id, start_time
from tests import first_pid_namespace
from tests.unit.front.ended import CHANGES, IMAGE, Host, dead_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_gpu_hook.apply.journal.entry import Entry

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root's containers end without Python"),
    first_pid_namespace.needed,
]


@pytest.fixture
def host(tmp_path, lay, witness):
    interpreter, script, _ = witness
    return Host(tmp_path, lay("hook", interpreter, script))


@pytest.mark.parametrize("stage", ["poststop", "prestart", "createRuntime"])
def test_what_a_start_has_made_is_taken_back(host, stage):
    host.start()
    assert host.left()
    assert not host.stop(stage)
    assert host.left() == []
    assert host.entries() == []
    assert host.leases() == []
    assert all((host.rootfs / name).exists() for name in IMAGE)
    assert os.stat(host.directory / "state/leases.json").st_mode & 0o7777 == 0o644


def test_leases_of_others_stay_as_they_are(host):
    entry = host.start()
    alive = {"pid": os.getpid(), "startTime": start_time(os.getpid())}
    others = [
        host.lease(entry, container="o", pod='a/"b"/c'),
        host.lease(entry, **alive),
        host.lease(entry, container="p"),
    ]
    host.hold(
        host.lease(entry), others[0], host.lease(entry, bootId="another"), others[1], others[2], host.lease(entry)
    )
    assert not host.stop()
    assert host.leases() == others


def test_what_is_no_longer_the_starts_stays(host):
    host.start()
    (host.rootfs / "usr/lib/gpu/libcuda.so.1").write_text("the container's")
    (host.rootfs / "usr/lib/libcuda.so").unlink()
    (host.rootfs / "usr/lib/libcuda.so").symlink_to("another")
    (host.rootfs / "usr/lib/null").unlink()
    os.mknod(host.rootfs / "usr/lib/null", 0o20644, os.makedev(1, 5))
    assert not host.stop()
    assert host.left() == ["usr/lib/gpu", "usr/lib/gpu/libcuda.so.1", "usr/lib/libcuda.so", "usr/lib/null"]
    assert host.entries() == []


def test_a_link_of_the_container_leads_nowhere_else(host, tmp_path):
    host.start()
    shutil.rmtree(host.rootfs / "usr/lib/gpu")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "libcuda.so.1").touch()
    (host.rootfs / "usr/lib/gpu").symlink_to(outside)
    assert not host.stop()
    assert (outside / "libcuda.so.1").exists()
    assert host.left() == ["usr/lib/gpu"]


def test_a_rootfs_that_the_engine_has_removed(host):
    host.start()
    shutil.rmtree(host.rootfs)
    assert not host.stop()
    assert (host.entries(), host.leases()) == ([], [])


def test_a_container_that_was_given_nothing(host):
    """Whoever asks for nothing has an entry only if something was attached to it."""
    host.start()
    assert not host.stop(id="another")
    assert host.left()
    assert len(host.leases()) == 1


def test_one_that_was_given_nothing_and_asks_is_pythons(host):
    (host.bundle / "config.json").write_text('{"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]}}')
    assert host.stop()


def rewritten(host: Host, entry: Entry) -> None:
    path = host.journal / f"{key(entry)}.json"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


def ending(host: Host, entry: Entry) -> Path:
    return host.journal / f"{key(entry)}.end"


def linked_ending(host: Host, entry: Entry) -> None:
    path = ending(host, entry)
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def cut(host: Host, entry: Entry, count: int) -> None:
    path = ending(host, entry)
    path.write_bytes(path.read_bytes()[:-count])


def replaced(host: Host, entry: Entry, old: bytes, new: bytes) -> None:
    path = ending(host, entry)
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def another(host: Host, **more: Any) -> None:
    """Write the entry of a second container on the host."""
    entry = host.entry(**({"id": "o"} | more))
    journal.write(host.config, entry)


def remains(host: Host, name: str = "x") -> None:
    pid, started = dead_process()
    (host.journal / f"{name}~{pid}-{started}.ld.so.cache").touch()


def of_a_living(host: Host, entry: Entry, **more: Any) -> None:
    """Replace the entry by one of a container whose process, or hook, lives."""
    journal.forget(host.config, key(entry))
    journal.write(host.config, host.entry(**more))


def table_of(host: Host) -> Path:
    return host.directory / "state/leases.json"


def living() -> tuple[int, int]:
    return os.getpid(), start_time(os.getpid())


ODD: dict[str, Callable[[Host, Entry], object]] = {
    "no file": lambda host, entry: ending(host, entry).unlink(),
    "a link": linked_ending,
    "others can write it": lambda host, entry: ending(host, entry).chmod(0o622),
    "of another user": lambda host, entry: os.chown(ending(host, entry), 7, 7),
    "empty": lambda host, entry: ending(host, entry).write_bytes(b""),
    "cut by a byte": lambda host, entry: cut(host, entry, 1),
    "cut by a field": lambda host, entry: cut(host, entry, 4),
    "cut by two fields": lambda host, entry: cut(host, entry, 12),
    "of another version": lambda host, entry: replaced(host, entry, b"ending 1\0", b"ending 2\0"),
    "of another boot": lambda host, entry: replaced(host, entry, boot_id().encode(), b"x" * 36),
    "a pid that is none": lambda host, entry: replaced(host, entry, b"\0%d\0" % entry.pid, b"\0%dx\0" % entry.pid),
    "of another container": lambda host, entry: replaced(host, entry, b"\0c\0", b"\0d\0"),
    "of another bundle": lambda host, entry: replaced(host, entry, b"/bundle\0", b"/bandle\0"),
    "another rootfs": lambda host, entry: replaced(host, entry, b"/rootfs\0", b"/bundle\0"),
    "a relative path": lambda host, entry: replaced(host, entry, b"\0l/usr", b"\0lusr"),
    "an unknown kind": lambda host, entry: replaced(host, entry, b"\0l/usr", b"\0m/usr"),
    "a path that ends in dots": lambda host, entry: replaced(host, entry, b"/gpu\0", b"/..\0"),
    "the entry was written again": rewritten,
    "the entry is not the hook's": lambda host, entry: os.chown(host.journal / f"{key(entry)}.json", 7, 7),
    "two containers of the id": lambda host, entry: another(host, id="c"),
    "an entry of an older version": lambda host, entry: (host.journal / "c.json").write_text("{}"),
    "a mark that cleaning up took too long": lambda host, entry: (host.journal / f"{key(entry)}.tried").touch(),
    "remains of a killed hook": lambda host, entry: remains(host),
    "remains of one whose name begins alike": lambda host, entry: remains(host, "c.x"),
    "another container on the rootfs": lambda host, entry: another(host),
    "an entry that cannot be read": lambda host, entry: (host.journal / "x~1-2.json").write_text("{}"),
    "the container lives": lambda host, entry: of_a_living(host, entry, pid=living()[0], start_time=living()[1]),
    "its hook lives": lambda host, entry: of_a_living(host, entry, hook=living()),
    "others can write the journal": lambda host, entry: host.journal.chmod(0o777),
    "others can write the state directory": lambda host, entry: host.journal.parent.chmod(0o777),
    "no lock": lambda host, entry: (host.journal / ".lock").unlink(),
}
# Here Python has the leases to drop, and the front has done the rest.
ODD_LEASES: dict[str, Callable[[Host, Entry], object]] = {
    "no table": lambda host, entry: table_of(host).unlink(),
    "not JSON": lambda host, entry: table_of(host).write_text('{"version": 1, "leases": ['),
    "of another version": lambda host, entry: table_of(host).write_text('{"version": 2, "leases": []}'),
    "others can write it": lambda host, entry: table_of(host).chmod(0o666),
    "no lock": lambda host, entry: table_of(host).with_suffix(".lock").unlink(),
    "of a runtime": lambda host, entry: host.hold(host.lease(entry, starting=True)),
    "of another namespace": lambda host, entry: host.hold(host.lease(entry, pidNamespace=4026531999)),
    "without a holder": lambda host, entry: host.hold({"container": "c"}),
    "a pid that is none": lambda host, entry: host.hold(host.lease(entry, pid=-1)),
    "a pid of another that is none": lambda host, entry: host.hold(host.lease(entry, container="o", pid=1.5)),
}


@pytest.mark.parametrize("odd", ODD)
def test_whatever_is_odd_is_pythons(host, odd):
    entry = host.start()
    ODD[odd](host, entry)
    before = host.left(), host.entries(), host.leases()
    assert host.stop()
    if "path" not in odd and "kind" not in odd:
        assert (host.left(), host.entries(), host.leases()) == before


@pytest.mark.parametrize("odd", ODD_LEASES)
def test_leases_that_are_odd_are_pythons(host, odd):
    entry = host.start()
    ODD_LEASES[odd](host, entry)
    table = table_of(host)
    before = table.read_bytes() if table.exists() else None
    assert host.stop()
    assert (table.read_bytes() if table.exists() else None) == before


@pytest.mark.parametrize(
    "more",
    [
        {"cached": ("/usr/lib/libcuda.so.1",)},
        {"rootfs_born": 0},
        {"boot_id": ""},
        {"changes": (made.link("/usr/lib/libcuda.so", "libcuda.so.1", "libcuda.so.0", passing=False),)},
        {"unit": "a\\x2db.scope"},
    ],
)
def test_what_the_front_cannot_undo_is_pythons(host, more):
    host.changes = more.get("changes", CHANGES)
    host.more = more
    entry = host.start()
    assert not ending(host, entry).exists()
    assert host.stop()


def test_with_a_log_python_tells_it_of_the_end(host):
    host.config = host.config.replace(log_file=str(host.directory / "log"))
    entry = host.start()
    assert not ending(host, entry).exists()
    assert host.stop()


def test_a_long_id_is_pythons(host):
    host.id = "c" * 200
    host.start()
    assert host.stop()


def test_a_mount_that_is_still_there_is_pythons(host):
    host.start()
    place = host.rootfs / "usr/lib/gpu/libcuda.so.1"
    subprocess.run(["mount", "--bind", "/etc/hostname", place], check=True)
    try:
        assert host.stop()
        assert place.read_bytes() == Path("/etc/hostname").read_bytes()
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("state", ["signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))", "ignore"])
def test_its_time_limit_does_not_depend_on_the_engines_signals(host, state):
    """SIGALRM ends what hangs, even where the engine blocks or ignores it. The next program inherits the state."""
    entry = host.start()
    rewritten(host, entry)
    program = "import os, signal, sys; " + state.replace("ignore", "signal.signal(signal.SIGALRM, signal.SIG_IGN)")
    started = [sys.executable, "-c", program + "; os.execv(sys.argv[1], sys.argv[1:])", host.front]
    container = {"id": host.id, "status": "stopped", "bundle": str(host.bundle)}
    done = subprocess.run(
        [*started, "--config", host.toml, "poststop"],
        input=json.dumps(container),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 42, done
    assert json.loads(done.stdout)["alarm_ends"]


def test_a_state_directory_that_is_a_link_is_pythons(host):
    host.start()
    (host.directory / "state").rename(host.directory / "moved")
    (host.directory / "state").symlink_to(host.directory / "moved")
    assert host.stop()


def test_what_python_finds_after_the_front_has_begun(host):
    """Python goes on where the front gave up: at a table of leases that it cannot read."""
    entry = host.start()
    host.hold(host.lease(entry, starting=True))
    assert host.stop()
    assert (host.left(), host.entries()) == ([], [])
    cleanup.detach(host.id, str(host.bundle), host.config)


# Runs a program in a mount namespace where systemd has one drop-in of this project, and tells what is left there.
WITH_SYSTEMD = """
mkdir -p /run/systemd && mount -t tmpfs -o mode=755 none /run/systemd && mkdir -p /run/systemd/system.control/a.scope.d
cd /run/systemd/system.control && touch a.scope.d/50-oci-gpu-hook.conf && {change}; cd /
"$@"; status=$?
cd /run/systemd && find -L . -type f > {left}
exit $status
"""
DROP_IN = "./system.control/a.scope.d/50-oci-gpu-hook.conf"


@pytest.mark.parametrize(
    ("change", "by_python", "left"),
    [
        (":", False, []),
        ("rm a.scope.d/50-oci-gpu-hook.conf", False, []),
        ("rm -r a.scope.d", False, []),
        ("rm -r /run/systemd/system.control", False, []),
        ("touch a.scope.d/50-other.conf", False, ["./system.control/a.scope.d/50-other.conf"]),
        ("chmod 777 .", True, [DROP_IN]),
        ("mv a.scope.d b && ln -s b a.scope.d", True, ["./system.control/b/50-oci-gpu-hook.conf", DROP_IN]),
    ],
)
def test_the_drop_in_goes_with_the_container(host, tmp_path, change, by_python, left):
    host.more = {"unit": "a.scope"}
    host.start()
    script = WITH_SYSTEMD.format(change=change, left=tmp_path / "left")
    before = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
    assert host.stop(before=before) == by_python
    assert sorted((tmp_path / "left").read_text().split()) == sorted(left)


def test_the_unit_of_another_container_is_pythons(host, tmp_path):
    host.more = {"unit": "a.scope"}
    host.start()
    another(host, unit="a.scope", rootfs_identity=(1, 2))
    script = WITH_SYSTEMD.format(change=":", left=tmp_path / "left")
    assert host.stop(before=("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"))
    assert (tmp_path / "left").read_text().split() == [DROP_IN]

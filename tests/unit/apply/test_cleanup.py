"""What containers leave behind, and who takes it back: the entry, the rootfs, the drop-in, also after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time

import pytest

from oci_gpu_hook.apply import cleanup
from oci_gpu_hook.apply.journal import entry as entries
from oci_gpu_hook.apply.journal import journal, reader
from oci_gpu_hook.apply.journal.changes import FILE, LINK, NODE, change
from oci_gpu_hook.apply.journal.entry import Entry
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.apply.systemd import drop_in, units
from oci_gpu_hook.base import limits, processes, state
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import ApplyError
from oci_gpu_hook.base.files import replace_file
from oci_gpu_hook.lifecycle import start


@pytest.fixture
def config(tmp_path):
    return Config(state_dir=str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def removed(monkeypatch):
    """The units whose drop-ins were removed; no real one is touched."""
    removed: list[str] = []
    monkeypatch.setattr(drop_in, "remove", removed.append)
    monkeypatch.setattr(units, "ended_scopes", lambda: ())
    return removed


@pytest.fixture
def dead_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def entry(name, rootfs, pid=0, started=None, **fields):
    pid = pid or os.getpid()
    status = os.stat(rootfs)
    (rootfs / f"made-for-{name}").touch()
    return Entry(
        id=name,
        pid=pid,
        start_time=processes.start_time(pid) if started is None else started,
        bundle="/bundle",
        rootfs=str(rootfs),
        rootfs_identity=(status.st_dev, status.st_ino),
        gpus=(),
        changes=(change(FILE, f"/made-for-{name}"),),
        **fields,
    )


def record(config, written):
    """Do what a start does: first what others left, then the entry of its own."""
    start.tidy(config)
    return journal.record(config, written.rootfs_identity, lambda: written)


@pytest.fixture
def rootfs(tmp_path):
    (tmp_path / "rootfs").mkdir()
    return tmp_path / "rootfs"


def test_the_entry_comes_back_as_it_was_written(config, rootfs):
    written = entry(
        "a",
        rootfs,
        unit="x.scope",
        nodes=((195, 0),),
        node_paths=("/dev/nvidia0",),
        driver="580.1",
        cgroups_path="/docker/a",
        mounts=("/usr/lib/libcuda.so.580.1",),
        ld_cache=("/usr/lib/libcuda.so.1",),
        exclusive=True,
        boot_id=processes.boot_id(),
        since="2026-01-01T00:00:00Z",
    )
    record(config, written)
    assert reader.read(config, entries.key(written)) == written
    assert written.is_alive()


def test_an_entry_of_an_older_hook_is_read(config, rootfs):
    made = (
        change(FILE, "/made"),
        change(LINK, "/link", target="there", was="before", passing=True),
        change(NODE, "/dev/nvidia0", device=os.makedev(195, 0)),
    )
    written = Entry(**{**entry("a", rootfs).__dict__, "changes": made})
    record(config, written)
    path = entries.path_in(f"{config.state_dir}/{entries.DIRECTORY}", entries.key(written))
    text = state.read(path, 1 << 20)
    assert text
    document = json.loads(text)
    document["changes"] = [
        {"kind": "file", "path": "/made"},
        {"kind": "link", "path": "/link", "target": "there", "was": "before", "passing": True},
        {"kind": "node", "path": "/dev/nvidia0", "device": os.makedev(195, 0)},
    ]
    replace_file(path, json.dumps(document).encode())
    assert reader.read(config, entries.key(written)) == written


def test_who_starts_takes_back_what_the_dead_left(config, rootfs, dead_pid, removed):
    record(config, entry("killed", rootfs, dead_pid, 1, unit="killed.scope"))
    record(config, entry("next", rootfs))
    assert [found.id for found in reader.read_all(config)] == ["next"]
    assert sorted(os.listdir(rootfs)) == ["made-for-next"]
    assert removed == ["killed.scope"]


def test_a_number_that_is_used_again_does_not_keep_an_entry(config, rootfs):
    record(config, entry("former", rootfs, os.getpid(), 12345))
    assert [entries.id_in(key) for key in journal.dead(config)] == ["former"]
    assert cleanup.reconcile(config) == ("former",)
    assert reader.read_all(config) == []


def test_nobody_lives_on_from_an_earlier_boot(config, rootfs):
    """Numbers and start times begin anew: a state directory that outlasts a boot must not be misled by them."""
    earlier = entry("former", rootfs, boot_id="6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    record(config, earlier)
    assert not earlier.is_alive()
    assert [entries.id_in(key) for key in journal.dead(config)] == ["former"]
    record(config, entry("now", rootfs, boot_id=processes.boot_id()))
    assert [found.id for found in reader.read_all(config)] == ["now"]
    assert journal.dead(config) == []


def test_an_entry_is_kept_while_its_hook_works(config, rootfs, dead_pid):
    """A runtime that is killed takes the container with it, not the hook, which goes on making files for a while."""
    works = (os.getpid(), processes.start_time(os.getpid()))
    record(config, entry("a", rootfs, dead_pid, 1, boot_id=processes.boot_id(), hook=works))
    assert journal.dead(config) == []
    assert cleanup.reconcile(config) == ()
    record(config, entry("a", rootfs, dead_pid, 1, boot_id=processes.boot_id(), hook=(dead_pid, 2)))
    assert cleanup.reconcile(config) == ("a",)
    assert os.listdir(rootfs) == []


def test_a_start_that_fails_leaves_alone_what_another_container_found_made(config, rootfs):
    process = subprocess.Popen(["sleep", "60"])
    failed = record(config, entry("failed", rootfs))
    record(config, entry("lives", rootfs, process.pid))  # on the same rootfs: it uses what `failed` has made
    with Rootfs(os.open(rootfs, os.O_PATH | os.O_DIRECTORY)) as opened:
        cleanup.undo(config, failed, opened)
    assert sorted(os.listdir(rootfs)) == ["made-for-failed", "made-for-lives"]
    assert [found.id for found in reader.read_all(config)] == ["lives"]
    process.kill()
    process.wait()
    cleanup.detach("lives", "/bundle", config)
    assert os.listdir(rootfs) == []


def test_the_living_are_left_alone(config, rootfs, removed):
    record(config, entry("lives", rootfs, unit="lives.scope"))
    assert journal.dead(config) == []
    assert cleanup.reconcile(config) == ()
    assert sorted(os.listdir(rootfs)) == ["made-for-lives"]
    assert removed == []


def test_no_entry_is_parsed_to_see_that_all_live(config, rootfs, monkeypatch):
    record(config, entry("lives", rootfs))
    monkeypatch.setattr(reader, "parse", None)
    assert cleanup.reconcile(config) == ()


@pytest.mark.parametrize("text", [b"", b"{", b"null", b'{"id": "x"}', b'{"pid": "x", "startTime": 1}', b"\xff" * 100])
def test_a_file_that_is_no_entry_harms_nobody(config, rootfs, text):
    record(config, entry("a", rootfs))
    path = os.path.join(config.state_dir, entries.DIRECTORY, "broken.json")
    with open(path, "wb") as file:
        file.write(text)
    assert cleanup.reconcile(config) == ()
    record(config, entry("b", rootfs))
    assert [found.id for found in reader.read_all(config)] == ["a", "b"]


def test_an_entry_of_the_dead_that_cannot_be_read_goes(config, rootfs, dead_pid):
    record(config, entry("a", rootfs))
    path = os.path.join(config.state_dir, entries.DIRECTORY, "cut.json")
    with open(path, "wb") as file:
        file.write(b'{"pid": %d, "startTime": 1, "id": "cu' % dead_pid)
    assert cleanup.reconcile(config) == ("cut",)
    assert not os.path.exists(path)


def test_what_cannot_be_taken_back_now_fails_no_start_and_stays_for_later(config, rootfs, dead_pid, monkeypatch):
    def read_only(_unit):
        raise ApplyError("cannot remove the drop-in", "Read-only file system", "mend it")

    record(config, entry("killed", rootfs, dead_pid, 1, unit="killed.scope"))
    monkeypatch.setattr(drop_in, "remove", read_only)
    record(config, entry("next", rootfs))
    assert [found.id for found in reader.read_all(config)] == ["killed", "next"]
    with pytest.raises(ApplyError, match="Read-only"):
        cleanup.detach("killed", "/bundle", config)


def test_drop_ins_of_scopes_that_are_no_more_go_without_an_entry(config, rootfs, monkeypatch, removed):
    monkeypatch.setattr(units, "ended_scopes", lambda: ("orphan.scope",))
    record(config, entry("a", rootfs))
    assert removed == ["orphan.scope"]


def test_detaching_what_never_was_is_no_error(config):
    cleanup.detach("never-was", "/bundle", config)
    assert cleanup.reconcile(config) == ()


def test_a_start_waits_for_who_cleans_up_the_same_rootfs(config, rootfs, tmp_path):
    """Else the other could take back what this one finds made; who has another rootfs waits for nobody."""
    (tmp_path / "other").mkdir()
    first = record(config, entry("a", rootfs))
    later = entry("b", rootfs)
    with journal.Lock(config, first.rootfs_identity):
        thread = threading.Thread(target=record, args=(config, later))
        thread.start()
        elsewhere = record(config, entry("c", tmp_path / "other"))
        time.sleep(0.1)
        assert reader.read(config, entries.key(elsewhere)) is not None
        assert reader.read(config, entries.key(later)) is None
    thread.join()
    assert reader.read(config, entries.key(later)) is not None


def test_a_lock_that_is_never_released_holds_no_start_for_ever(config, rootfs, monkeypatch):
    monkeypatch.setattr(limits, "JOURNAL_LOCK_SECONDS", 0.05)
    first = record(config, entry("a", rootfs))
    with journal.Lock(config, first.rootfs_identity):
        later = record(config, entry("b", rootfs))
    assert reader.read(config, entries.key(later)) is not None


def test_poststop_takes_nothing_from_who_lives(config, rootfs, dead_pid):
    """Two runtimes with roots of their own may each have a container of one id, from one bundle even."""
    record(config, entry("a", rootfs))
    journal.record(config, (0, 0), lambda: entry("a", rootfs, dead_pid, 7))
    cleanup.detach("a", "/bundle", config)
    assert [found.pid for found in reader.read_all(config)] == [os.getpid()]
    assert os.listdir(rootfs) == ["made-for-a"]


def test_poststop_takes_back_only_what_was_made_of_its_bundle(config, rootfs, dead_pid):
    record(config, entry("a", rootfs, dead_pid, 7))
    cleanup.detach("a", "/another", config)
    assert [found.pid for found in reader.read_all(config)] == [dead_pid]
    cleanup.detach("a", "/bundle/", config)
    assert reader.read_all(config) == []
    assert os.listdir(rootfs) == []


@pytest.mark.parametrize("name", ["x" * 220, "", "a~1-2", ".lock"])
def test_any_id_has_an_entry_of_its_own(config, rootfs, dead_pid, name):
    made = Entry(**{**entry("a", rootfs, dead_pid, 7).__dict__, "id": name})
    journal.record(config, made.rootfs_identity, lambda: made)
    replace_file(journal.ld_cache_path(config, made), b"x")
    assert reader.read_all(config) == [made]
    cleanup.detach(name, "/bundle", config)
    assert os.listdir(os.path.join(config.state_dir, entries.DIRECTORY)) == [".lock"]


def as_an_older_hook(config, entry):
    """Keep the entry under the container's id alone."""
    made = Entry(**{**entry.__dict__, "key": entry.id, "rootfs_born": 0})
    journal.record(config, made.rootfs_identity, lambda: made)
    return made


def test_a_container_that_an_older_hook_served_ends_as_it_should(config, rootfs, dead_pid):
    living = as_an_older_hook(config, entry("lives", rootfs))
    as_an_older_hook(config, entry("ended", rootfs, dead_pid, 7))
    assert journal.has_entry(config, "lives", os.getpid())
    cleanup.detach("lives", "/bundle", config)
    cleanup.detach("ended", "/bundle", config)
    (found,) = reader.read_all(config)
    assert (found.id, found.key) == ("lives", "lives")
    assert found.changes == (change(FILE, "/made-for-ended"), *living.changes)
    assert sorted(os.listdir(os.path.join(config.state_dir, entries.DIRECTORY))) == [".lock", "lives.json"]


def test_a_change_of_a_kind_that_only_a_later_version_knows_is_handed_over(config, tmp_path, dead_pid):
    """Containers keep running while the hook is replaced by an older one; whoever cannot undo it keeps it on record."""
    boot = {"boot_id": processes.boot_id(), "rootfs_born": 1}
    ended = entry("ended", tmp_path, pid=dead_pid, started=1, **boot)
    unknown = change("later", "/made-later")
    state.directory(config.state_dir, entries.DIRECTORY)
    journal.write(config, entry("heir", tmp_path, **boot))
    path = os.path.join(config.state_dir, entries.DIRECTORY, f"{entries.key(ended)}.json")
    journal.write(config, ended)
    with open(path, "rb") as file:
        document = json.load(file)
    document["changes"].append(unknown)
    replace_file(path, json.dumps(document).encode())
    cleanup.detach("ended", "/bundle", config)
    (heir,) = reader.read_all(config)
    assert unknown in heir.changes
    assert [name for name in os.listdir(f"{config.state_dir}/containers") if name.startswith("ended")] == []
    assert not os.path.exists(f"{config.state_dir}/containers/{entries.key(heir)}.end")

"""The file layer: bounded reads, replacement in one step, locks, and which files are believed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from oci_gpu_hook.base import locks, processes, state
from oci_gpu_hook.base.errors import InvalidInput, StateError
from oci_gpu_hook.base.files import drop_unfinished, read_all, read_file, read_start, replace_file
from oci_gpu_hook.base.trust import read_trusted


@pytest.fixture
def directory(tmp_path):
    """A directory by its descriptor."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


class TestReading:
    def test_stops_at_the_limit(self, tmp_path):
        path = tmp_path / "large"
        path.write_bytes(b"x" * 101)
        with path.open("rb") as file:
            assert read_all(file.fileno(), 101, "file") == b"x" * 101
        with path.open("rb") as file, pytest.raises(InvalidInput, match="larger than 100 bytes"):
            read_all(file.fileno(), 100, "file")
        assert read_file(str(path), 101) == b"x" * 101
        with pytest.raises(OSError, match="File too large") as caught:
            read_file(str(path), 100)
        assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))

    def test_takes_no_more_than_the_limit_from_a_file_without_end(self):
        with pytest.raises(OSError, match="File too large"):
            read_file("/dev/zero", 1 << 20)

    def test_of_many_pieces_and_in_a_directory(self, tmp_path, directory):
        data = os.urandom(200_000)
        (tmp_path / "file").write_bytes(data)
        assert read_file("file", dir_fd=directory) == data
        assert read_start(str(tmp_path / "file"), 10) == data[:10]

    def test_follows_no_link_where_it_is_told_so(self, tmp_path):
        (tmp_path / "link").symlink_to("/etc/passwd")
        with pytest.raises(OSError, match="symbolic links"):
            read_file(str(tmp_path / "link"), flags=os.O_NOFOLLOW)

    def test_closes_what_it_opened(self, tmp_path):
        before = os.listdir("/proc/self/fd")
        for path, limit in ((tmp_path, 1), ("/dev/zero", 1), ("/etc/passwd", 1 << 20)):
            try:
                read_file(str(path), limit)
            except OSError:
                pass
        assert os.listdir("/proc/self/fd") == before


class TestReplacing:
    @pytest.mark.parametrize("umask", [0, 0o022, 0o077])
    @pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
    def test_gives_the_mode_whatever_the_umask(self, tmp_path, umask, mode):
        path = tmp_path / "file"
        before = os.umask(umask)
        try:
            replace_file(str(path), b"new", mode=mode)
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o7777 == mode
        assert path.read_bytes() == b"new"
        assert os.listdir(tmp_path) == ["file"]

    def test_never_writes_through_a_link(self, tmp_path):
        victim = tmp_path / "victim"
        victim.write_bytes(b"old")
        (tmp_path / "file").symlink_to(victim)
        (tmp_path / "next").symlink_to(victim)
        replace_file(str(tmp_path / "file"), b"new", temporary=str(tmp_path / "next"))
        assert victim.read_bytes() == b"old"
        assert (tmp_path / "file").read_bytes() == b"new"
        assert not (tmp_path / "file").is_symlink()

    def test_takes_the_place_of_what_a_killed_process_left(self, tmp_path, directory):
        (tmp_path / "file.new").write_bytes(b"a half")
        replace_file("file", b"whole", dir_fd=directory, temporary="file.new", sync=True)
        assert (tmp_path / "file").read_bytes() == b"whole"
        assert os.listdir(tmp_path) == ["file"]

    @pytest.mark.parametrize("call", ["write", "fsync", "fchmod", "rename"])
    def test_leaves_the_old_file_where_it_fails(self, tmp_path, monkeypatch, call):
        path = tmp_path / "file"
        path.write_bytes(b"old")

        def full(*_arguments, **_options):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            replace_file(str(path), b"new", mode=0o644, sync=True)
        monkeypatch.undo()
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["file"]

    @pytest.mark.root
    def test_gives_the_owner(self, tmp_path):
        path = tmp_path / "file"
        replace_file(str(path), b"", mode=0o640, owner=(1234, 4321))
        status = path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1234, 4321, 0o640)

    def test_what_was_not_finished_is_dropped(self, tmp_path):
        for name in ("file", "file.12-34.new", "other.12-34.new"):
            (tmp_path / name).write_bytes(b"")
        drop_unfinished(str(tmp_path / "file"))
        assert sorted(os.listdir(tmp_path)) == ["file", "other.12-34.new"]
        drop_unfinished("/nonexistent/file")


class TestLocks:
    def test_one_at_a_time(self, tmp_path):
        path = str(tmp_path / "lock")
        held = locks.acquire(path, 0.0)
        assert held is not None
        assert os.stat(path).st_mode & 0o7777 == 0o600
        assert locks.acquire(path, 0.05) is None
        os.close(held)
        again = locks.acquire(path, 0.0)
        assert again is not None
        os.close(again)

    def test_a_waiting_process_gets_it_when_it_is_free(self, tmp_path, directory):
        held = locks.acquire("lock", 0.0, directory)
        assert held is not None
        got: list[int | None] = []
        waiting = threading.Thread(target=lambda: got.append(locks.acquire("lock", 10.0, directory)))
        waiting.start()
        time.sleep(0.05)
        assert got == []
        os.close(held)
        waiting.join(10)
        (taken,) = got
        assert taken is not None
        os.close(taken)
        assert os.listdir(tmp_path) == ["lock"]

    def test_a_file_that_was_removed_meanwhile_locks_nobody(self, tmp_path):
        path = str(tmp_path / "lock")
        held = locks.acquire(path, 0.0)
        assert held is not None
        got: list[int | None] = []
        waiting = threading.Thread(target=lambda: got.append(locks.acquire(path, 10.0)))
        waiting.start()
        time.sleep(0.05)
        os.unlink(path)
        os.close(held)
        waiting.join(10)
        (taken,) = got
        assert taken is not None
        assert os.path.samestat(os.fstat(taken), os.stat(path))
        os.close(taken)

    def test_a_lock_of_another_kind_is_tried_until_patience_ends(self):
        answers = iter([BlockingIOError, BlockingIOError, None])

        def lock():
            if answer := next(answers):
                raise answer

        def refuse():
            raise PermissionError

        assert locks.attempt(lock, 10.0)
        started = time.monotonic()
        assert not locks.wait_until(lambda: False, 0.05)
        assert 0.05 <= time.monotonic() - started < 5
        with pytest.raises(PermissionError):
            locks.attempt(refuse, 10.0)

    def test_opens_no_link_and_hangs_at_no_fifo(self, tmp_path):
        (tmp_path / "link").symlink_to("/etc/passwd")
        with pytest.raises(OSError, match="symbolic links"):
            locks.acquire(str(tmp_path / "link"), 0.0)
        before = os.listdir("/proc/self/fd")
        os.mkfifo(tmp_path / "fifo")
        fd = locks.acquire(str(tmp_path / "fifo"), 0.0)
        if fd is not None:
            os.close(fd)
        assert os.listdir("/proc/self/fd") == before


class TestTrust:
    def test_what_only_this_user_can_have_written_is_believed(self, tmp_path):
        path = tmp_path / "file"
        path.write_bytes(b"text")
        path.chmod(0o644)
        assert read_trusted(str(path), 4) == state.read(str(path), 4) == b"text"

    @pytest.mark.parametrize(
        ("trouble", "why"),
        [
            ("link", "is not a regular file"),
            ("fifo", "is not a regular file"),
            ("directory", "is not a regular file"),
            ("group", "could be written by others"),
            ("others", "could be written by others"),
            ("large", "is larger than 4 bytes"),
        ],
    )
    def test_nothing_else_is(self, tmp_path, trouble, why):
        path = tmp_path / "file"
        if trouble == "link":
            path.symlink_to("/etc/passwd")
        elif trouble == "fifo":
            os.mkfifo(path, 0o600)
        elif trouble == "directory":
            path.mkdir(mode=0o700)
        else:
            path.write_bytes(b"large" if trouble == "large" else b"text")
            path.chmod({"group": 0o620, "others": 0o602}.get(trouble, 0o600))
        with pytest.raises(StateError, match=why):
            read_trusted(str(path), 4)
        assert state.read(str(path), 4) is None

    def test_a_file_that_is_not_there_is_no_reason_for_suspicion(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_trusted(str(tmp_path / "file"), 4)
        assert state.read(str(tmp_path / "file"), 4) is None


class TestProcesses:
    def test_what_proc_says_of_this_one(self):
        assert processes.parent() == processes.parent(os.getpid()) == os.getppid()
        assert processes.innermost_number("self") == os.getpid()
        assert processes.status_field("self", b"PPid") == str(os.getppid()).encode()
        assert processes.status_field("self", b"Nothing") == b""
        assert processes.start_time(os.getpid()) > 0
        assert len(processes.boot_id()) == 36

    def test_the_environment_is_the_one_at_the_start(self):
        program = "import os; os.environ['A'] = 'changed'; from oci_gpu_hook.base import processes as p"
        program += "; print([p.variable('self', name) for name in (b'A', b'B', b'C')] == [[b'1'], [b''], []])"
        package = os.path.dirname(os.path.dirname(os.path.dirname(processes.__file__)))
        command = [sys.executable, "-ISBc", f"import sys; sys.path.append({package!r}); {program}"]
        done = subprocess.run(command, env={"A": "1", "B": ""}, capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"

    def test_a_process_that_is_not_there(self):
        assert (processes.start_time(1 << 30), processes.parent(1 << 30)) == (0, 0)
        with pytest.raises(FileNotFoundError):
            processes.innermost_number(1 << 30)


class TestStateDirectory:
    def test_what_is_not_there_is_not_made(self, tmp_path):
        assert state.existing(f"{tmp_path}/state", "below") is None
        assert os.listdir(tmp_path) == []
        made = state.directory(f"{tmp_path}/state", "below")
        assert state.existing(f"{tmp_path}/state", "below") == made

    @pytest.mark.parametrize("trouble", ["link", "file", "mode"])
    def test_what_is_not_this_user_s_alone_is_refused(self, tmp_path, trouble):
        path = tmp_path / "state"
        if trouble == "link":
            (tmp_path / "other").mkdir(mode=0o700)
            path.symlink_to("other")
        elif trouble == "file":
            path.write_bytes(b"")
        else:
            path.mkdir()
            path.chmod(0o770)
        for use in (state.existing, state.directory):
            with pytest.raises(StateError, match="only its owner can write to"):
                use(str(path), "below")


def test_a_file_that_cannot_be_written_is_named_as_its_caller_knows_it(tmp_path):
    path = str(tmp_path / "missing" / "file")
    with pytest.raises(FileNotFoundError) as failed:
        replace_file(path, b"")
    assert failed.value.filename == path

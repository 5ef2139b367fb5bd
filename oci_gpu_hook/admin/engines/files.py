"""Reads and changes the files of engines: never through a link, atomically, and with a backup."""

from __future__ import annotations

import difflib
import os
import stat

from oci_gpu_hook.admin.engines.model import BACKUP_SUFFIX, Change
from oci_gpu_hook.base.errors import HookError, quoted, reason
from oci_gpu_hook.base.files import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

LARGEST: Final = 4 * 1024 * 1024
_AS_ROOT: Final = "run as root, and check that the file system is writable"


class EngineFileError(HookError):
    """A file of an engine is not as expected, and is not changed."""

    code = "OGH1800"


def read(path: str) -> bytes | None:
    """Return the contents of a regular file, None if it does not exist. Raises EngineFileError."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise EngineFileError(f"cannot read {quoted(path)}", reason(error), "run as root", "OGH1802") from None
    if stat.S_ISLNK(found.st_mode):
        why = f"is a symbolic link to {quoted(os.readlink(path))}, which another tool manages"
        raise EngineFileError(
            quoted(path), why, "name the right file with --file, or replace the link by a file", "OGH1816"
        )
    if not stat.S_ISREG(found.st_mode):
        raise EngineFileError(
            quoted(path), "is not a regular file", "put a file there, or name another with --file", "OGH1802"
        )
    if found.st_size > LARGEST:
        raise EngineFileError(
            quoted(path), f"is larger than {LARGEST} bytes", "check whether it is the right file", "OGH1817"
        )
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise EngineFileError(f"cannot read {quoted(path)}", reason(error), "run as root", "OGH1802") from None


def read_link(path: str) -> str | None:
    """Return the target of a symbolic link, None if nothing is there, "" if something else is."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def text_of(data: bytes, path: str) -> str:
    """Return contents as text. Raises EngineFileError."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        why = f"is not UTF-8 at byte {error.start}"
        raise EngineFileError(quoted(path), why, "correct it, or move it away for a new one", "OGH1805") from None


def lines_of(text: str) -> list[str]:
    """Return the lines of a file with their ends, which are newlines and nothing else."""
    *lines, last = text.split("\n")
    return [f"{line}\n" for line in lines] + ([last] if last else [])


def check(changes: Sequence[Change]) -> None:
    """Raise EngineFileError unless every change seems possible."""
    for change in changes:
        directory = os.path.dirname(change.path)
        while not os.path.isdir(directory) and directory != "/":
            directory = os.path.dirname(directory)
        if not os.access(directory, os.W_OK | os.X_OK):
            why = f"{quoted(directory)} is read-only"
            remedy = "check that the file system is writable"
            if os.geteuid() != 0:
                why, remedy = f"this user may not write in {quoted(directory)}", "run as root"
            raise EngineFileError(f"cannot write {quoted(change.path)}", why, remedy, "OGH1802")
        if change.before is not None and not change.link:
            try:
                os.close(os.open(change.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
            except OSError as error:
                raise EngineFileError(
                    f"cannot write {quoted(change.path)}", reason(error), _AS_ROOT, "OGH1802"
                ) from None


def apply(changes: Sequence[Change]) -> None:
    """Make all changes or none. Raises EngineFileError."""
    check(changes)
    done: list[Change] = []
    try:
        for change in changes:
            if change.backup and change.before is not None:
                _put(change.path + BACKUP_SUFFIX, change.before, like=change.path)
            _make(change)
            done.append(change)
    except OSError as error:
        for change in reversed(done):
            _make(Change(path=change.path, before=change.after, after=change.before, link=change.link))
        raise EngineFileError(f"cannot write {quoted(error.filename)}", reason(error), _AS_ROOT, "OGH1802") from None


def diff(changes: Sequence[Change]) -> str:
    """Return the changes as a unified diff, which patch(1) accepts except for links."""
    parts: list[str] = []
    for change in changes:
        before, after = (_lines(change, contents) for contents in (change.before, change.after))
        from_file = change.path if change.before is not None else "/dev/null"
        to_file = change.path if change.after is not None else "/dev/null"
        parts += difflib.unified_diff(before, after, from_file, to_file)
    return "".join(part if part.endswith("\n") else part + "\n\\ No newline at end of file\n" for part in parts)


def make_directory(directory: str) -> None:
    """Create a directory and its parents, with the modes that packages use."""
    os.makedirs(directory, 0o755, exist_ok=True)  # noqa: TID251


def _make(change: Change) -> None:
    if change.after is None:
        os.unlink(change.path)
        _remove_backup(change.path)
        return
    make_directory(os.path.dirname(change.path))
    if change.link:
        temporary = f"{change.path}.{os.getpid()}"
        os.symlink(os.fsdecode(change.after), temporary)
        os.rename(temporary, change.path)
    else:
        _put(change.path, change.after, like=change.path)
        if not change.backup and _is_backup(change.path, change.after):
            _remove_backup(change.path)


def _is_backup(path: str, data: bytes) -> bool:
    """Tell whether the backup has these contents; when they are restored, the backup is no longer needed."""
    try:
        with open(path + BACKUP_SUFFIX, "rb") as file:
            return file.read() == data
    except FileNotFoundError:
        return False


def _remove_backup(path: str) -> None:
    try:
        os.unlink(path + BACKUP_SUFFIX)
    except FileNotFoundError:
        pass


def _put(path: str, data: bytes, like: str) -> None:
    """Replace a file atomically, with the owner and mode of the file `like`, if that exists."""
    try:
        found = os.stat(like)
        owner, mode = (found.st_uid, found.st_gid), found.st_mode & 0o7777
    except FileNotFoundError:
        owner, mode = (os.geteuid(), os.getegid()), 0o644
    replace_file(path, data, mode=mode, owner=owner, sync=True)


def _lines(change: Change, contents: bytes | None) -> list[str]:
    if contents is None:
        return []
    text = contents.decode("utf-8", "replace")
    return [f"symbolic link to {text}\n"] if change.link else text.splitlines(keepends=True)

"""Files that root will run: written in one step, and only where nobody else may write. Not for paths of a container."""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import HookError, quoted, reason


def make_directory(directory: str) -> None:
    """Make the directory and those above it, for its owner alone to write. No path of a container comes here."""
    try:
        os.makedirs(directory, 0o755, exist_ok=True)  # noqa: TID251
        mode = os.stat(directory).st_mode & 0o777
        if mode & 0o022:
            os.chmod(directory, mode & ~0o022)
    except OSError as error:
        raise HookError(quoted(directory), reason(error), "run as root, or choose another directory") from None


def check_owners(path: str, *, tree: bool = False) -> list[str]:
    """Check a path, those above it and, with `tree`, the Python files below it.

    Raises HookError where everyone may write; returns a warning where a user other than root and the caller may.
    """
    suspects = [path]
    if tree:
        for directory, _, names in os.walk(path):
            suspects += [directory, *(os.path.join(directory, n) for n in names if n.endswith((".py", ".pyc", ".elf")))]
    found = os.path.realpath(path)
    while found != "/":
        found = os.path.dirname(found)
        suspects.append(found)
    warnings = []
    for suspect in suspects:
        about = os.stat(suspect)
        sticky = about.st_mode & 0o1000 and suspect != path
        if about.st_mode & 0o002 and not sticky:
            why = "everyone may write there, and root would run it"
            raise HookError(quoted(suspect), why, "chmod -R o-w, or install elsewhere")
        if about.st_uid not in (0, os.geteuid()):
            warnings.append(f"{quoted(suspect)} belongs to user {about.st_uid}, who decides what the hook does as root")
    return warnings[:1]  # the first says what there is to say about a whole tree


def replace(path: str, content: bytes, mode: int) -> None:
    """Give a file its content and mode in one step that no starting container can see half of; none if it has them."""
    temporary = f"{path}.{os.getpid()}"
    try:
        if _has(path, content, mode):
            return
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.rename(temporary, path)
    except OSError as error:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise HookError(
            f"cannot write {quoted(path)}", reason(error), "run as root, or choose another directory"
        ) from None


def _has(path: str, content: bytes, mode: int) -> bool:
    try:
        with open(path, "rb") as file:
            return (
                not os.path.islink(path) and os.fstat(file.fileno()).st_mode & 0o7777 == mode and file.read() == content
            )
    except FileNotFoundError:
        return False

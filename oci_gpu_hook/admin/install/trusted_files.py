"""Writes files that root will run: atomically, and only where nobody else can write."""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import HookError, quoted, reason
from oci_gpu_hook.base.files import replace_file


def make_directory(directory: str) -> None:
    """Create the directory and its parents, writable only for the owner. Raises HookError."""
    try:
        os.makedirs(directory, 0o755, exist_ok=True)  # noqa: TID251
        mode = os.stat(directory).st_mode & 0o777
        if mode & 0o022:
            os.chmod(directory, mode & ~0o022)
    except OSError as error:
        raise HookError(
            quoted(directory), reason(error), "run as root, or choose another directory", "OGH1802"
        ) from None


def check_owners(path: str, *, tree: bool = False) -> list[str]:
    """Check a path, its parents and, with `tree`, the Python files below it.

    Raises HookError if everyone can write, or a group or access control list with other users. Returns a warning if a
    user other than root and the caller can, or a group without other members.
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
            raise HookError(quoted(suspect), why, "chmod -R o-w, or install elsewhere", "OGH1808")
        if about.st_mode & 0o020 and not sticky:
            warnings += _check_group(suspect, about)
        if about.st_uid not in (0, os.geteuid()):
            warnings.append(f"{quoted(suspect)} belongs to user {about.st_uid}, who decides what the hook does as root")
    return warnings[:1]  # one warning suffices for a whole tree


def _check_group(path: str, about: os.stat_result) -> list[str]:
    """Check who can write by the group's bits, which with an access control list mean everyone in the list."""
    remedy = "chmod -R g-w, or install elsewhere"
    try:
        os.getxattr(path, "system.posix_acl_access")
    except OSError:
        pass
    else:
        why = "users of its access control list may write there, and root would run it"
        raise HookError(quoted(path), why, f"setfacl -bR, {remedy}", "OGH1808")
    if about.st_gid == 0:
        return []
    import grp
    import pwd

    try:
        group = grp.getgrgid(about.st_gid)
    except KeyError:
        why = f"group {about.st_gid}, which has no name here, may write there, and root would run it"
        raise HookError(quoted(path), why, remedy, "OGH1808") from None
    named = set(group.gr_mem)
    users = [user for user in pwd.getpwall() if user.pw_gid == about.st_gid or user.pw_name in named]
    named -= {user.pw_name for user in users}
    others = [user.pw_name for user in users if user.pw_uid not in (0, os.geteuid(), about.st_uid)]
    if named or others:
        why = f"group {group.gr_name} may write there, with {', '.join(sorted({*named, *others})[:3])} in it"
        raise HookError(quoted(path), f"{why}, and root would run it", remedy, "OGH1808")
    return [f"{quoted(path)} can be written by group {group.gr_name}; its members can change what the hook does"]


def replace(path: str, content: bytes, mode: int) -> None:
    """Write a file atomically with content and mode, unless it has both already. Raises HookError."""
    try:
        if not _has(path, content, mode):
            replace_file(path, content, mode=mode, sync=True)
    except OSError as error:
        remedy = "run as root, or choose another directory"
        raise HookError(f"cannot write {quoted(path)}", reason(error), remedy, "OGH1802") from None


def _has(path: str, content: bytes, mode: int) -> bool:
    try:
        with open(path, "rb") as file:
            return (
                not os.path.islink(path) and os.fstat(file.fileno()).st_mode & 0o7777 == mode and file.read() == content
            )
    except FileNotFoundError:
        return False

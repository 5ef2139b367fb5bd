"""Finds installed engines and their versions."""

from __future__ import annotations

import os

from oci_gpu_hook.base.errors import HookError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# The PATH of systemd's services (systemd.exec(5), DEFAULT_PATH), where engines find the programs that they call.
DIRECTORIES: Final = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def find(root: str, name: str) -> str:
    """Return the path, in the file system at `root`, of a program that engines find by name; "" if there is none."""
    for directory in DIRECTORIES:
        path = f"{directory}/{name}"
        there = os.path.join(root, path.lstrip("/"))
        if os.path.islink(there) or os.access(there, os.X_OK):  # an absolute link leads elsewhere for this process
            return path
    return ""


def require(root: str, name: str, oldest: tuple[int, int], needs: str) -> None:
    """Raise HookError unless the program is installed and, on this machine, is recent enough.

    Programs of another file system are not run, since they may be for another machine.
    """
    path = find(root, name)
    if not path:
        remedy = "install it first, or name where its configuration is (--file, --hooks-directory)"
        where = "" if root == "/" else f" below {quoted(root)}"
        raise HookError(name, f"is not installed{where}", remedy, "OGH1804")
    if root != "/":
        return
    found = version(path)
    if found and found < oldest:
        wanted, have = (".".join(map(str, numbers)) for numbers in (oldest, found))
        raise HookError(f"{name} {have}", f"is too old: {needs} came with {wanted}", "upgrade it", "OGH1804")


def version(path: str) -> tuple[int, int] | None:
    """Return the major and minor version from `PROGRAM --version`, None if it does not show them."""
    import re
    import subprocess

    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    numbers = re.search(rb"(\d+)\.(\d+)", done.stdout)
    return (int(numbers[1]), int(numbers[2])) if numbers else None

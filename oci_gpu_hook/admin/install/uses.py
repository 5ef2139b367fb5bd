"""Finds out who still needs installed executables: running containers, and processes that were started with them.

A container calls them until it is deleted: `oci-gpu-runtime` for `exec`, `kill` and `delete`, the hook for poststop.
"""

from __future__ import annotations

import os
import stat
from itertools import pairwise

from oci_gpu_hook.base import apart, limits, processes
from oci_gpu_hook.base.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

_SHIM: Final = b"containerd-shim"
_MONITOR: Final = b"conmon"  # of Podman and CRI-O
_MESOS: Final = b"MESOS_LAUNCHER_DIR="
_BEFORE: Final = (b"", b"=", b'"', b"'", b" ")
_AFTER: Final = (b"", b"/", b'"', b"'", b" ", b"\n")


def of(directory: str) -> list[str]:
    """Return who needs the executables in a directory: a description of each."""
    wanted = os.fsencode(directory.rstrip("/"))
    own = _ancestors()
    found: dict[str, None] = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if pid not in own:
            found.update(dict.fromkeys(_by_process(pid, wanted)))
    return [*found]


def _by_process(pid: int, directory: bytes) -> list[str]:
    words = _read(b"/proc/%d/cmdline" % pid).split(b"\0")
    program = os.path.basename(words[0])
    if program.startswith(_SHIM):
        return [f"container {_shown(name)}" for name in _answer(lambda: _by_shim(pid, directory))]
    if program == _MONITOR:
        bundle = _value(words, (b"-b", b"--bundle"))
        if _names_any(words, directory) or _answer(lambda: [bundle] if _is_named_in(bundle, directory) else []):
            return [f"container {_shown(_value(words, (b'-c', b'--cid')) or bundle)}"]
        return []
    of_agent = [each for each in _read(b"/proc/%d/environ" % pid).split(b"\0") if each.startswith(_MESOS)]
    return [f"process {pid} ({_shown(program)})"] if _names_any([*words, *of_agent], directory) else []


def _by_shim(pid: int, directory: bytes) -> list[bytes]:
    """Return the containers of a shim of containerd, whose working directory is the bundle of one of them."""
    try:
        bundles = os.path.dirname(os.readlink(b"/proc/%d/cwd" % pid))
        return [name for name in sorted(os.listdir(bundles)) if _is_named_in(os.path.join(bundles, name), directory)]
    except OSError:
        return []


def _is_named_in(bundle: bytes, directory: bytes) -> bool:
    """Tell whether a bundle's files name the directory; containerd writes the runtime's path to the last two."""
    names = (b"config.json", b"runtime", b"options.json")
    return any(_names(_read(os.path.join(bundle, name)), directory) for name in names)


def _answer(look: Callable[[], list[bytes]]) -> list[bytes]:
    """Return what a separate process finds, since a user's bundle may be on a file system that never answers."""
    found = apart.answer(lambda: b"\0".join(look()), limits.LOOK_SECONDS)
    return found.split(b"\0") if found else []


def _names_any(words: Sequence[bytes], directory: bytes) -> bool:
    return any(_names(word, directory) for word in words)


def _names(text: bytes, directory: bytes) -> bool:
    """Tell whether a text names the directory or a file in it."""
    at = text.find(directory)
    while at >= 0:
        end = at + len(directory)
        if text[max(at - 1, 0) : at] in _BEFORE and text[end : end + 1] in _AFTER:
            return True
        at = text.find(directory, at + 1)
    return False


def _value(words: Sequence[bytes], options: Sequence[bytes]) -> bytes:
    """Return the value of an option in a command line, b"" if it is absent."""
    return next((following for word, following in pairwise(words) if word in options), b"")


def _shown(name: bytes) -> str:
    return quoted(os.fsdecode(name))


def _read(path: bytes) -> bytes:
    """Return the start of a regular file, b"" if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return os.read(fd, limits.CONFIG_JSON) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        finally:
            os.close(fd)
    except OSError:
        return b""


def _ancestors() -> set[int]:
    """Return the pids of this process and of those that started it, whose command lines may name the directory."""
    found = set()
    pid = os.getpid()
    while pid and pid not in found:
        found.add(pid)
        pid = processes.parent(pid)
    return found

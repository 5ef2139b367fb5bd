"""Finds out in which order an interpreter imports the package's modules. No container's start imports this."""

from __future__ import annotations

import os
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from subprocess import CompletedProcess
    from typing import Final

# In some interpreters these are files, in others built in.
EXTENSIONS: Final = ("_ctypes", "_json", "_socket", "_struct", "fcntl")
_BEGIN: Final = "-- a head --\n"
_END: Final = "-- its end --\n"
# Processes that are forked import what comes before several heads once, and no interpreter is started for each head.
_IMPORTER: Final = f"""
import posix, sys
sys.path.append(HOME)

def show(head):
    sys.stderr.write({_BEGIN!r})
    __import__(head)
    sys.stderr.write({_END!r})

def apart(function, *arguments):
    child = posix.fork()
    if not child:
        function(*arguments)
        posix._exit(0)
    if posix.waitpid(child, 0)[1]:
        sys.exit(1)

def show_after(before, heads):
    for name in before:
        __import__(name)
    for head in heads:
        apart(show, head)

show(DOOR)
for before, heads in GROUPS.items():
    apart(show_after, before, heads)
"""


@lru_cache
def extensions(interpreter: str) -> dict[str, str]:
    """Return the paths of those extension modules of a start that are files in this interpreter."""
    program = f"import {', '.join(EXTENSIONS)}"
    program += f"\nfor module in {', '.join(EXTENSIONS)}: print(getattr(module, '__file__', ''))"
    paths = _said(interpreter, program).stdout.removesuffix("\n").split("\n")
    return {name: path for name, path in zip(EXTENSIONS, paths, strict=True) if path}


def of(interpreter: str, door: str, heads: Mapping[str, Sequence[str]], package: str) -> dict[str, list[str]]:
    """Return for the door and each head the package's modules in the order in which its import completes them.

    Packages come first. heads: what is imported before each, beside the door.
    """
    groups: dict[Sequence[str], list[str]] = {}
    for head, before in heads.items():
        groups.setdefault(before, []).append(head)
    program = f"HOME, DOOR, GROUPS = {os.path.dirname(package)!r}, {door!r}, {groups!r}{_IMPORTER}"
    said = _said(interpreter, program, "-X", "importtime").stderr.split(_BEGIN)[1:]
    shown = [door, *(head for group in groups.values() for head in group)]
    return {head: _imported(text.partition(_END)[0]) for head, text in zip(shown, said, strict=True)}


def _imported(said: str) -> list[str]:
    names = (line.rpartition("|")[2].strip() for line in said.split("\n") if line.startswith("import time:"))
    return [name for name in names if name.split(".")[0] == "oci_gpu_hook"]


def _said(interpreter: str, program: str, *options: str) -> CompletedProcess[str]:
    import subprocess

    command = [interpreter, "-ISB", *options, "-c", program]
    return subprocess.run(command, env={}, capture_output=True, text=True, check=True, timeout=60)

"""Compilers that remember what a simulated host's programs were linked from, for one run of the tests.

Three of four hosts that tests make have the same facts as one before, and compiling their libraries again was most of
the CPU time of tests/unit. The programs below are found on PATH before the real compilers. They pass everything on, but
for the one shape of command that `oci-gpu simulate` starts: they keep its image by a digest of the command and of all
that it reads, and copy it next time.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

KEPT = "OCI_GPU_TESTS_COMPILED"
_NAMES = ("cc", "gcc", "musl-gcc", "clang")
_PROGRAM = """#!{python} -ISE
import hashlib, os, sys
REAL, KEPT = {real!r}, {kept!r}
arguments = sys.argv[1:]
work = next((a[2:] for a in arguments if a.startswith("-I") and "/oci-gpu-simulate-" in a), None)
if work is None or arguments.count("-o") != 1:
    os.execv(REAL, [REAL, *arguments])

def digest():
    seen = hashlib.sha256(repr([REAL, *(a.replace(work, "WORK") for a in arguments)]).encode())
    for directory in [a[2:] for a in arguments if a.startswith("-I")]:
        for name in sorted(os.listdir(directory)):
            if name.endswith((".c", ".h")):
                with open(os.path.join(directory, name), "rb") as file:
                    seen.update(name.encode() + b"\\0" + hashlib.sha256(file.read()).digest())
    return seen.hexdigest()

import shutil
image, kept = arguments[arguments.index("-o") + 1], os.path.join(KEPT, digest())
if os.path.exists(kept):
    shutil.copy(kept, image)
    sys.exit()
status = os.spawnv(os.P_WAIT, REAL, [REAL, *arguments])
if status == 0:
    partial = f"{{kept}}.{{os.getpid()}}"
    shutil.copy(image, partial)
    os.rename(partial, kept)
sys.exit(status)
"""


def remember(directory: Path) -> None:
    """Put the programs into a directory and that on PATH, for this process and those that it starts."""
    kept, programs = directory / "kept", directory / "bin"
    kept.mkdir()
    programs.mkdir()
    for name in _NAMES:
        real = shutil.which(name)
        if real:
            program = programs / name
            program.write_text(_PROGRAM.format(python=sys.executable, real=real, kept=str(kept)))
            program.chmod(0o755)
    os.environ[KEPT] = str(directory)
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"


def forget() -> None:
    """Remove what this process remembered."""
    directory = os.environ.pop(KEPT)
    os.environ["PATH"] = os.environ["PATH"].removeprefix(f"{directory}/bin:")
    shutil.rmtree(directory)

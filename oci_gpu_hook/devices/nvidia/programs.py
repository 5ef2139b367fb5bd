"""Finds the driver's programs in the table: real programs, which run in any image with a usual loader.

Some hosts have scripts that start these programs by their path. In a container the script's interpreter, or what it
starts, would be missing. So the program behind the script is searched, and containers never get the script.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.base.errors import quoted
from oci_gpu_hook.base.files import read_start
from oci_gpu_hook.base.formats import elf
from oci_gpu_hook.base.record import Record
from oci_gpu_hook.devices.nvidia import prefixes as of_prefix
from oci_gpu_hook.devices.nvidia.capabilities import BINARIES, NOT_GIVEN
from oci_gpu_hook.devices.nvidia.model import DriverFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot

DIRECTORIES: Final = (
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/nvidia/bin",
    "/usr/lib/nvidia/current",  # Debian, behind its alternatives
    "/run/current-system/sw/bin",  # NixOS
    "/usr/libexec/nvidia/tesla/bin",  # Bottlerocket
    "/opt/bin",
)
# Names of a program that a script has replaced: by hand, by Nix (makeWrapper), dpkg-divert, others.
_BEHIND: Final = (
    ".{}",
    ".{}-wrapped",
    "{}-wrapped",
    "{}.real",
    "{}.bin",
    "{}-bin",
    "{}.orig",
    "{}.distrib",
    "{}.dpkg-divert",
    "../origBin/{}",  # nixpkgs, nvidia-x11: as NVIDIA has built it, kept for containers
)
_OTHER_PRODUCTS: Final = ("nvidia-container-", "nvidia-ctk", "nvidia-cdi-hook", "nvidia-smi.")
_ESSENTIAL: Final = "nvidia-smi"
_MACHINES: Final = {"x86_64": elf.X86_64, "aarch64": elf.AARCH64}
_USUAL: Final = ("lib", "lib64", "lib32", "usr")  # where images have their loaders
_SEPARATORS: Final = str.maketrans("\"'`;|&()<>={}$", " " * 14)


class Programs(Record):
    """The programs that were found. not_given: (capabilities, why) of programs that no container could run.

    awaited: directories in which missing programs may appear later. unclaimed, missing: as in Libraries.
    """

    files: tuple[DriverFile, ...]
    not_given: tuple[tuple[tuple[str, ...], str], ...]
    awaited: tuple[str, ...]
    unclaimed: tuple[str, ...]
    missing: tuple[str, ...]


def find(root: DriverRoot, prefixes: Sequence[str]) -> Programs:
    """Return the programs. prefixes: of the driver's libraries; programs there take precedence."""
    directories = tuple(dict.fromkeys((*of_prefix.program_directories(prefixes), *DIRECTORIES)))
    files, not_given, missing = [], [], []
    for row in BINARIES:
        if row.capabilities == NOT_GIVEN:
            continue
        there = [path for directory in directories if (path := root.resolve(f"{directory}/{row.name}"))]
        program, trouble = _program(root, row.name, there)
        if program:
            files.append(
                DriverFile(
                    host_path=root.host_path(program),
                    container_path=f"/usr/bin/{row.name}",
                    capabilities=row.capabilities,
                )
            )
            continue
        missing.append(row.name)
        if trouble:
            not_given.append((row.capabilities, f"{row.name} is given to no container: {trouble}"))
    return Programs(
        files=tuple(files),
        not_given=tuple(not_given),
        awaited=directories if not_given or _ESSENTIAL in missing else (),
        unclaimed=tuple(_unclaimed(root, directories)),
        missing=tuple(missing),
    )


def _program(root: DriverRoot, name: str, there: Sequence[str]) -> tuple[str, str]:
    """Return the program with a name and "", or "" and what is wrong with the file of that name, if any."""
    trouble = ""
    seen: set[str] = set()
    turn = list(there)
    for _ in range(limits.WRAPPERS):
        scripts = []
        for path in turn:
            if path in seen:
                continue
            seen.add(path)
            wrong = _why_not(root.host_path(path))
            if not wrong:
                return path, ""
            trouble = trouble or f"{quoted(root.host_path(path))} {wrong}"
            scripts.append(path)
        turn = [behind for script in scripts for behind in _behind(root, name, script)]
    return "", trouble


def _why_not(host_path: str) -> str:
    """Return why a file would not run in a container, "" if it would."""
    try:
        fd = os.open(host_path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    try:
        mode = os.fstat(fd).st_mode
        if os.pread(fd, 4, 0) != b"\x7fELF":
            return "is a script or no program at all, and the program behind it was not found"
        image = elf.read(fd)
        loader = elf.interpreter(fd)
    except (OSError, elf.ElfError):
        return ""  # an ELF file that this project's reader does not understand
    finally:
        os.close(fd)
    if (image.bits, image.machine) != (64, _MACHINES.get(os.uname().machine)):
        return "is a program for another machine"
    if loader and loader.split("/")[1:2] not in [[name] for name in _USUAL]:
        return f"needs the loader {quoted(loader)}, which images lack"
    return "" if mode & 0o001 else "is not executable for everybody: chmod 755, then `oci-gpu info --refresh`"


def _behind(root: DriverRoot, name: str, script: str) -> Iterator[str]:
    """Yield candidates for the program that a script starts: files beside it, and paths in it."""
    directory = os.path.dirname(script)
    names = [pattern.format(name) for pattern in _BEHIND]
    words = _words(root.host_path(script))
    paths = [f"{directory}/{other}" for other in names]
    paths += [word for word in words if word.startswith("/") and name in os.path.basename(word)]
    for path in paths:
        resolved = root.resolve(path)
        if resolved and os.path.isfile(root.host_path(resolved)):
            yield resolved


def _words(host_path: str) -> Iterable[str]:
    try:
        text = read_start(host_path, limits.WRAPPER).decode("utf-8", "replace")
    except OSError:
        return ()
    # `${NAME:-/path}` gives what a variable is without a value
    return text.replace(":-", " ").translate(_SEPARATORS).split() if text.startswith("#!") else ()


def _unclaimed(root: DriverRoot, directories: Iterable[str]) -> Iterator[str]:
    known = {row.name for row in BINARIES}
    known |= {pattern.format(name) for name in known for pattern in _BEHIND}
    for directory in directories:
        for name in root.names(directory):
            if name.startswith("nvidia-") and name not in known and not name.startswith(_OTHER_PRODUCTS):
                path = root.host_path(f"{directory}/{name}")
                if not os.path.isdir(path):
                    yield path

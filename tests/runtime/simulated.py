"""The simulated host as tests see it: its facts are read back from its own files, not from the code that made it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Gpu:
    """A GPU by its /proc/driver/nvidia/gpus/BUS/information; index is its place in bus order."""

    index: int
    uuid: str
    bus_id: str
    minor: int

    @property
    def node(self) -> str:
        return f"/dev/nvidia{self.minor}"


@dataclass(frozen=True)
class SimulatedHost:
    """A directory made by `oci-gpu simulate`."""

    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / "config.toml"

    def settings(self) -> dict:
        return tomllib.loads(self.config.read_text())

    @property
    def driver_root(self) -> Path:
        return Path(self.settings()["driver"]["root"])

    @property
    def dev(self) -> Path:
        return Path(self.settings()["driver"]["dev-root"]) / "dev"

    @property
    def proc(self) -> Path:
        return Path(self.settings()["driver"]["proc-root"]) / "driver/nvidia"

    @property
    def module_version(self) -> Path:
        return Path(self.settings()["driver"]["sys-root"]) / "module/nvidia/version"

    @property
    def state_dir(self) -> Path:
        return Path(self.settings()["state"]["dir"])

    @property
    def driver_version(self) -> str:
        return _found(r"Module\S*\s+(?:for \S+\s+)?(\d+\.\d+[.\d]*)", (self.proc / "version").read_text())

    def gpus(self) -> list[Gpu]:
        found = []
        for index, directory in enumerate(sorted((self.proc / "gpus").iterdir())):
            text = (directory / "information").read_text()
            uuid = _found(r"GPU UUID:\s+(\S+)", text)
            minor = int(_found(r"Device Minor:\s+(\d+)", text))
            found.append(Gpu(index, uuid, directory.name, minor))
        return found

    def copy(self, target: Path) -> SimulatedHost:
        """Copy everything but the state, so that a test may break it."""
        subprocess.run(["cp", "--archive", self.directory, target], check=True)
        copied = SimulatedHost(target)
        text = self.config.read_text()
        copied.config.write_text(text.replace(str(self.directory), str(target)))
        if copied.state_dir.is_relative_to(target):
            shutil.rmtree(copied.state_dir, ignore_errors=True)
        return copied

    def libraries(self, pattern: str) -> list[Path]:
        """Return the driver's 64-bit libraries of a name pattern, links left out."""
        files = (path for path in self.driver_root.rglob(pattern) if path.is_file() and not path.is_symlink())
        return [path for path in files if _is_elf64(path)]


def _is_elf64(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(5) == b"\x7fELF\x02"  # elf.h: EI_MAG0…3, EI_CLASS


def _found(pattern: str, text: str) -> str:
    """Return the pattern's group, which must be there."""
    match = re.search(pattern, text)
    assert match, (pattern, text)
    return match[1]

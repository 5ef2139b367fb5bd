"""Driver roots for tests: real links and directories, small ELF files in the place of the driver's libraries."""

from __future__ import annotations

import os
import posix
import time

from oci_gpu_hook.admin.simulate.elf import shared_object
from oci_gpu_hook.base.config.model import Config
from tests.paths import DATA

VERSION_TEXT = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Sep 23 10:11:16 UTC 2025\nGCC version:  gcc 12\n"
)
INFORMATION = (
    "Model: \t\t {model}\nIRQ:   \t\t 77\nGPU UUID: \t {uuid}\nVideo BIOS: \t 94.02.26.40.81\nBus Type: \t PCIe\n"
    "DMA Size: \t 47 bits\nBus Location: \t {bus}\nDevice Minor: \t {minor}\nGPU Excluded:\t {excluded}\n"
)


def uuid_of(number):
    return f"GPU-0000000{number}-1111-2222-3333-444444444444"


def write(path, content=b""):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o755)  # as a driver's programs are
    return path


def link(path, target):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(target, path)


def library(path, soname="", machine="x86_64"):
    return write(str(path), shared_object(machine, soname))


def driver(root, version="580.95.05", directory="usr/lib/x86_64-linux-gnu", machine="x86_64"):
    """Make the two libraries without which there is no driver; return the directory."""
    where = os.path.join(str(root), directory)
    for stem in ("libcuda", "libnvidia-ml"):
        library(f"{where}/{stem}.so.{version}", f"{stem}.so.1", machine)
        link(f"{where}/{stem}.so.1", f"{stem}.so.{version}")
    return where


def proc(root, version="580.95.05", gpus=1, *, excluded=(), unknown=()):
    """Make /proc/driver/nvidia below `root`; GPU n has minor n and stands on the bus in the order of n."""
    base = f"{root}/driver/nvidia"
    write(f"{base}/version", VERSION_TEXT.format(version).encode())
    write(f"{base}/params", b"ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 1\nDeviceFileMode: 438\n")
    write(f"{base}/registry", b'Binary: ""\n')
    for number in range(gpus):
        bus = f"0000:{number + 1:02x}:00.0"
        uuid = "GPU-????????-????-????-????-????????????" if number in unknown else uuid_of(number)
        text = INFORMATION.format(
            model="NVIDIA H100", uuid=uuid, bus=bus, minor=number, excluded="Yes" if number in excluded else "No"
        )
        write(f"{base}/gpus/{bus}/information", text.encode())


def config(tmp_path, **rest):
    """Return the configuration of a host below tmp_path; its parts are made where they are missing."""
    for name in ("driver", "dev/dev", "proc", "sys"):
        os.makedirs(tmp_path / name, exist_ok=True)
    return Config(
        **{
            "driver_root": str(tmp_path / "driver"),
            "dev_root": str(tmp_path / "dev"),
            "proc_root": str(tmp_path / "proc"),
            "sys_root": str(tmp_path / "sys"),
            "state_dir": str(tmp_path / "state"),
            **rest,
        }
    )


def machine(monkeypatch, name="x86_64"):
    """Let this machine be another."""
    real = os.uname()
    fields = (real.sysname, real.nodename, "6.1.0", real.version, name)
    monkeypatch.setattr(os, "uname", lambda: posix.uname_result(fields))


def of_file_list(root, name):
    """Make a driver root of a list in tests/data/driver-files; return the paths it names, links left out."""
    with open(DATA / "driver-files" / name) as file:
        entries = [line.rstrip("\n").partition(" -> ") for line in file]
    paths = {path: target for path, _, target in entries}
    if not any(paths.values()):
        paths |= _guessed_links(paths)
    files = []
    for path, target in paths.items():
        if target:
            link(f"{root}{path}", target)
            continue
        files.append(path)
        stem, dot_so, _ = os.path.basename(path).partition(".so")
        if stem.startswith("lib") and dot_so:
            library(f"{root}{path}", _soname(path, paths), "i386" if "/i386-" in path else "x86_64")
        elif os.path.basename(os.path.dirname(path)) in ("bin", "sbin", "current") and "." not in stem:
            library(f"{root}{path}")
        else:
            write(f"{root}{path}")
    return files


def _guessed_links(paths):
    """Link each shorter name of a library to its longest one, the file."""
    guessed = {}
    for path in paths:
        stem = path.partition(".so")[0]
        longest = max((other for other in paths if other.partition(".so")[0] == stem), key=len)
        if "/lib" in path and ".so" in path and longest != path:
            guessed[path] = os.path.basename(longest)
    return guessed


def _soname(path, paths):
    """Return the name `stem.so.N` that links to a library, or the library's own where none does."""
    stem = path.partition(".so")[0]
    for other, target in paths.items():
        if target and other.startswith(f"{stem}.so.") and other.count(".") == stem.count(".") + 2:
            return os.path.basename(other)
    return os.path.basename(path)


def settle(tmp_path):
    """Let everything have changed a minute ago."""
    past = time.time() - 60
    for directory, _, names in os.walk(tmp_path):
        for path in (directory, *(os.path.join(directory, name) for name in names)):
            os.utime(path, (past, past), follow_symlinks=False)

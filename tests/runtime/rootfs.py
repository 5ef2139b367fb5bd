"""Small images made of the machine's own parts, so that a container's loader is a real one and no network is needed.

A variant is a directory below the session's cache; a test gets a copy. What each variant stands for:

debian      merged /usr, multiarch library directory, an ld cache made by the real ldconfig
rhel        libraries in /usr/lib64, where the loader looks only because the ld cache says so
no-cache    as debian, without /etc/ld.so.cache
musl        Alpine's layout: the musl loader, no ld cache
empty       one static executable and nothing else
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

VARIANTS = ("debian", "rhel", "no-cache", "musl", "empty")
MACHINE = platform.machine()
# The loader's path is part of the ABI: glibc, sysdeps/unix/sysv/linux/{x86_64,aarch64}/shlib-versions.
GLIBC_LOADER = {"x86_64": "lib64/ld-linux-x86-64.so.2", "aarch64": "lib/ld-linux-aarch64.so.1"}[MACHINE]
MULTIARCH = f"{MACHINE}-linux-gnu"
LIBRARY_DIRECTORY = {"debian": f"usr/lib/{MULTIARCH}", "no-cache": f"usr/lib/{MULTIARCH}", "rhel": "usr/lib64"}
_GLIBC = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1")
_COMMANDS = ("sh", "sleep", "true", "cat", "ls", "mount")
# Runtimes make missing mountpoints and leave them; a tree that must be as before has them already.
_MOUNTPOINTS = ("proc", "dev", "sys", "tmp", "run", "etc")
_SOURCE = Path(__file__).with_name("probe.c")


def build(variant: str, cache: Path) -> Path:
    """Build a variant below `cache` once; return its directory. Needs gcc, a static busybox and ldconfig."""
    root = cache / variant
    if not root.exists():
        making = cache / f".{variant}"
        shutil.rmtree(making, ignore_errors=True)
        for name in _MOUNTPOINTS:
            (making / name).mkdir(parents=True)
        _BUILDERS[variant](making)
        making.rename(root)
    return root


def copy(variant: Path, target: Path) -> Path:
    """Copy a built variant, times and links kept."""
    subprocess.run(["cp", "--archive", variant, target], check=True)
    return target


def shift(root: Path, first_id: int) -> None:
    """Give the tree to the user namespace whose ids start at `first_id`."""
    for directory, names, files in os.walk(root):
        for path in (directory, *(os.path.join(directory, name) for name in names + files)):
            info = os.lstat(path)
            if info.st_uid < first_id:
                os.chown(path, info.st_uid + first_id, info.st_gid + first_id, follow_symlinks=False)


def leave_driver_remains(root: Path, variant: str, version: str) -> None:
    """Put into an image what other tools leave in a committed one: empty files, stale and dangling links."""
    libraries = root / LIBRARY_DIRECTORY[variant]
    for name in (f"libnvidia-ml.so.{version}", f"libcuda.so.{version}", "libnvidia-ml.so.418.39"):
        (libraries / name).touch()
    (libraries / "libnvidia-ml.so.1").symlink_to("libnvidia-ml.so.418.39")
    (libraries / "libcuda.so.1").symlink_to("libcuda.so.390.12")
    (libraries / "libcuda.so").symlink_to("/nowhere/libcuda.so.1")
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    (root / "usr/bin/nvidia-smi").touch(mode=0o755)


def _debian(root: Path) -> None:
    _merge_usr(root)
    (root / "etc/debian_version").write_text("12.7\n")
    _install_glibc(root, root / "usr/lib" / MULTIARCH)
    (root / "etc/ld.so.conf.d").mkdir()
    (root / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
    (root / f"etc/ld.so.conf.d/{MULTIARCH}.conf").write_text(
        f"/usr/local/lib\n/lib/{MULTIARCH}\n/usr/lib/{MULTIARCH}\n"
    )
    _write_cache(root)


def _no_cache(root: Path) -> None:
    _debian(root)
    for name in ("etc/ld.so.cache", "etc/ld.so.conf"):
        (root / name).unlink()
    shutil.rmtree(root / "etc/ld.so.conf.d")


def _rhel(root: Path) -> None:
    _merge_usr(root)
    (root / "etc/redhat-release").write_text("Red Hat Enterprise Linux release 9.4 (Plow)\n")
    _install_glibc(root, root / "usr/lib64")
    (root / "etc/ld.so.conf").write_text("/usr/lib64\n")
    _write_cache(root)


def _musl(root: Path) -> None:
    for name in ("bin", "lib", "usr/bin", "usr/lib"):
        (root / name).mkdir(parents=True)
    (root / "etc/alpine-release").write_text("3.19.1\n")
    loader = f"ld-musl-{MACHINE}.so.1"
    shutil.copy(f"/lib/{loader}", root / "lib" / loader)
    _install_busybox(root)
    _compile(root / "probe", "musl-gcc")


def _empty(root: Path) -> None:
    _compile(root / "probe", "gcc", "-static", "-DWITHOUT_LOADER")


_BUILDERS = {"debian": _debian, "no-cache": _no_cache, "rhel": _rhel, "musl": _musl, "empty": _empty}


def _merge_usr(root: Path) -> None:
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")


def _install_glibc(root: Path, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    for name in _GLIBC:
        found = subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        shutil.copy(found, directory / name)
    shutil.copy(f"/{GLIBC_LOADER}", root / GLIBC_LOADER)
    _install_busybox(root)
    _compile(root / "probe", "gcc")


def _install_busybox(root: Path) -> None:
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, root / "bin/busybox")
    for name in _COMMANDS:
        (root / "bin" / name).symlink_to("busybox")


def _compile(target: Path, *compiler: str) -> None:
    subprocess.run([*compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-o", target, _SOURCE], check=True)


def _write_cache(root: Path) -> None:
    subprocess.run(["ldconfig", "-r", root], check=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})

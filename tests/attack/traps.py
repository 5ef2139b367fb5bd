"""What a hostile image can lay in the way of the hook: the paths that it goes, and what may stand there instead.

A trap is laid at one component of the path of one effect. Links lead to the canary, in which the rest of the path is
there too, so that whoever follows them meets no obstacle.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from struct import pack

from oci_gpu_hook.base import limits
from tests.attack.canary import Canary
from tests.runtime.rootfs import MULTIARCH

LIBRARIES = f"usr/lib/{MULTIARCH}"


def effects(version: str) -> dict[str, tuple[str, str]]:
    """Return each kind of effect with one path that it has in a Debian image, and what it puts there."""
    return {
        "library": (f"{LIBRARIES}/libcuda.so.{version}", "file"),
        "link": (f"{LIBRARIES}/libcuda.so.1", "link"),
        "nested link": (f"{LIBRARIES}/gbm/nvidia-drm_gbm.so", "link"),
        "binary": ("usr/bin/nvidia-smi", "file"),
        "data": ("etc/vulkan/icd.d/nvidia_icd.json", "file"),
        "firmware": (f"usr/lib/firmware/nvidia/{version}/gsp_tu10x.bin", "file"),
        "socket directory": ("var/run/nvidia-persistenced", "directory"),
        "profile": ("etc/nvidia/nvidia-application-profiles-rc.d", "directory"),
        "cache": ("etc/ld.so.cache", "file"),
        "node": ("dev/nvidia0", "node"),
        "nested node": ("dev/dri/card1", "node"),
        "procfs": ("proc/driver/nvidia", "directory"),
    }


def components(path: str) -> list[str]:
    """Return the path and those above it, shortest first."""
    parts = path.split("/")
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


class Place:
    """Where a trap is laid: a component of a path below a rootfs, and what is left of the path after it."""

    def __init__(self, rootfs: Path, component: str, path: str, canary: Canary) -> None:
        self.at = rootfs / component
        self.rootfs = rootfs
        self.rest = path[len(component) :].strip("/")
        self.canary = canary

    def link(self, target: str | Path) -> None:
        self.at.symlink_to(target)

    def there(self) -> Path:
        return self.canary.full(self.rest)

    def chain(self) -> None:
        for number in range(3):
            (self.rootfs / f"hop{number}").symlink_to(f"/hop{number + 1}")
        (self.rootfs / "hop3").symlink_to(self.there())
        self.link("/hop0")

    def loop(self) -> None:
        (self.rootfs / "round").symlink_to(f"/{self.at.relative_to(self.rootfs)}")
        self.link("/round")

    def make_socket(self) -> None:
        here = os.open(self.at.parent, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{here}/{self.at.name}")
        os.close(here)

    def other_kind(self) -> None:
        """Make a file where the path needs a directory, and a directory where it ends."""
        if self.rest:
            self.at.write_text("not a directory")
        else:
            self.at.mkdir()
            (self.at / "held").touch()


UP = "../" * 40

TRAPS: dict[str, Callable[[Place], object]] = {
    "absolute link": lambda place: place.link(place.there()),
    "absolute link to nothing in it": lambda place: place.link(place.canary.bare / "new"),
    "absolute link to an empty directory": lambda place: place.link(place.canary.bare),
    "relative link": lambda place: place.link(UP + str(place.there()).lstrip("/")),
    "link with slashes": lambda place: place.link("//" + str(place.there()).replace("/", "//./")),
    "chain of links": Place.chain,
    "loop": Place.loop,
    "link to itself": lambda place: place.link(place.at.name),
    "magic link of its own": lambda place: place.link(f"/proc/self/root{place.there()}"),
    "magic link of another": lambda place: place.link(f"/proc/1/root{place.there()}"),
    "magic link to a cwd": lambda place: place.link(f"/proc/1/cwd{place.there()}"),
    "magic link to a descriptor": lambda place: place.link(f"/proc/self/fd/3/{UP}{place.there()}"),
    "link to ..": lambda place: place.link(".."),
    "link to many ..": lambda place: place.link(UP),
    "link to /": lambda place: place.link("/"),
    "link to the process's confinement": lambda place: place.link("/proc/1/attr/exec"),
    "link to the kernel's settings": lambda place: place.link("/proc/sys/kernel"),
    "link to null": lambda place: place.link("/dev/null"),
    "dangling link": lambda place: place.link("/nowhere/at/all"),
    "link of odd bytes": lambda place: place.link("/\x1b[2J\noci-gpu-hook: error: forged"),
    "link of no text": lambda place: os.symlink(b"/\xff\xfe\xed\xa0\x80", place.at),
    "link too long": lambda place: place.link("a/" * 2000),
    "FIFO": lambda place: os.mkfifo(place.at),
    "socket": Place.make_socket,
    "character device": lambda place: os.mknod(place.at, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
    "block device": lambda place: os.mknod(place.at, stat.S_IFBLK | 0o666, os.makedev(7, 200)),
    "other kind": Place.other_kind,
    "immovable file": lambda place: place.at.write_text("the image's own"),
}


def lay(trap: str, rootfs: Path, component: str, path: str, canary: Canary) -> None:
    """Lay a trap in the place of whatever the rootfs has there; what was there moves aside."""
    place = Place(rootfs, component, path, canary)
    place.at.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(place.at):
        place.at.rename(rootfs / "was-here")
    TRAPS[trap](place)


def odd_library() -> bytes:
    """Return an ELF file that is as slow to look into as limits let one be: sections of notes, and notes of nothing."""
    names = b"x" * 8 + b"\0.note.cuda.fwd_compatibility\0"
    names = names.ljust(limits.ELF_TABLE, b"y")
    notes = bytes(limits.ELF_NOTES)
    count = limits.ELF_SECTIONS
    table_at = 64
    names_at = table_at + 64 * count
    notes_at = names_at + len(names)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table_at, 0, 64, 56, 0, 64, count, 0)
    sections = [(0, 7, notes_at, len(notes))] * (count - 1)
    sections[0] = (0, 3, names_at, len(names))
    sections.append((9, 7, notes_at, len(notes)))
    table = b"".join(pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, 0, 0, 4, 0) for name, kind, at, size in sections)
    return header + table + names + notes

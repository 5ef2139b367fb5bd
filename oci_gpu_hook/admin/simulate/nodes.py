"""The device nodes of a simulated host, with the numbers that a real driver's have.

Numbers that a kernel gives out by chance (the majors of nvidia-uvm and others, DRM minors) are taken from those that
this machine does not use, so that a simulated node never leads to a real device. Fixed are 195 (nvidia) and 226 (DRM).
Sources: Documentation/admin-guide/devices.txt; modes as nvidia-modprobe and udev set them.
"""

from __future__ import annotations

import os

from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from oci_gpu_hook.admin.simulate.gpus import SimulatedGpu

NVIDIA_MAJOR: Final = 195
DRM_MAJOR: Final = 226
MISC_MAJOR: Final = 10
VIDEO_GID: Final = 44  # Debian's video
RENDER_GID: Final = 109  # Debian gives render the next free system group; this is a usual one
FIRST_RENDER_MINOR: Final = 128
NVSWITCHES: Final = 4
GDS_NODES: Final = 16  # nvidia-fs makes so many
IMEX_CHANNELS: Final = 2  # of the 2048 that a driver has room for

# Names in /proc/devices → the number taken where it is free.
_DYNAMIC_MAJORS: Final = {
    "infiniband_verbs": 231,
    "nvidia-caps-imex-channels": 234,
    "nvidia-caps": 235,
    "nvidia-nvlink": 236,
    "nvidia-nvswitch": 237,
    "nvidia-fs": 508,
    "gdrdrv": 509,
    "nvidia-uvm": 510,
}


class Node(Record):
    """A character device. path: without a leading slash, e.g. dev/nvidia0. mode: permission bits."""

    path: str
    major: int
    minor: int
    mode: int = 0o666
    gid: int = 0


class Numbers(Record):
    """Numbers given out on this machine. majors: name in /proc/devices → major. first_card: N of the first cardN.

    kfd: the major of AMD's compute driver.
    """

    majors: tuple[tuple[str, int], ...]
    first_card: int
    first_render: int
    rdma_cm_minor: int
    kfd: int = 0

    def major(self, name: str) -> int:
        """Return the major of a driver by its name in /proc/devices."""
        return dict(self.majors)[name]

    def drm(self, index: int) -> tuple[str, str]:
        """Return the names below /dev/dri of the GPU at an index."""
        return f"card{self.first_card + index}", f"renderD{self.first_render + index}"


def free_numbers(proc: str = "/proc", drm: str = "/sys/class/drm") -> Numbers:
    """Choose numbers that no driver of this machine uses."""
    used = _numbers_listed(f"{proc}/devices") | set(_DYNAMIC_MAJORS.values())
    really_used = _numbers_listed(f"{proc}/devices")
    majors = []
    for name, wanted in _DYNAMIC_MAJORS.items():
        major = wanted
        if major in really_used:
            major = next(number for number in range(511, 383, -1) if number not in used)  # the kernel's extended range
        used.add(major)
        majors.append((name, major))
    try:
        names = os.listdir(drm)
    except FileNotFoundError:
        names = []
    cards = [int(name[4:]) for name in names if name.startswith("card") and name[4:].isdigit()]
    renders = [int(name[7:]) for name in names if name.startswith("renderD") and name[7:].isdigit()]
    misc = _numbers_listed(f"{proc}/misc")
    return Numbers(
        majors=tuple(majors),
        first_card=max([0, *cards]) + 1,  # card0 is the board's management controller
        first_render=max([FIRST_RENDER_MINOR - 1, *renders]) + 1,
        rdma_cm_minor=next(minor for minor in range(122, 0, -1) if minor not in misc),
        kfd=next(number for number in range(238, 511) if number not in used),
    )


def _numbers_listed(path: str) -> set[int]:
    """Return the first column of the character devices in /proc/devices, or of /proc/misc."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read().partition("Block devices:")[0]
    except FileNotFoundError:
        return set()
    return {int(words[0]) for line in text.split("\n") if (words := line.split()) and words[0].isdigit()}


def host_nodes(gpus: Sequence[SimulatedGpu], numbers: Numbers) -> Iterator[Node]:
    """Yield every node of the host."""
    uvm = numbers.major("nvidia-uvm")
    yield Node(path="dev/nvidiactl", major=NVIDIA_MAJOR, minor=255)
    yield Node(path="dev/nvidia-modeset", major=NVIDIA_MAJOR, minor=254)
    yield Node(path="dev/nvidia-uvm", major=uvm, minor=0)
    yield Node(path="dev/nvidia-uvm-tools", major=uvm, minor=1)
    for gpu in gpus:
        yield Node(path=f"dev/nvidia{gpu.minor}", major=NVIDIA_MAJOR, minor=gpu.minor)
    yield from _drm(gpus, numbers)
    yield from _capabilities(gpus, numbers)
    yield from _fabric(gpus, numbers)
    yield Node(path="dev/gdrdrv", major=numbers.major("gdrdrv"), minor=0)
    for minor in range(GDS_NODES):
        yield Node(path=f"dev/nvidia-fs{minor}", major=numbers.major("nvidia-fs"), minor=minor)
    yield Node(path="dev/infiniband/uverbs0", major=numbers.major("infiniband_verbs"), minor=192)
    yield Node(path="dev/infiniband/rdma_cm", major=MISC_MAJOR, minor=numbers.rdma_cm_minor)


def _drm(gpus: Sequence[SimulatedGpu], numbers: Numbers) -> Iterator[Node]:
    for gpu in gpus:
        card, render = numbers.drm(gpu.index)
        card_minor, render_minor = numbers.first_card + gpu.index, numbers.first_render + gpu.index
        yield Node(path=f"dev/dri/{card}", major=DRM_MAJOR, minor=card_minor, mode=0o660, gid=VIDEO_GID)
        yield Node(path=f"dev/dri/{render}", major=DRM_MAJOR, minor=render_minor, mode=0o660, gid=RENDER_GID)


def _capabilities(gpus: Sequence[SimulatedGpu], numbers: Numbers) -> Iterator[Node]:
    caps, imex = numbers.major("nvidia-caps"), numbers.major("nvidia-caps-imex-channels")
    yield Node(path="dev/nvidia-caps/nvidia-cap1", major=caps, minor=1, mode=0o400)
    yield Node(path="dev/nvidia-caps/nvidia-cap2", major=caps, minor=2, mode=0o444)
    for gpu in gpus:
        for device in gpu.mig_devices:
            for minor in (device.gpu_instance_minor, device.compute_instance_minor):
                yield Node(path=f"dev/nvidia-caps/nvidia-cap{minor}", major=caps, minor=minor, mode=0o444)
    for channel in range(IMEX_CHANNELS):
        yield Node(path=f"dev/nvidia-caps-imex-channels/channel{channel}", major=imex, minor=channel)


def _fabric(gpus: Sequence[SimulatedGpu], numbers: Numbers) -> Iterator[Node]:
    """Yield the nodes of NVSwitch, which boards with NVLink have."""
    if not any(gpu.product.nvlinks for gpu in gpus):
        return
    switch = numbers.major("nvidia-nvswitch")
    yield Node(path="dev/nvidia-nvlink", major=numbers.major("nvidia-nvlink"), minor=0)
    yield Node(path="dev/nvidia-nvswitchctl", major=switch, minor=255)
    for minor in range(NVSWITCHES):
        yield Node(path=f"dev/nvidia-nvswitch{minor}", major=switch, minor=minor)

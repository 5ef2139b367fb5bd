"""A rootfs whose directories another process swaps all the while: the hook sees now this, now that, and never outside.

RENAME_EXCHANGE swaps a real directory for a link that leads out, hundreds of thousands of times in a second or two of
hook runs. Each run must do its work inside the rootfs or refuse in one line; a run that fails may leave its mountpoints
where they were swapped to, inside the rootfs, but nothing anywhere else.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Self

import pytest

from oci_gpu_hook.base import syscalls
from tests.attack.traps import LIBRARIES
from tests.runtime import rootfs as images

_NR_RENAMEAT2 = 316 if os.uname().machine == "x86_64" else 276
_RENAME_EXCHANGE = 2  # include/uapi/linux/fs.h
SECONDS = 4.0
SECONDS_FULL = 60.0
_HERE = -100  # AT_FDCWD


def swap(one: bytes, other: bytes) -> None:
    syscalls.raw(_NR_RENAMEAT2, _HERE, one, _HERE, other, _RENAME_EXCHANGE)


def keep_swapping(pairs: list[tuple[bytes, bytes]], stop, count) -> None:
    """Swap one pair after the other, each for a while; what the hook has taken away meanwhile is passed over.

    All at once would leave the hook next to no chance of a path that holds, and so none to be led astray later.
    """
    while not stop.is_set():
        for one, other in pairs:
            for _ in range(300):
                try:
                    swap(one, other)
                    count.value += 1
                except OSError:
                    continue


class Swapper:
    """The racing process; `swaps` is how often it has swapped."""

    def __init__(self, pairs: list[tuple[Path, Path]]) -> None:
        context = multiprocessing.get_context("fork")
        self._stop = context.Event()
        self._count = context.Value("Q", 0, lock=False)
        names = [(os.fsencode(one), os.fsencode(other)) for one, other in pairs]
        self._process = context.Process(target=keep_swapping, args=(names, self._stop, self._count))

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._process.join(10)
        assert self._process.exitcode == 0

    @property
    def swaps(self) -> int:
        return self._count.value


def lay(kind: str, rootfs: Path, canary, version: str) -> list[tuple[Path, Path]]:
    """Lay what is swapped with what; each second one leads to the canary, where the rest of the path exists too."""
    decoys = rootfs / "decoys"
    decoys.mkdir()
    pairs = []

    def pair(path: str, target: Path | str) -> None:
        at = rootfs / path
        at.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(at):
            at.mkdir()
        decoy = decoys / path.replace("/", "-")
        decoy.symlink_to(target)
        pairs.append((at, decoy))

    if kind == "directories":
        pair(LIBRARIES, canary.full(f"libcuda.so.{version}"))
        pair("usr/bin", canary.bare)
        pair("etc/vulkan/icd.d", canary.bare)
        pair("usr/lib/firmware/nvidia", canary.full(f"{version}/gsp_tu10x.bin"))
        pair("var/run/nvidia-persistenced", canary.bare)
    elif kind == "files":
        for name in (f"libcuda.so.{version}", f"libnvidia-ml.so.{version}", "libcuda.so.1"):
            (rootfs / LIBRARIES / name).write_text("the image's own")
            pair(f"{LIBRARIES}/{name}", canary.directory / "empty")
        pair("etc/ld.so.cache", canary.directory / "secret")
    elif kind == "inside":
        for path in (LIBRARIES, "usr/bin", "etc/vulkan/icd.d"):
            (rootfs / "decoys" / path).mkdir(parents=True)
            pair(path, f"/decoys/{path}")
    else:  # a directory that climbs out while a path below it is being walked
        (rootfs / "deep/a/b/c").mkdir(parents=True)
        (rootfs / "deep/a/b/c/up").symlink_to("../../../../../../../../../../.." + str(canary.bare))
        (rootfs / "usr/bin").rename(rootfs / "usr/was-bin")
        (rootfs / "usr/bin").symlink_to("/deep/a/b/c/up")
        pairs.append((rootfs / "deep/a/b", rootfs / "decoys"))
    return pairs


@pytest.mark.race
@pytest.mark.parametrize("kind", ["directories", "files", "inside", "climbing"])
def test_a_rootfs_that_does_not_hold_still(kind, enter, machine, simulated, directory, canary, tally, full):
    rootfs = images.copy(machine.image("debian"), directory / "rootfs")
    pairs = lay(kind, rootfs, canary, simulated.driver_version)
    canary.seal()
    counted: Counter[str] = Counter()
    give_up = time.monotonic() + (SECONDS_FULL if full else SECONDS) / 4
    with Swapper(pairs) as swapper:
        while time.monotonic() < give_up:
            with enter(rootfs) as sandbox:
                before = set(sandbox.mounts())
                outcome = sandbox.attach()
                for line in set(sandbox.mounts()) - before:
                    fields = line.split()
                    assert fields[4].startswith(f"{rootfs}/"), line
                    assert canary.directory.name not in fields[3], line
            assert sandbox.release().refused == ""
            counted["refused" if outcome.refused else "ok"] += 1
            tally.count(outcome)
    assert canary.is_untouched()
    assert swapper.swaps > 1000 * counted.total(), "the race was hardly one"
    print(f"{kind}: {swapper.swaps} swaps, {dict(counted)}")
    shutil.rmtree(rootfs)


@pytest.mark.race
def test_a_rootfs_that_does_not_hold_still_under_runc(runc, make_bundle, simulated, canary, tally, full):
    bundles = [make_bundle("mountinfo", gpus="all", name=f"race-{n}") for n in range(40 if full else 3)]
    counted: Counter[str] = Counter()
    for bundle in bundles:
        pairs = lay("directories", bundle.rootfs, canary, simulated.driver_version)
        pairs = [(one, other) for one, other in pairs if one.name != "bin"]
        (bundle.rootfs / "probe").write_bytes((make_bundle.machine.image("empty") / "probe").read_bytes())
        canary.seal()
        with Swapper(pairs):
            result = runc.run(bundle)
        tally.count()
        if result.status == 0:
            assert str(canary.directory) not in result.seen()["mountinfo"]
            counted["ok"] += 1
        else:
            assert "internal error" not in result.complaint()
            counted["refused"] += 1
        assert canary.is_untouched()
    print(dict(counted))

"""A launch of Mesos: the front with its Python, and the command that attaches the GPUs, by a stand-in helper.

The real helper is a shell script that makes a mount namespace, and does of the launch information only what is ours. A
launch that asks for nothing goes the same way: the difference is what GPUs cost. Mesos agents need cgroup v1.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
import uuid
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bed import Bed
    from doors import Meter

HIERARCHIES = Path("/sys/fs/cgroup")
ROWS = {"Mesos launch, nothing asked": "void", "Mesos launch, front and pre-exec command": "all"}
_HELPER = """\
#!/bin/sh
exec unshare --mount sh -c '
mount --bind "$ROOTFS" "$ROOTFS"
case $MESOS_CONTAINERIZER_LAUNCH_INFO in
*attach-gpus*) ;;
*) exit 0 ;;
esac
bundle=${MESOS_CONTAINERIZER_LAUNCH_INFO##*attach-gpus\\"}
bundle=${bundle#*\\"}
"FRONT" attach-gpus "${bundle%%\\"*}"
exit $?'
"""
_ENTER = 'for each in freezer devices; do echo 0 > "/sys/fs/cgroup/$each/$1/cgroup.procs"; done; shift; exec "$@"'


class Launches:
    """A launcher directory with the front before a helper of ours, on a bed."""

    def __init__(self, bed: Bed, meter: Meter) -> None:
        self._bed = bed
        self._meter = meter
        real = bed.work / "libexec-mesos"
        real.mkdir()
        self._front = bed.work / "libexec-mesos-gpu" / "mesos-containerizer"
        for name in ("mesos-containerizer", "mesos-executor"):
            (real / name).write_text(_HELPER.replace("FRONT", str(self._front)))
            (real / name).chmod(0o755)
        of = [] if bed.real else ["--config", bed.host(1)]
        bed.oci_gpu(*of, "install", "mesos", "--launcher-dir", real, "--output", self._front.parent)

    def run(self, visible: str) -> tuple[float, float]:
        """Launch a container to the end of its helper; return CPU and wall seconds."""
        container = f"mesos/{uuid.uuid4()}"
        rootfs = self._bed.work / "mesos-rootfs"
        shutil.copytree(self._bed.work / "image", rootfs, symlinks=True)
        proof = rootfs / "usr/bin/nvidia-smi"
        proof.unlink(missing_ok=True)  # which runc makes in the image where it mounts there
        cgroups = [HIERARCHIES / each / container for each in ("freezer", "devices")]
        for cgroup in cgroups:
            cgroup.mkdir(parents=True)
        said = {"NVIDIA_VISIBLE_DEVICES": visible, "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
        variables = [{"name": name, "type": "VALUE", "value": value} for name, value in said.items()]
        launch = {
            "rootfs": str(rootfs),
            "command": {"shell": True, "value": "true"},
            "environment": {"variables": variables},
        }
        environment = {"MESOS_CONTAINERIZER_LAUNCH_INFO": json.dumps(launch), "ROOTFS": str(rootfs)}
        command = ["/bin/sh", "-c", _ENTER, "sh", container, str(self._front), "launch"]
        before, started = self._meter.usage(), time.perf_counter()
        self._meter.run(command, environment=environment)
        wall = time.perf_counter() - started
        used = self._meter.usage() - before
        if proof.exists() != (visible == "all"):
            raise SystemExit("the launch has not attached what it was to attach")
        for cgroup in cgroups:
            cgroup.rmdir()
        shutil.rmtree(rootfs)
        return used, wall


def launches(bed: Bed, meter: Meter, rounds: int, bare: float) -> None:
    """Measure launches in turns, and print what they cost. bare: CPU seconds of the bare interpreter."""
    if not (HIERARCHIES / "freezer").exists() or not bed.has_front():
        print("\nno launch of Mesos: it needs cgroup v1 and the front")
        return
    found = Launches(bed, meter)
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in ROWS}
    for number in range(rounds + 1):
        for name, visible in ROWS.items():
            sample = found.run(visible)
            samples[name] += [sample] if number else []
    print(f"\n{'launches of Mesos':42} {'CPU ms':>8} {'added':>8} {'x bare':>8} {'least':>8} {'wall':>8}")
    plain = statistics.median(cpu for cpu, _ in next(iter(samples.values())))
    for name, taken in samples.items():
        cpu, wall = (statistics.median(each) for each in zip(*taken, strict=True))
        least = min(cpu for cpu, _ in taken)
        numbers = (cpu * 1000, (cpu - plain) * 1000, (cpu - plain) / bare, least * 1000, wall * 1000)
        print(f"{name:42} {numbers[0]:8.1f} {numbers[1]:8.1f} {numbers[2]:8.2f} {numbers[3]:8.1f} {numbers[4]:8.1f}")

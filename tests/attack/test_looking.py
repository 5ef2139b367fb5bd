"""What looks at running containers from outside, again and again: `top`, `metrics` and `watch`.

Containers choose the names of their processes; whoever starts one chooses its annotations.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import parser

from oci_gpu_hook.admin.simulate.host import make
from tests.attack.test_races import Swapper
from tests.attack.test_repair import CONFINING, points
from tests.runtime.host import tree
from tests.runtime.simulated import SimulatedHost
from tests.runtime.test_verify_repair import take_rights

POD = {
    "io.kubernetes.cri.sandbox-namespace": "default\x1b[2J",
    "io.kubernetes.cri.sandbox-name": "web\u202e\n0",
    "io.kubernetes.cri.container-name": 'main"} 1\noci_gpu_leases 7',
}
NAMES = ("\x1b[31mroot", "a\n\nb", "\xff\xfe", '"} 1')
ROUNDS = {False: 6, True: 100}


@pytest.fixture
def host(directory):
    """A host of the test's own, with one GPU."""
    return SimulatedHost(Path(make(str(directory / "host"), gpus=1).directory))


def call(runtime, host, *arguments: object) -> str:
    path = Path(sys.executable).with_name("oci-gpu")
    command = runtime.host.command(path, "--config", host.config, *arguments)
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert b"Traceback" not in done.stderr, done.stderr
    assert b"internal error" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    assert done.stderr.replace(b"\n", b"").isascii()
    return done.stdout.decode()


def named(container, name: str) -> int:
    """Start a process of that name in the container; return its pid on the host."""
    octal = "".join(f"\\{byte:03o}" for byte in name.encode("latin-1"))
    work = f"printf '{octal}' > /proc/\\$\\$/comm; while :; do /bin/busybox sleep 50; done"
    script = f'/bin/busybox sh -c "{work}" >/dev/null 2>&1 &'
    assert container.exec("/bin/busybox", "sh", "-c", script).status == 0
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                inside = os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{container.pid}/ns/pid")
                if inside and Path(f"/proc/{pid}/comm").read_bytes() == name.encode("latin-1") + b"\n":
                    return int(pid)
            except OSError:
                continue
        time.sleep(0.05)
    raise AssertionError("nothing in the container has that name")


def test_no_name_reaches_a_terminal_or_a_metric_as_it_is(runc, make_bundle, host, tally):
    bundle = make_bundle(args=("/bin/sleep", "1000"), gpus="0", config=host.config, annotations=POD)
    with runc.started(bundle) as container:
        pids = [named(container, name) for name in NAMES]
        (host.directory / "usage").write_text("".join(f"gpu 0 process {pid} compute 20 5 2\n" for pid in pids))
        shown = call(runc, host, "top", "--once", "--runtime-root", runc.state_dir)
        seen = json.loads(call(runc, host, "top", "--once", "--json", "--runtime-root", runc.state_dir))
        text = call(runc, host, "metrics", "--runtime-root", runc.state_dir)
        tally.count()
    assert shown.replace("\n", "").isprintable()
    assert all(str(pid) in shown for pid in pids)
    (holder,) = seen["devices"][0]["holders"]
    assert {process["pid"] for process in holder["processes"]} == {*pids}
    assert text.replace("\n", "").isprintable()
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert [sample.value for sample in families["oci_gpu_leases"].samples] == [0, 1]
    (used,) = families["oci_gpu_container_processes"].samples
    assert (used.labels["container"], used.value) == (container.id, len(NAMES))


@pytest.mark.race
def test_watch_heals_nothing_that_the_container_chooses(runc, make_bundle, host, directory, canary, tally, full):
    """While its root exchanges directories that GPUs go into with links to a volume of the host."""
    volume = directory / "volume"
    (volume / "inside").mkdir(parents=True)
    mounts = ({"destination": "/volume", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]},)
    bundle = make_bundle(args=("/bin/sleep", "1000"), gpus="0", config=host.config, mounts=mounts)
    with runc.started(bundle) as container:
        rootfs = bundle.rootfs
        pairs = []
        for name in ("usr/bin", "usr/lib"):
            other = rootfs / f"{name}-other"
            other.symlink_to("/volume/inside")
            pairs.append((rootfs / name, other))
        before = tree(volume)
        with Swapper(pairs) as swapper:
            for _ in range(ROUNDS[full]):
                take_rights(container)
                container.exec("/bin/busybox", "rm", "-f", "/dev/nvidia0")
                said = [json.loads(line) for line in call(runc, host, "watch", "--once").splitlines()]
                assert all(each["container"] == container.id for each in said if "container" in each)
                tally.count()
                assert tree(volume) == before, "a volume of the host was changed"
                assert points(container) >= CONFINING, "the container is no longer confined"
        assert swapper.swaps > 1000
        for one, other in pairs:
            if one.is_symlink():
                one.rename(f"{one}-swapped")
                other.rename(one)
        call(runc, host, "watch", "--once")
        assert container.exec("/probe", "open=/dev/nvidia0").seen()["open=/dev/nvidia0"] == "ENXIO"

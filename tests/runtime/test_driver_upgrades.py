"""A driver that is exchanged between and during starts: a container has the files of one version, or does not start."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make, upgrade
from tests.runtime.simulated import SimulatedHost

pytestmark = pytest.mark.root
OLD, NEW = "580.159.04", "590.48.01"


@pytest.fixture
def host(directory):
    return SimulatedHost(Path(make(str(directory / "host"), gpus=1, driver_version=OLD).directory))


@pytest.fixture
def start(runtime, make_bundle, host):
    """Start a container that tells its libraries and what its nvidia-smi was; return the runtime's result."""
    numbers = iter(range(1000))

    def begin(**options):
        asked = ("list=/usr/lib/x86_64-linux-gnu", "mountinfo", "open=/dev/nvidia0")
        return runtime.run(make_bundle(*asked, gpus="0", config=host.config, name=f"b{next(numbers)}", **options))

    return begin


def versions(seen: dict) -> set[str]:
    """Return the versions in the names of the mounted libraries."""
    targets = [line.split()[4] for line in seen["mountinfo"].splitlines()]
    return {version for version in (OLD, NEW) for path in targets if path.endswith(f".so.{version}")}


def test_a_start_between_the_packages_and_the_reboot_names_both_versions(start, host):
    assert versions(start().seen()) == {OLD}
    upgrade(str(host.directory), NEW, kernel=False)
    complaint = start().complaint()
    assert OLD in complaint
    assert NEW in complaint
    assert "; " in complaint
    upgrade(str(host.directory), NEW)
    assert versions(start().seen()) == {NEW}


def test_a_module_without_its_libraries_names_both_versions(start, host):
    upgrade(str(host.directory), NEW, libraries=False)
    complaint = start().complaint()
    assert OLD in complaint
    assert NEW in complaint


def test_the_start_right_after_an_upgrade_has_the_new_files(start, host):
    for version in (NEW, OLD, NEW):
        upgrade(str(host.directory), version)
        assert versions(start().seen()) == {version}


def test_upgrades_during_starts_never_give_files_of_two_versions(start, host):
    """One thread exchanges the driver all the time, while containers start: some fail, and say why."""
    done = threading.Event()

    def exchange():
        while not done.is_set():
            for version in (NEW, OLD):
                upgrade(str(host.directory), version)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        results = [start() for _ in range(12)]
    finally:
        done.set()
        thread.join()
    for result in results:
        if result.status == 0:
            seen = result.seen()
            assert len(versions(seen)) == 1
            assert seen["open=/dev/nvidia0"] == "ENXIO"
        else:
            assert "Traceback" not in result.stderr
            assert "internal error" not in result.stderr, result.stderr
            result.complaint()


@pytest.mark.parametrize(
    ("moment", "words"),
    [("libnvidia-ml.so", "no longer exists"), ("nvidia-smi", f"NVIDIA driver {OLD}: was replaced while")],
)
def test_an_upgrade_at_the_worst_moment_fails_the_start(host, tmp_path, moment, words):
    """A library of the old version is gone when its turn comes; nvidia-smi is there again, of the other version.

    The moment is made: the hook runs in a child of this process, which exchanges the driver where it clones a file.
    """
    for firmware in host.driver_root.rglob("gsp*.bin"):
        firmware.unlink()  # its path has the version; the programs, which come before it, have none
    script = tmp_path / "start.py"
    script.write_text(_AT_A_MOMENT)
    rootfs = tmp_path / "bundle/rootfs"
    for name in ("etc", "usr/lib/x86_64-linux-gnu", "dev", "lib64", "usr/bin"):
        (rootfs / name).mkdir(parents=True)
    (rootfs / "etc/debian_version").write_text("12\n")
    config = '{"ociVersion": "1.0.2", "process": {"env": ["NVIDIA_VISIBLE_DEVICES=0"]}, "root": {"path": "rootfs"}}'
    (tmp_path / "bundle/config.json").write_text(config)
    done = subprocess.run(
        [sys.executable, script, host.directory, tmp_path / "bundle", NEW, moment],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 1, done
    assert "exchanged" in done.stdout, "the moment came"
    assert "DriverError" in done.stderr.splitlines()[-1], done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert sorted(str(path.relative_to(rootfs)) for path in rootfs.rglob("*") if not path.is_dir()) == [
        "etc/debian_version"
    ]


_AT_A_MOMENT = """
import os, subprocess, sys, time
from oci_gpu_hook.apply.operations import bind
from oci_gpu_hook.base.config import load as config
from oci_gpu_hook.lifecycle import start
from oci_gpu_hook.oci import container
from oci_gpu_hook.request import parse
from oci_gpu_hook.admin.simulate.host import upgrade

host, bundle, version, moment = sys.argv[1:]
process = subprocess.Popen(["unshare", "--mount", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
process.stdin.write(b"\\n"); process.stdin.flush(); process.stdout.readline()
clone = bind.clone

def clone_file(mount):
    if moment in mount.host_path:
        upgrade(host, version)
        print("exchanged", flush=True)
    return clone(mount)

bind.clone = clone_file
try:
    settings = config.load(f"{host}/config.toml")
    state = container.State(id="moment", pid=process.pid, bundle=bundle, root="", annotations={})
    value = container.parse_config(container.read_config(bundle), state)
    start.start(value, parse.parse(value, settings), settings, time.perf_counter())
finally:
    process.stdin.close(); process.wait()
"""

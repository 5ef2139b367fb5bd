"""The commands of the pages that new users follow, run as they are written, where the Debian package is installed.

The machine is a fresh root directory with runc and a simulated host. What needs engines or the network is run in
test_documented_machines.py. Names in capitals stand for what a user puts there.
"""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.package.pages import NOWHERE, ROOT_DIRECTORY, blocks, meant

pytestmark = pytest.mark.root

NOT_RUN = 7  # blocks with a reason; one more has to be thought about
ENDLESS = "oci-gpu top"
# By which `oci-gpu install` knows that there is such an engine, and which one.
PROGRAMS = {
    "usr/bin/dockerd": "Docker version 20.10.24+dfsg1, build 297e128",
    "usr/bin/crio": "crio version 1.28.4",
    "usr/sbin/slurmd": "slurm-wlm 22.05.8",
    "usr/libexec/mesos/mesos-containerizer": "mesos 1.11.0",
}
# A machine without a systemd has warnings; and so has one whose engine does not call the hook yet, as the page says.
STATUSES = {" doctor": (0, 1)}


RUN = [block for block in blocks() if block.machine == ROOT_DIRECTORY]


@pytest.fixture(scope="module")
def machine(fresh, package):
    shutil.copy(package, fresh.root / "tmp/package.deb")
    for kernel in ("sys", "dev"):
        (fresh.root / kernel).mkdir(exist_ok=True)
        subprocess.run(["mount", "--rbind", f"/{kernel}", fresh.root / kernel], check=True)
        subprocess.run(["mount", "--make-rslave", fresh.root / kernel], check=True)
    fresh.run("dpkg", "--install", "/tmp/package.deb")
    fresh.run("oci-gpu", "simulate", "/srv/host", "--gpus", "2")
    text = (fresh.root / "srv/host/config.toml").read_text()
    (fresh.root / "etc/oci-gpu-hook/config.toml").write_text(f'{text}\n[log]\nfile = "/var/log/oci-gpu-hook.log"\n')
    for directory in ("docker", "slurm"):
        (fresh.root / "etc" / directory).mkdir()
    for path, version in PROGRAMS.items():
        program = fresh.root / path
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho '{version}'\n")
        program.chmod(0o755)
    bundle = fresh.root / "srv/bundle"
    (bundle / "rootfs").mkdir(parents=True)
    (bundle / "config.json").write_text(
        '{"process": {"env": ["NVIDIA_VISIBLE_DEVICES=0"]}, "root": {"path": "rootfs"}}'
    )
    return fresh


def test_blocks_that_are_not_run_are_few_and_say_why():
    assert len([block for block in blocks() if block.machine == NOWHERE]) == NOT_RUN
    assert len(RUN) >= 7


@pytest.mark.parametrize("block", RUN, ids=[block.called for block in RUN])
def test_each_command_does_what_it_says(machine, block):
    for command in block.commands:
        written = meant(command)
        patience = "timeout 3 " if written.startswith(ENDLESS) else ""
        done = machine.run("/bin/sh", "-c", patience + written, check=False)
        expected = (124,) if patience else next((status for word, status in STATUSES.items() if word in written), (0,))
        assert done.returncode in expected, f"{command}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr

"""The commands of the pages that need engines or the network, run as they are written on booted machines.

One boot runs all blocks of a machine, in the order of the pages; each test reads what was seen of one command.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.distributions import machines
from tests.matrix.__main__ import copy_checkout
from tests.package.conftest import PACKAGES
from tests.package.pages import ENGINES, NETWORK, Block, blocks, meant
from tests.systemd import machine as booted
from tests.systemd import root as roots

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]

GUEST = Path(__file__).with_name("documented_guest.py")
FRESH = ("systemd", "systemd-sysv", "dbus", "ca-certificates", "python3")  # the last runs the guest
VENV = "/opt/oci-gpu-hook"
REFUSED = "NVIDIA_VISIBLE_DEVICES=9"  # by which the page shows a refusal
DIAGNOSES = ("oci-gpu doctor",)  # with a status that says what it found: the machine of `network` has no driver
TIMEOUT = 1200  # seconds; 150 are needed on two cores


def ways() -> dict[str, list[Block]]:
    """Return the blocks of each boot. What two pages say alike is run once."""
    network = {block.commands: block for block in blocks() if block.machine == NETWORK}.values()
    venv = [block for block in network if any(VENV in command for command in block.commands)]
    removal = [block for block in network if block not in venv and "uninstall --all" in block.commands[0]]
    deb = [block for block in network if block not in venv and block not in removal]
    return {
        "engines": [block for block in blocks() if block.machine == ENGINES],
        "deb": [*deb, *removal],
        "venv": sorted(venv, key=lambda block: "uninstall" in block.commands[0]),
    }


WAYS = ways()


@pytest.fixture(scope="module", params=WAYS)
def seen(request, tmp_path_factory):
    """What each command of a boot gave: (page, command) → exit status, words."""
    if reason := booted.missing() or roots.missing():
        pytest.skip(reason)
    way = request.param
    release = machines.chosen()[0]
    packages = (*machines.packages(release), *PACKAGES, "jq") if way == "engines" else FRESH
    machine = booted.Machine(roots.build(tuple(dict.fromkeys(packages)), release))
    try:
        settings = {
            "machine": "engines" if way == "engines" else "network",
            "blocks": [
                {"page": block.page, "commands": [meant(command) for command in block.commands]} for block in WAYS[way]
            ],
        }
        config = tmp_path_factory.mktemp("config") / "config.toml"
        config.touch()
        if way == "engines":
            config = Path(make(str(machine.work / "host"), gpus=machines.GPUS).config)
            package = subprocess.run(
                ["package/deb.sh", machine.work],
                check=True,
                capture_output=True,
                text=True,
                cwd=booted.REPOSITORY,
            )
            settings |= {"image": str(machine.image()), "deb": package.stdout.strip()}
        else:
            copy_checkout(machine.work / "checkout")
            settings["checkout"] = str(machine.work / "checkout")
            _trust(machine.work)
        machine.stage(GUEST, settings, str(config))
        report = machine.boot(TIMEOUT, network=way != "engines")
    finally:
        machine.close()
    return way, report


def test_each_command_does_what_it_says(seen):
    way, report = seen
    wrong = [
        f"{each['page']}: {each['command']}: exit status {each['status']}\n{each['said']}"
        for each in report["seen"]
        if not _is_expected(each["command"], each["status"]) or "Traceback" in each["said"]
    ]
    assert not wrong, "\n".join([*wrong, report["failure"]])
    assert not report["failure"]
    assert len(report["seen"]) == sum(len(block.commands) for block in WAYS[way])


def _is_expected(command: str, status: int) -> bool:
    if command in DIAGNOSES:
        return status in (0, 1, 2)
    return (status != 0) is (REFUSED in command)


def _trust(work: Path) -> None:
    """Have the guest's apt and pip go the way of this machine's: the authorities that it trusts, apt's settings."""
    trusted = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt"
    (work / "ca-certificates.crt").write_bytes(Path(trusted).read_bytes())
    said = subprocess.run(["apt-config", "dump", "Acquire"], check=True, capture_output=True, text=True).stdout
    kept = [line for line in said.splitlines() if line.startswith(("Acquire::http", "Acquire::Check"))]
    (work / "apt.conf").write_text("".join(f"{line}\n" for line in kept))

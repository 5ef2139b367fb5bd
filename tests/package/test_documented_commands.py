"""The commands of the pages that new users follow, run as they are written, where the Debian package is installed.

The machine is a fresh root directory with runc and a simulated host. A block that cannot be run there has a comment
before it, `<!-- not run: REASON -->`. Names in capitals stand for what a user puts there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import NamedTuple

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.root

PAGES = (
    "README.md",
    "docs/getting-started.md",
    "docs/upgrade-and-remove.md",
    "docs/engines.md",
    "docs/troubleshooting.md",
)
NOT_RUN = 21  # blocks with a reason; one more has to be thought about
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
MEANT = {"BUNDLE": "/srv/bundle", "COMMAND": "leases"}
ENDLESS = "oci-gpu top"
# A machine without a systemd has warnings; and so has one whose engine does not call the hook yet, as the page says.
STATUSES = {" doctor": (0, 1)}


class Block(NamedTuple):
    page: str
    reason: str
    commands: tuple[str, ...]


def blocks() -> list[Block]:
    """Return the blocks of shell commands of all pages."""
    found = []
    for page in PAGES:
        for match in FENCE.finditer((ROOT / page).read_text()):
            if match["language"] in ("", "sh"):
                lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in match["text"].splitlines()]
                found.append(Block(page, match["reason"] or "", tuple(filter(None, lines))))
    return found


RUN = [block for block in blocks() if not block.reason]


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
    (fresh.root / "etc/docker").mkdir()
    dockerd = (
        fresh.root / "usr/bin/dockerd"
    )  # by which `oci-gpu install docker` knows that there is a Docker, and which
    dockerd.write_text("#!/bin/sh\necho 'Docker version 20.10.24+dfsg1, build 297e128'\n")
    dockerd.chmod(0o755)
    bundle = fresh.root / "srv/bundle"
    (bundle / "rootfs").mkdir(parents=True)
    (bundle / "config.json").write_text(
        '{"process": {"env": ["NVIDIA_VISIBLE_DEVICES=0"]}, "root": {"path": "rootfs"}}'
    )
    return fresh


def test_blocks_that_are_not_run_are_few_and_say_why():
    assert len([block for block in blocks() if block.reason]) == NOT_RUN
    assert len(RUN) >= 7


@pytest.mark.parametrize("block", RUN, ids=[f"{block.page}:{block.commands[0][:40]}" for block in RUN])
def test_each_command_does_what_it_says(machine, block):
    for command in block.commands:
        written = re.sub(r"\b[A-Z]{4,}\b", lambda name: MEANT.get(name[0], name[0]), command)
        patience = "timeout 3 " if written.startswith(ENDLESS) else ""
        done = machine.run("/bin/sh", "-c", patience + written, check=False)
        expected = (124,) if patience else next((status for word, status in STATUSES.items() if word in written), (0,))
        assert done.returncode in expected, f"{command}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr

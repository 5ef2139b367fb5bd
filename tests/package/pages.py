"""The blocks of shell commands of the pages, each with the machine that it is run on.

A comment before a block says what its machine has beside the Debian package, a simulated host and runc:

<!-- run with: engines -->   Docker, Podman and containerd, on a machine that systemd has booted (documented_guest.py)
<!-- run with: network -->   nothing of the kind, not even the package: a fresh Debian, a checkout, apt and pip
<!-- not run: REASON -->     it is not run

A block in another language than sh, such as text or console, has no commands.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.paths import ROOT

# The pages that install engines come before those that start containers by them.
_FIRST = (
    *("README.md", "docs/getting-started.md", "docs/quick-start.md", "docs/upgrade-and-remove.md", "docs/engines.md"),
    *("docs/troubleshooting.md", "docs/attach.md"),
)
_ALL = ("CONTRIBUTING.md", "SECURITY.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")))
PAGES = tuple(dict.fromkeys((*_FIRST, *_ALL)))
ROOT_DIRECTORY, ENGINES, NETWORK, NOWHERE = "root directory", "engines", "network", ""
_FENCE = re.compile(
    r"^(?:<!-- (?:not run: (?P<reason>[^\n]+)|run with: (?P<machine>\w+)) -->\n)?"
    r"```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """machine: one of the four above. reason: why it is not run, "" if it is."""

    page: str
    machine: str
    reason: str
    commands: tuple[str, ...]

    @property
    def called(self) -> str:
        return f"{self.page}:{self.commands[0][:40]}"


def blocks() -> list[Block]:
    """Return the blocks of all pages, in their order."""
    found = []
    for page in PAGES:
        for match in _FENCE.finditer((ROOT / page).read_text()):
            if match["language"] in ("", "sh"):
                lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in match["text"].splitlines()]
                machine = NOWHERE if match["reason"] else match["machine"] or ROOT_DIRECTORY
                found.append(Block(page, machine, match["reason"] or "", tuple(filter(None, lines))))
    return found


_MEANT = {
    "IMAGE COMMAND": "localhost/image:latest /bin/sleep 1000",
    "help COMMAND": "help leases",
    "IMAGE": "localhost/image:latest",
    "BUNDLE": "/srv/bundle",
    "CONTAINER": "web",
}


def meant(command: str) -> str:
    """Return a command with what a user would write for the names in capitals."""
    for name, value in _MEANT.items():
        command = re.sub(rf"(?<![\w$-]){name}\b", value, command)
    return command

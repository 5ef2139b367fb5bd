"""Every measured figure of the pages names the machine and the command that gave it, or the page that does."""

from __future__ import annotations

import re

import pytest

from tests.paths import ROOT

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
# A time that a processor has spent; limits, timeouts and examples have none.
MEASURED = re.compile(
    r"\d (ms|µs|s|seconds)( of)? (CPU|wall)|CPU ms|\d . (the|that of the) bare|bare interpreter takes \d"
)
MACHINE = re.compile(r"\bcores\b|\bH[12]00\b|\]\((\.\./)?(performance|gpu-evidence)\.md")
COMMAND = re.compile(
    r"\b(bench|benchmarks|tests)/|make bench|\.py\b|`python3? |/usr/bin/time|\]\((\.\./)?(performance|gpu-evidence)\.md"
)


def sections():
    """Yield the sections of each page with measured times, by name; a decision, a page at most, is one."""
    for page in PAGES:
        text = page.read_text()
        for section in [text] if page.parent.name == "decisions" else re.split(r"(?m)^## ", text):
            if MEASURED.search(section):
                yield pytest.param(section, id=f"{page.relative_to(ROOT)}: {section.partition(chr(10))[0]}")


@pytest.mark.parametrize("section", [*sections()])
def test_a_section_with_measured_times_names_machine_and_command(section):
    assert MACHINE.search(section), "on which machine?"
    assert COMMAND.search(section), "by which command?"

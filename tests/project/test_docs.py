"""The documentation is of this code: error messages exist, keys and defaults agree, links lead somewhere."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib

import pytest

from oci_gpu_hook.admin.cli import outline
from oci_gpu_hook.admin.cli.commands import COMMANDS
from oci_gpu_hook.admin.cli.examples import EXAMPLES
from oci_gpu_hook.base.config import toml
from oci_gpu_hook.base.config.model import Config
from tests.paths import ROOT
from tests.systemd import root as roots

DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
HEADINGS = re.findall(r"^### `(.+)`$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)


def texts_of_the_code():
    """Yield every string of the package with its computed parts as `…`."""
    for path in (ROOT / "oci_gpu_hook").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


CODE = list(texts_of_the_code())


@pytest.mark.parametrize("heading", HEADINGS)
def test_every_error_of_troubleshooting_is_one_of_the_code(heading):
    """Each part between `…` and `: ` is in one string of the code; of a longer error these are WHAT and WHY."""
    for part in re.split(r" ?… ?|: ", heading):
        assert not part.strip() or any(part in text for text in CODE), part


def test_troubleshooting_has_what_there_is_to_fear():
    assert len(HEADINGS) > 30


def test_every_key_is_documented_with_its_default():
    text = (ROOT / "docs/configuration.md").read_text()
    for section, keys in toml._SECTIONS.items():
        part = text.partition(f"\n## [{section}]\n")[2].partition("\n## ")[0]
        assert re.findall(r"^### (.+)$", part, re.MULTILINE) == list(keys)
        for key in keys:
            (default,) = re.findall(rf"^### {key}\n\nDefault: `(.+?)`\.", part, re.MULTILINE)
            section_text = f"[{section}]\n{key} = {default}\n"
            assert toml.parse(section_text) == Config(), key


def test_the_configuration_shown_is_the_defaults():
    blocks = re.findall(r"```toml\n(.+?)```", (ROOT / "docs/configuration.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        tomllib.loads(block)
        assert toml.parse(block) == Config()


def links_in(path):
    """Return the files that a document links to."""
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    return [target for target in targets if "://" not in target]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    missing = [target for target in links_in(path) if not (path.parent / target).exists()]
    assert missing == []


def test_there_are_links():
    assert sum(len(links_in(path)) for path in DOCS) > 30


def code_in(text):
    """Return the code of a document, blocks and spans, a line each; in prose `oci-gpu` may be a name alone."""
    blocks = re.findall(r"^ *```[^\n]*\n(.+?)^ *```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ *```[^\n]*\n.+?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *(span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", prose))])


COMMAND = re.compile(
    r"(?:^|[$# ])(?<!--runtime )oci-gpu(?: --config \S+| --debug)* ([a-z][a-z-]*)([^\n#&|;]*)", re.MULTILINE
)


def commands_in(text):
    """Return (command, the rest of its line) for each `oci-gpu COMMAND` that is shown."""
    return COMMAND.findall(code_in(text))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_commands_shown_exist(path):
    """Whatever is written as `oci-gpu COMMAND` is a command, and its long options are ones of it."""
    commands = {command.name: command for command in outline.read().below}
    for name, rest in commands_in(path.read_text()):
        assert name in commands, f"oci-gpu {name}{rest}"
        known = {flag for each in (commands[name], *commands[name].below) for o in each.options for flag in o.flags}
        assert {*re.findall(r"(?<=\s)--[a-z-]+", rest)} <= known, (name, rest)


def test_every_command_is_shown_somewhere():
    assert {name for path in DOCS for name, _ in commands_in(path.read_text())} == {*COMMANDS}


def test_readme_names_the_distributions_that_make_matrix_runs():
    """Debian unstable is run, too, and is nothing to install on."""
    named = {"bookworm": "Debian 12", "trixie": "Debian 13", "noble": "Ubuntu 24.04"}
    assert {*named, "sid"} == {*roots.RELEASES}
    for page in ("README.md", "docs/getting-started.md"):
        assert all(name in (ROOT / page).read_text() for name in named.values()), page


def test_examples_are_of_existing_commands():
    assert {*EXAMPLES} == {"", *COMMANDS}


DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))


def test_decisions_are_numbered_and_listed():
    assert [path.name[:4] for path in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
    listed = re.findall(
        r"^\| \[(\d{4})\]\((.+?)\) \| (.+) \|$", (ROOT / "docs/decisions/README.md").read_text(), re.MULTILINE
    )
    assert listed == [
        (path.name[:4], path.name, path.read_text().partition("\n")[0].partition(": ")[2]) for path in DECISIONS
    ]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name[:4])
def test_a_decision_is_a_page_with_three_parts(path):
    text = path.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) < 50


@pytest.mark.skipif(shutil.which("make") is None, reason="not installed: make")
def test_make_alone_says_what_there_is():
    """Every target, once, in a line of its own; the line is the comment above it."""
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    listed = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed
    targets = listed[1].split()
    assert re.findall(r"^  make (\S+) +\S+ .+$", shown, re.MULTILINE) == targets


def test_hosted_ci_runs_what_anybody_can_run():
    commands = {
        path.name: re.findall(r"^ +- run: (?:sudo )?(.+)$", path.read_text(), re.MULTILINE)
        for path in (ROOT / ".github/workflows").glob("*.yml")
    }
    assert commands["ci.yml"].count(".ci/run") == 2
    assert "make release" in commands["release.yml"]

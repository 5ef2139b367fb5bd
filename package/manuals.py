"""Makes the man pages: `python package/manuals.py DIRECTORY`.

Their sources are the command line's own parser, the Markdown files in man/, and docs/configuration.md. Of Markdown,
what these use: headings, paragraphs, code blocks, lists, tables, `code`, **bold**, links.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from oci_gpu_hook import __version__
from oci_gpu_hook.admin.cli import outline
from oci_gpu_hook.admin.cli.examples import EXAMPLES

HERE = Path(__file__).parent
CONFIGURATION = HERE.parent / "docs/configuration.md"
SECTIONS = {"1": "User Commands", "5": "File Formats", "8": "System Administration"}
CONFIGURATION_NAME = """\
## NAME

oci-gpu-config.toml - configuration of oci-gpu-hook

## DESCRIPTION

"""


def main() -> None:
    """Write every page."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text)


def pages() -> dict[str, str]:
    """Return the pages by file name."""
    top = outline.read()
    own = (HERE / "man/oci-gpu.1.md").read_text()
    command = page("oci-gpu", "1", own).replace("@OPTIONS@\n", options(top)).replace("@COMMANDS@\n", commands(top))
    configuration = CONFIGURATION_NAME + CONFIGURATION.read_text().partition("\n\n")[2]
    made = {
        "oci-gpu.1": command,
        "oci-gpu-hook.8": page("oci-gpu-hook", "8", (HERE / "man/oci-gpu-hook.8.md").read_text()),
        "oci-gpu-config.toml.5": page("oci-gpu-config.toml", "5", configuration),
    }
    return {name: re.sub(r"^(\.S[HS] .+\n)\.PP\n", r"\1", text, flags=re.MULTILINE) for name, text in made.items()}


def page(name: str, section: str, markdown: str) -> str:
    """Return a page made of Markdown."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))  # reproducible-builds.org
    date = time.strftime("%Y-%m-%d", time.gmtime(seconds))
    title = f'.TH "{name.upper()}" "{section}" "{date}" "oci-gpu-hook {__version__}" "{SECTIONS[section]}"\n'
    return title + "".join(blocks(markdown))


def blocks(markdown: str) -> list[str]:
    """Return the blocks of a Markdown text, each in the man macros."""
    return [block(part) for part in split(markdown)]


def split(markdown: str) -> list[str]:
    """Return the paragraphs, headings, tables and code blocks; blank lines in code do not end it."""
    found: list[str] = []
    inside = False
    lines: list[str] = []
    for line in [*markdown.splitlines(), ""]:
        fence = line.startswith("```")
        if inside or (line.strip() and not fence):
            lines.append(line)
        elif lines:
            found.append("\n".join(lines))
            lines = []
        if fence:
            lines = lines if inside else [line]
            inside = not inside
    return found


def block(text: str) -> str:
    """Return one block in the man macros."""
    lines = text.splitlines()
    if text.startswith("```"):
        return ".PP\n.EX\n" + "".join(f"{verbatim(line)}\n" for line in lines[1:-1]) + ".EE\n"
    if text.startswith("##"):
        level, _, title = text.partition(" ")
        return f".{'SH' if level == '##' else 'SS'} {inline(title)}\n"
    if text.startswith("|"):
        rows = [line.strip("| ").split(" | ") for line in lines if not re.fullmatch(r"[|\- ]+", line)]
        return "".join(f".TP\n.B {inline(row[0])}\n{inline(', '.join(row[1:]))}\n" for row in rows)
    if text.startswith("- "):
        items = re.split(r"^- ", text, flags=re.MULTILINE)[1:]
        return "".join(f".IP \\(bu 2\n{inline(' '.join(item.split()))}\n" for item in items)
    if text.startswith("@"):
        return f"{text}\n"
    return f".PP\n{inline(' '.join(lines))}\n"


def inline(text: str) -> str:
    """Return running text with its fonts."""
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    parts = re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", text)
    made = []
    for part in parts:
        if part.startswith("`"):
            made.append(rf"\fB{escaped(part[1:-1])}\fR")
        elif part.startswith("**"):
            made.append(rf"\fB{escaped(part[2:-2])}\fR")
        else:
            made.append(escaped(part))
    return shielded("".join(made))


def verbatim(line: str) -> str:
    """Return a line of code."""
    return shielded(escaped(line))


def escaped(text: str) -> str:
    """Return text that is not a request, with hyphens that can be copied."""
    for character, name in (("\\", r"\e"), ("-", r"\-"), ("…", "..."), ("~", r"\(ti"), ("^", r"\(ha"), ("'", r"\(aq")):
        text = text.replace(character, name)
    return text


def shielded(line: str) -> str:
    """Return a line whose first character starts no request."""
    return rf"\&{line}" if line.startswith((".", "'")) else line


def options(command: outline.Command) -> str:
    """Return a command's arguments as a list."""
    made = []
    for argument in command.arguments:
        value = rf" \fI{escaped(argument.value)}\fR" if argument.value else ""
        flags = ", ".join(rf"\fB{escaped(flag)}\fR" for flag in argument.flags)
        made.append(f".TP\n{flags}{value if flags else value.strip()}\n{inline(argument.meaning or 'see above')}\n")
    return "".join(made)


def commands(top: outline.Command) -> str:
    """Return every command with its usage, description, arguments and examples."""
    made = []
    for command in top.below:
        made.append(f".SS {escaped(command.name)}\n.PP\n\\fB{escaped(command.usage)}\\fR\n")
        made += [f".PP\n{inline(' '.join(part.split()))}\n" for part in command.description.split("\n\n")]
        made.append(options(command))
        for below in command.below:
            made.append(f".PP\n\\fB{escaped(below.usage)}\\fR\n.PP\n{inline(below.description)}\n{options(below)}")
        made.append(".PP\nExamples:\n.PP\n.EX\n")
        made += [f"{verbatim(line)}\n    # {escaped(meaning)}\n" for line, meaning in EXAMPLES[command.name]]
        made.append(".EE\n")
    return "".join(made)


if __name__ == "__main__":
    main()

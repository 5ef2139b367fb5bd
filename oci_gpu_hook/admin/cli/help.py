"""Show the help of a command, or what is known of an error by its code, or list the commands."""

from __future__ import annotations

import os
import re  # noqa: TID253

from oci_gpu_hook.base.errors import HookError, InvalidInput, quoted, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Final

_HERE: Final = os.path.dirname(os.path.abspath(__file__))
_PAGES: Final = (f"{_HERE}/errors.md", f"{_HERE}/../../../docs/errors.md")  # as installed; in a checkout


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("words", metavar="COMMAND|CODE", nargs="*", help="such as: leases release, OGH1303")


def run(options: Namespace) -> int:
    """Show it."""
    if len(options.words) == 1 and re.fullmatch(r"OGH\d{4}", options.words[0], re.IGNORECASE):
        print(_entry(options.words[0].upper()))
        return 0
    from oci_gpu_hook.admin.cli.main import main

    return main([*options.words, "--help"])


def _entry(code: str) -> str:
    """Return what docs/errors.md has about a code, as plain text. Raises HookError."""
    page = next((path for path in _PAGES if os.path.exists(path)), _PAGES[0])
    try:
        with open(page, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise HookError(quoted(page), reason(error), "reinstall oci-gpu-hook", "OGH1904") from None
    found = re.search(rf"^### ({code}: .+?)\s*(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise InvalidInput(f"error {code}", "is not one of this version", "see docs/errors.md for all", "OGH1902")
    plain = re.sub(r"\[([^\]]+)\]\(([^)]+)\)", r"\1 (docs/\2)", found[1])
    return plain.replace("**", "").replace("`", "")

"""Makes the site of the documentation: `python package/website.py [DIRECTORY]`, by default into build/site.

The pages are those of the repository, at the same places, so that links between them hold there and here. What they
link to beside pages, such as schemas and manifests, comes along. A link that leads nowhere is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build/docs"
SITE = ROOT / "build/site"
STYLE = ROOT / "package/website.css"
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def main() -> None:
    """Build the site; its exit status is that of mkdocs."""
    site = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else SITE
    gather(SOURCE)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    raise SystemExit(subprocess.run(command, cwd=ROOT, check=False, env=environment()).returncode)


def environment() -> dict[str, str]:
    """Return the environment of mkdocs: it uses colours, and a notice of its theme, unless told otherwise."""
    return {**os.environ, "NO_MKDOCS_2_WARNING": "true", "TERM": "dumb"}


def gather(directory: Path) -> None:
    """Put all pages, and what they link to, into a directory."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    shutil.copy(STYLE, directory)
    pages = [*(ROOT / name for name in PAGES), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        text = page.read_text()
        place = directory / page.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(_LINK.sub(_to_index(page), text))
        for target, _ in _LINK.findall(text):
            _bring(page.parent / target, directory)


def _bring(path: Path, directory: Path) -> None:
    """Copy a file that is linked to, unless it is a page."""
    path = Path(os.path.normpath(path))
    if path.is_file() and path.suffix != ".md" and path.is_relative_to(ROOT):
        place = directory / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


def _to_index(page: Path) -> Callable[[re.Match[str]], str]:
    """Return what has a link to a directory lead to its README.md, as it does in a repository's own view."""

    def changed(link: re.Match[str]) -> str:
        target = link[1]
        if "://" not in target and (page.parent / target / "README.md").is_file():
            return f"]({target.rstrip('/')}/README.md{link[2] or ''})"
        return link[0]

    return changed


if __name__ == "__main__":
    main()

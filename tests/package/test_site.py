"""The site of the documentation: links lead somewhere, and pages look right in a browser, on a phone and on a desk."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGES = (
    *("index", "docs/quick-start", "docs/engines", "docs/requests", "docs/errors", "docs/architecture"),
    *("docs/performance", "docs/configuration", "docs/security"),
)
WIDTHS = {"phone": 390, "desktop": 1280}
# Shows a page in a frame, and says how wide it came out, which of its images have nothing to show, and which names of
# variables in its tables are broken into several lines.
FRAME = """<!DOCTYPE html><body><iframe id="page" src="@PAGE@" width="@WIDTH@" height="900"></iframe>
<pre id="seen"></pre>
<script>
const frame = document.getElementById("page");
frame.onload = () => setTimeout(() => {
  const page = frame.contentDocument;
  document.getElementById("seen").textContent = JSON.stringify({
    width: page.documentElement.scrollWidth,
    title: page.querySelector("h1").textContent,
    missing: [...page.images].filter(image => !image.naturalWidth).map(image => image.src),
    images: page.images.length,
    broken: [...page.querySelectorAll("td code")].filter(name => /^[A-Z_]+$/.test(name.textContent) &&
      name.getClientRects().length > 1).map(name => name.textContent),
    fetched: frame.contentWindow.performance.getEntriesByType("resource").map(each => each.name),
  });
}, 300);
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, ROOT / "package/website.py", directory]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_every_page_is_in_it(site):
    pages = [*(ROOT / "docs").rglob("*.md")]
    names = {path.relative_to(ROOT).with_suffix(".html") for path in pages if path.name != "README.md"}
    assert names <= {path.relative_to(site) for path in site.rglob("*.html")}
    assert (site / "docs/cost.svg").is_file()


def test_nothing_is_fetched_from_elsewhere(site):
    """So that it can be read on hosts that reach nothing else."""
    for path in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(https?://[^"]+)"', path.read_text())
        assert [each for each in loaded if "canonical" not in each] == [], path


def test_a_link_that_leads_nowhere_is_an_error(tmp_path):
    """In a copy, by the same program."""
    for name in ("docs", "package", "schemas", "tests/gpu"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / "docs/quick-start.md").open("a") as page:
        page.write("\nSee [this](errors.md#nowhere).\n")
    command = [sys.executable, tmp_path / "package/website.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "nowhere" in done.stdout + done.stderr


@pytest.mark.skipif(BROWSER is None, reason="not installed: chromium")
@pytest.mark.parametrize("device", WIDTHS)
def test_pages_in_a_browser(site, tmp_path, device):
    """No page is wider than its screen, each image shows; the screenshots are kept beside the test's output."""
    for page in PAGES:
        frame = tmp_path / "frame.html"
        url = (site / f"{page}.html").as_uri()
        frame.write_text(FRAME.replace("@PAGE@", url).replace("@WIDTH@", str(WIDTHS[device])))
        dom = browse(frame.as_uri(), "--virtual-time-budget=5000", "--dump-dom")
        found = re.search(r'<pre id="seen">(.+?)</pre>', dom)
        assert found, dom[-400:]
        seen = json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&").replace("&gt;", ">"))
        assert seen["width"] <= WIDTHS[device], (page, seen)
        assert seen["missing"] == [], page
        assert seen["broken"] == [], page
        assert all(each.startswith("file:") for each in seen["fetched"]), page
        shot = tmp_path / f"{page.replace('/', '-')}-{device}.png"
        browse(url, f"--window-size={WIDTHS[device]},900", f"--screenshot={shot}")
        assert shot.read_bytes()[:4] == b"\x89PNG"
        assert shot.stat().st_size > 10_000, "an empty page is smaller"


def browse(url, *options):
    assert BROWSER
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options]
    command += ["--allow-file-access-from-files", url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

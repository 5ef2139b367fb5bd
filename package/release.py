"""Builds a release and checks it: `python package/release.py DIRECTORY`. It sends nothing anywhere (docs/releasing.md).

Wheel, source archive and Debian package are made of the last commit and of nothing else. Exit status 1, and a line with
the reason, if one of them is not what it should be.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from packaging.metadata import Metadata

ROOT = Path(__file__).parents[1]
NAME = "oci-gpu-hook"
UNRELEASED = "Unreleased"
_HEADING = re.compile(r"## \[?(?P<version>\d+\.\d+\.\d+)\]? - (?P<date>\d{4}-\d{2}-\d{2})")


class Fault(Exception):
    """Why this is not a release."""


def main() -> int:
    """Build, check, say what was made."""
    output = Path(sys.argv[1]).absolute()
    try:
        version = read_version()
        check_tree(ROOT)
        check_changelog((ROOT / "CHANGELOG.md").read_text(), version, tags(ROOT))
        with tempfile.TemporaryDirectory(prefix="oci-gpu-hook-release-") as work:
            made = build(Path(work), version)
            lay(made, output)
    except Fault as fault:
        print(f"release: {fault}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"release: {error}\n{error.stdout or ''}{error.stderr or ''}", file=sys.stderr)
        return 1
    print((output / "SHA256SUMS").read_text(), end="")
    print(f"{NAME} {version}: checked; nothing was sent anywhere")
    return 0


def read_version() -> str:
    """Return the version of the package."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "oci_gpu_hook/__init__.py").read_text(), re.MULTILINE)
    if not found:
        raise Fault("oci_gpu_hook/__init__.py has no __version__")
    return found[1]


def check_tree(root: Path) -> None:
    """Refuse what is changed or new beside the last commit: that is what is released."""
    changed = run("git", "status", "--porcelain", cwd=root)
    if changed:
        raise Fault(f"the tree is not clean; commit or stash first:\n{changed.rstrip()}")


def tags(root: Path) -> list[str]:
    """Return the version tags of the last commit."""
    return run("git", "tag", "--points-at", "HEAD", "--list", "v*", cwd=root).split()


def check_changelog(text: str, version: str, tagged: list[str]) -> None:
    """Hold the changelog's newest version to the package's; of a tagged commit it has nothing newer."""
    headings = re.findall(r"^## .+$", text, re.MULTILINE)
    if not headings or headings[0] != f"## {UNRELEASED}":
        raise Fault(f"CHANGELOG.md does not begin with '## {UNRELEASED}'")
    newest = _HEADING.fullmatch(headings[1]) if len(headings) > 1 else None
    if not newest:
        raise Fault(f"CHANGELOG.md has no '## VERSION - YYYY-MM-DD' below '## {UNRELEASED}'")
    if newest["version"] != version:
        raise Fault(f"CHANGELOG.md is at {newest['version']}, oci_gpu_hook.__version__ at {version}")
    pending = text.partition(headings[0])[2].partition(headings[1])[0].strip()
    if tagged and tagged != [f"v{version}"]:
        raise Fault(f"the commit is tagged {' '.join(tagged)}, and the version is {version}")
    if tagged and pending:
        raise Fault(f"CHANGELOG.md has entries under '{UNRELEASED}', and the commit is tagged {tagged[0]}")
    if pending:
        print(f"release: note: CHANGELOG.md has entries under '{UNRELEASED}': this is {version} with changes since")


def build(work: Path, version: str) -> list[Path]:
    """Build everything of the last commit and check each; return the files."""
    source, built = work / "source", work / "built"
    source.mkdir()
    archive = work / "source.tar"
    run("git", "archive", f"--output={archive}", "HEAD")
    run("tar", "-xf", str(archive), "-C", str(source))
    os.environ["SOURCE_DATE_EPOCH"] = run("git", "log", "-1", "--format=%ct").strip()
    run(sys.executable, "-m", "build", "--outdir", str(built), str(source))  # the wheel is built of the source archive
    (sdist,) = built.glob("*.tar.gz")
    (wheel,) = built.glob("*.whl")
    settle(sdist, int(os.environ["SOURCE_DATE_EPOCH"]))
    check_metadata(sdist_metadata(sdist), version)
    check_metadata(wheel_metadata(wheel), version)
    check_wheel(wheel, work / "venv", version)
    package = Path(run(str(ROOT / "package/deb.sh"), str(built)).split()[-1])
    check_deb(package, version)
    return [sdist, wheel, package]


def settle(sdist: Path, seconds: int) -> None:
    """Give a source archive the time of the commit and no user, so that it is the same wherever it is built."""
    packed = io.BytesIO()
    with tarfile.open(sdist) as before, tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as after:
        for member in sorted(before, key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = seconds, 0, 0, "", ""
            member.pax_headers = {}
            after.addfile(member, before.extractfile(member) if member.isfile() else None)
    sdist.write_bytes(gzip.compress(packed.getvalue(), mtime=seconds))


def sdist_metadata(path: Path) -> bytes:
    """Return the metadata of a source archive."""
    with tarfile.open(path) as archive:
        file = archive.extractfile(f"{path.name.removesuffix('.tar.gz')}/PKG-INFO")
        if file is None:
            raise Fault(f"{path.name} has no PKG-INFO")
        return file.read()


def wheel_metadata(path: Path) -> bytes:
    """Return the metadata of a wheel."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name)


def check_metadata(data: bytes, version: str) -> None:
    """Hold metadata to the specification, and to what is said elsewhere."""
    try:
        metadata = Metadata.from_email(data, validate=True)
    except ExceptionGroup as group:
        raise Fault("metadata: " + "; ".join(str(error) for error in group.exceptions)) from None
    if (metadata.name, str(metadata.version)) != (NAME, version):
        raise Fault(f"metadata: is of {metadata.name} {metadata.version}")
    if not metadata.description or metadata.description_content_type != "text/markdown":
        raise Fault("metadata: has no description in Markdown")
    for classifier in metadata.classifiers or ():
        python = classifier.removeprefix("Programming Language :: Python :: ")
        if re.fullmatch(r"3\.\d+", python) and metadata.requires_python and python not in metadata.requires_python:
            raise Fault(f"metadata: claims Python {python}, and requires {metadata.requires_python}")


def check_wheel(wheel: Path, venv: Path, version: str) -> None:
    """Install the wheel where nothing else is, and ask what it installed."""
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("oci_gpu_hook/py.typed", "oci_gpu_hook/admin/install/front.elf"):
        if name not in names:
            raise Fault(f"{wheel.name} has no {name}")
    run(sys.executable, "-m", "venv", str(venv))
    run(str(venv / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", str(wheel))
    said = run(str(venv / "bin/oci-gpu"), "--version", cwd=Path("/")).strip()
    if said != f"oci-gpu {version}":
        raise Fault(f"what {wheel.name} installs says {said!r}")


def check_deb(package: Path, version: str) -> None:
    """Hold the Debian package to the version, its man pages too; lintian looks at it where it is installed."""
    said = run("dpkg-deb", "--field", str(package), "Version").strip()
    if said != version:
        raise Fault(f"{package.name} has version {said}")
    with tempfile.TemporaryDirectory() as laid:
        run("dpkg-deb", "--extract", str(package), laid)
        pages = sorted(Path(laid, "usr/share/man").rglob("*.gz"))
        if not pages:
            raise Fault(f"{package.name} has no man pages")
        for page in pages:
            title = run("zcat", str(page)).partition("\n")[0]
            if f'"{NAME} {version}"' not in title:
                raise Fault(f"{page.name} in {package.name} is not of {version}: {title}")
    if shutil.which("lintian"):
        run("lintian", "--fail-on=error", str(package))
    else:
        print("release: note: lintian is not installed, and did not look at the Debian package")


def lay(files: list[Path], output: Path) -> None:
    """Put the files, and their sums, into the directory; what an earlier release has left there goes."""
    output.mkdir(parents=True, exist_ok=True)
    for old in (*output.glob("oci[-_]gpu[-_]hook[-_]*"), output / "SHA256SUMS"):
        old.unlink(missing_ok=True)
    lines = []
    for file in files:
        shutil.copy(file, output / file.name)
        lines.append(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
    (output / "SHA256SUMS").write_text("".join(lines))


def run(*command: str, cwd: Path = ROOT) -> str:
    """Run a command; return what it says."""
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd).stdout


if __name__ == "__main__":
    sys.exit(main())

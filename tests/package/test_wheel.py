"""The wheel and the source archive: what is in them, and that what is installed from them starts."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what is under version control, so that nothing built before gets in."""
    copy = tmp_path_factory.mktemp("source")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.decode()
    if not listed:
        pytest.skip("no checkout")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    directory = tmp_path_factory.mktemp("sdist")
    program = f"from setuptools.build_meta import build_sdist; build_sdist({str(directory)!r})"
    isolated = directory / "setuptools"
    pip("install", "--target", isolated, "setuptools>=77")
    environment = {**os.environ, "PYTHONPATH": str(isolated)}
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, env=environment, cwd=source)
    return next(directory.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    directory = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--wheel-dir", directory, sdist)
    return next(directory.glob("*.whl"))


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def test_the_source_archive_has_all_that_is_built_from(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "front/build.sh",
        "front/start.c",
        "package/deb.sh",
        "docs/configuration.md",
        "schemas/plan.schema.json",
    } <= names
    assert not [name for name in names if name.startswith("tests/")]


def test_the_wheel_has_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    lists = ("admin/install/deferred.txt", "admin/install/deferred-commands.txt")
    data = (*lists, "admin/simulate/nvml.c", "py.typed")
    assert {f"oci_gpu_hook/{name}" for name in data} <= {*names}
    stem = wheel.name.rpartition("-py3")[0]
    assert {name.partition("/")[0] for name in names} == {"oci_gpu_hook", f"{stem}.dist-info", f"{stem}.data"}
    if shutil.which("cc"):
        assert "oci_gpu_hook/admin/install/front.elf" in names
        assert wheel.name.endswith(f"linux_{os.uname().machine}.whl")


def test_the_wheel_brings_what_people_read(wheel):
    """pip installs it below PREFIX/share, where man, shells and people look; `oci-gpu help CODE` has its page."""
    files = zipfile.ZipFile(wheel)
    data = f"{wheel.name.rpartition('-py3')[0]}.data/data/share"
    names = {name.removeprefix(f"{data}/") for name in files.namelist() if name.startswith(data)}
    schemas = {f"doc/oci-gpu-hook/schemas/{path.name}" for path in (ROOT / "schemas").iterdir()}
    pages = {"man/man1/oci-gpu.1", "man/man8/oci-gpu-hook.8", "man/man5/oci-gpu-config.toml.5"}
    shells = {
        "bash-completion/completions/oci-gpu",
        "zsh/site-functions/_oci-gpu",
        "fish/vendor_completions.d/oci-gpu.fish",
    }
    assert names == schemas | pages | shells
    assert b"complete -F _oci_gpu oci-gpu" in files.read(f"{data}/bash-completion/completions/oci-gpu")
    assert b".SH NAME" in files.read(f"{data}/man/man1/oci-gpu.1")
    page = "oci_gpu_hook/admin/cli/errors.md"
    assert files.read(page) == (ROOT / "docs/errors.md").read_bytes()


@pytest.mark.skipif(not shutil.which("cc"), reason="no compiler: no release is built on such a machine")
def test_it_is_what_a_release_has(wheel, tmp_path):
    spec = importlib.util.spec_from_file_location("release", ROOT / "package/release.py")
    assert spec
    assert spec.loader
    release = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(release)
    release.check_wheel(wheel, tmp_path / "venv", release.read_version())


def test_what_is_installed_from_it_starts(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False, system_site_packages=False)
    python = tmp_path / "venv/bin/python"
    where = [python, "-c", "import site; print(site.getsitepackages()[0])"]
    site = subprocess.run(where, capture_output=True, text=True, check=True)
    zipfile.ZipFile(wheel).extractall(site.stdout.strip())
    laid = subprocess.run(
        [python, "-m", "oci_gpu_hook.admin.cli.main", "hook-path"], capture_output=True, text=True, check=True
    )
    hook = laid.stdout.strip()
    assert hook.startswith(str(tmp_path / "venv/libexec"))
    done = subprocess.run([hook, "prestart"], input="{}", capture_output=True, text=True, check=False)
    assert done.stderr.startswith("oci-gpu-hook: error: OCI state: has no bundle")

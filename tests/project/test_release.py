"""What is not a release: a tree that is not clean, versions that do not agree, metadata that no index takes."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib

import pytest

from tests.paths import ROOT


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location("release", ROOT / "package/release.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fault(release):
    """A function that tells why a check finds no release; "" where all is as it should be."""

    def found_by(check, *arguments) -> str:
        try:
            check(*arguments)
        except release.Fault as found:
            return str(found)
        return ""

    return found_by


def changelog(*headings: str) -> str:
    return "# Changelog\n\n" + "".join(f"## {heading}\n\n" for heading in headings)


def test_the_changelog_is_at_the_version_of_the_package(release, fault):
    assert fault(release.check_changelog, (ROOT / "CHANGELOG.md").read_text(), release.read_version(), []) == ""


def test_a_tagged_release(release, fault):
    text = changelog("Unreleased", "1.2.3 - 2026-01-02", "1.2.2 - 2026-01-01")
    assert fault(release.check_changelog, text, "1.2.3", ["v1.2.3"]) == ""


NO_RELEASE = {
    "no place for what comes next": (changelog("1.2.3 - 2026-01-02"), [], "does not begin with"),
    "nothing released": (changelog("Unreleased"), [], "has no '## VERSION"),
    "no date": (changelog("Unreleased", "1.2.3"), [], "has no '## VERSION"),
    "another version": (changelog("Unreleased", "1.2.2 - 2026-01-01"), [], "is at 1.2.2"),
    "another tag": (changelog("Unreleased", "1.2.3 - 2026-01-02"), ["v1.2.4"], "is tagged v1.2.4"),
    "more than the tag": (changelog("Unreleased\n\n- new", "1.2.3 - 2026-01-02"), ["v1.2.3"], "under 'Unreleased'"),
}


@pytest.mark.parametrize(("text", "tagged", "why"), NO_RELEASE.values(), ids=NO_RELEASE)
def test_a_changelog_that_does_not_agree(release, text, tagged, why):
    with pytest.raises(release.Fault, match=re.escape(why)):
        release.check_changelog(text, "1.2.3", tagged)


def test_a_tree_with_changes(release, tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    release.check_tree(tmp_path)
    (tmp_path / "new").touch()
    with pytest.raises(release.Fault, match=r"not clean.*\n\?\? new"):
        release.check_tree(tmp_path)


METADATA = (
    "Metadata-Version: 2.4\nName: oci-gpu-hook\nVersion: 1.2.3\nRequires-Python: >=3.11\n"
    "License-Expression: Apache-2.0\nDescription-Content-Type: text/markdown\n\n# A description\n"
)
NO_METADATA = {
    "of another version": (METADATA.replace("1.2.3", "1.2.2"), "is of oci-gpu-hook 1.2.2"),
    "no description": (METADATA.partition("\n\n")[0] + "\n\n", "has no description"),
    "no license that is known": (METADATA.replace("Apache-2.0", "Apache 2, or so"), "license"),
    "no version": (METADATA.replace("Version: 1.2.3\n", ""), "version"),
}


def test_metadata_as_they_should_be(release, fault):
    assert fault(release.check_metadata, METADATA.encode(), "1.2.3") == ""


@pytest.mark.parametrize(("text", "why"), NO_METADATA.values(), ids=NO_METADATA)
def test_metadata_that_no_index_takes(release, text, why):
    with pytest.raises(release.Fault, match=why):
        release.check_metadata(text.encode(), "1.2.3")


def test_every_python_that_is_claimed_is_one_that_make_matrix_runs():
    from tests.matrix.__main__ import ROOTS

    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    claimed = [each for each in classifiers if re.search(r":: 3\.\d+$", each)]
    assert len(claimed) == len(ROOTS)

"""The man pages: complete, and without a complaint of the programs that show them."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess

import pytest

from oci_gpu_hook.admin.cli import outline
from oci_gpu_hook.admin.cli.commands import COMMANDS
from oci_gpu_hook.base.config import toml
from tests.paths import ROOT

SOURCE = ROOT / "package/manuals.py"
CHECKERS = {
    "mandoc": ["mandoc", "-T", "lint", "-W", "warning"],
    "groff": ["groff", "-man", "-ww", "-z", "-Tutf8"],
}
MACROS = {"TH", "SH", "SS", "PP", "TP", "B", "IP", "EX", "EE"}


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("manuals", SOURCE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


def test_there_are_three(pages):
    assert {*pages} == {"oci-gpu.1", "oci-gpu-hook.8", "oci-gpu-config.toml.5"}


def test_every_command_and_option_is_described(pages):
    text = pages["oci-gpu.1"].replace("\\-", "-")
    assert re.findall(r"^\.SS (.+)$", text, re.MULTILINE) == list(COMMANDS)
    for command in outline.everything(outline.read()):
        for option in command.options:
            assert ", ".join(rf"\fB{flag}\fR" for flag in option.flags) in text


def test_every_key_is_described(pages):
    text = pages["oci-gpu-config.toml.5"].replace("\\-", "-")
    for keys in toml._SECTIONS.values():
        for key in keys:
            assert f".SS {key}\n" in text


def test_only_macros_begin_with_a_dot(pages):
    for text in pages.values():
        assert {*re.findall(r"^[.'](\S+)", text, re.MULTILINE)} <= MACROS
        assert "@" not in re.sub(r"\S+@\S+", "", text)


@pytest.mark.parametrize(
    "checker",
    [pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name}")) for name in CHECKERS],
)
def test_nothing_is_complained_of(pages, tmp_path, checker):
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
        done = subprocess.run([*CHECKERS[checker], tmp_path / name], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("", "")

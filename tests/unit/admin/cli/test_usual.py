"""Command lines that are read without argparse mean what they mean to argparse; all others are left to it."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci_gpu_hook.admin.cli import arguments, usual

READ = (  # usual for certain
    "attach name --count 1",
    "attach --count=2 name --memory 40GiB --exclusive",
    "attach name --devices 0,GPU-1 --capabilities=compute --runtime-root /run/other",
    "--config /etc/other.toml --debug attach name --devices=0",
    "detach name --all",
    "detach --all --force --grace 2.5 name",
    "--config=/other detach name --devices 0,1 --runtime-root=/run/x=y",
    "cdi generate",
    "cdi generate --format json --output /tmp/x=1.json --name uuid --capabilities compute,utility",
    "cdi generate --class gds --hook-path=/hook --additional-gids",
    "cdi refresh --json --output /run/cdi --kind amd.com/gpu",
    "cdi list --json",
)
LEFT = (  # to argparse: unusual, or wrong
    "",
    "attach",
    "attach name",
    "attach name --count 1 --devices 0",
    "attach name other --count 1",
    "attach name --count one",
    "attach name --count",
    "attach name --count -1",
    "attach name --count=",
    "attach name --devices ,",
    "attach name --dev 0",
    "attach name --count 1 --exclusive=yes",
    "attach name --count 1 --count 2",
    "attach name --count 1 --config /x",
    "attach -- name --count 1",
    "detach name",
    "detach name --all --grace soon",
    "detach name --all --help",
    "cdi",
    "cdi generate more",
    "cdi generate --format xml",
    "cdi validate /etc/cdi/x.yaml",
    "cdi nothing",
    "nothing",
    "info --json",
    "--config attach name",
    "--debug --version",
)
WORDS = (
    "attach", "detach", "cdi", "generate", "refresh", "list", "validate", "name", "0", "1", "0,1", ",", "-1", "x=y",
    "", "--", "-", "-h", "-V", "a b", "-a b", "--config", "--config=/c", "/c", "--debug", "--count", "--count=1",
    "--count=", "--devices", "--devices=0", "--all", "--force", "--force=1", "--grace", "--grace=3", "3601",
    "--memory", "40GiB", "--memory=", "--exclusive", "--ex", "--capabilities", "compute", "--capabilities=all",
    "--runtime-root", "/run/runc", "--runtime-root=/r", "--output", "--output=x.json", "--format", "json",
    "--format=yaml", "--format=xml", "--name", "both", "--class", "gds", "--class=gpu", "--kind", "nvidia.com/gpu",
    "--kind=amd.com/gpu", "--additional-gids", "--hook-path", "--json",
)  # fmt: skip


CHANGE = st.tuples(st.integers(0, 12), st.booleans(), st.sampled_from(WORDS))


def by_argparse(words):
    """Return the options as argparse reads them, None where it complains or shows help."""
    chosen = arguments.command_of(words)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            return vars(arguments.parser((chosen,) if chosen else ()).parse_args(words))
        except (SystemExit, KeyError, ImportError):
            return None


@pytest.mark.parametrize("line", READ)
def test_usual_lines_are_read_as_by_argparse(line):
    words = line.split(" ")
    found = usual.read(words)
    assert found is not None
    assert vars(found) == by_argparse(words)


@pytest.mark.parametrize("line", LEFT)
def test_all_others_are_left_to_argparse(line):
    assert usual.read(line.split(" ") if line else []) is None


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(READ), st.lists(CHANGE, max_size=4))
def test_whatever_is_read_argparse_reads_the_same(line, changes):
    words = line.split(" ")
    for place, is_more, word in changes:
        words[place : place + (0 if is_more else 1)] = [word]
    found = usual.read(words)
    if found is not None:
        assert vars(found) == by_argparse(words)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=7))
def test_whatever_words_are_read_argparse_reads_the_same(words):
    found = usual.read(words)
    if found is not None:
        assert vars(found) == by_argparse(words)

"""The front as oci-gpu-runtime at an `update`: Python is asked where the resources may name devices, and only there."""

from __future__ import annotations

import os
import subprocess

import pytest

SILENT = b'{"cpu": {"shares": 512}}'
DEVICES = b'{"devices": [{"allow": false, "access": "rwm"}]}'
SPELT = b'{"\\u0064evices": []}'
LONG = b'{"x": "' + b"y" * (3 << 20) + b'"}'
DATA = {"silent": SILENT, "devices": DEVICES, "spelt": SPELT, "long": LONG, "empty": b""}

BY_FILE = {
    "update --resources FILE c": "silent",
    "--root /r --log /l update --resources=FILE c": "silent",
    "--systemd-cgroup update -r FILE c": "silent",
    "update --cpu-shares 512 c": "none",
    "update c": "none",
    "update": "none",
    "update --resources": "none",
    "exec c update --resources FILE c": "none",
    "state update": "none",
    "update -rFILE c": "unclear",
    "update -resources FILE c": "unclear",
    "update --resources /nonexistent c": "unclear",
}


def run(path, arguments, stdin=subprocess.DEVNULL, **options):
    return subprocess.run([path, *arguments], capture_output=True, check=False, timeout=30, stdin=stdin, **options)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("line", BY_FILE)
def test_resources_of_a_file(lay, witness, report, tmp_path, line, name):
    (tmp_path / "resources").write_bytes(DATA[name])
    arguments = [word.replace("FILE", "resources") for word in line.split()]
    answerer, said = report(run(lay("runtime", *witness), arguments, cwd=tmp_path))
    is_silent = name in ("silent", "empty")
    expected = {"silent": "real" if is_silent else "python", "none": "real", "unclear": "python"}[BY_FILE[line]]
    assert (answerer, said["argv"][1:]) == (expected, arguments)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("option", [["--resources", "-"], ["--resources=-"], ["-r", "-"]], ids=str)
def test_resources_on_stdin_are_there_for_whoever_comes_next(lay, witness, report, option, name):
    front = lay("runtime", *witness)
    done = subprocess.run(
        [front, "update", *option, "c"], input=DATA[name], capture_output=True, check=False, timeout=30
    )
    answerer, said = report(done)
    assert answerer == ("real" if name in ("silent", "empty") else "python")
    assert said["stdin"].encode("latin-1") == DATA[name]


def test_what_is_in_a_pipe_is_not_read_away(lay, witness, report, tmp_path):
    reader, writer = os.pipe()
    os.write(writer, SILENT)
    os.close(writer)
    answerer, _ = report(
        run(lay("runtime", *witness), ["update", "--resources", f"/proc/self/fd/{reader}", "c"], pass_fds=(reader,))
    )
    assert answerer == "python"
    assert os.read(reader, 1000) == SILENT
    os.close(reader)


def test_without_stdin_it_is_python_s(lay, witness, report):
    line = [lay("runtime", *witness), "update", "--resources", "-", "c"]
    done = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *line], capture_output=True, check=False, timeout=30)
    assert report(done)[0] == "python"

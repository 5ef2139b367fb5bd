"""A stderr that is closed, read-only or full: a refusal is one all the same, and in the runtime's log."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.unit.nvidia.bundles import config_json, state_json

HOOK = "import sys; from oci_gpu_hook.entrypoints.hook import main; main(sys.argv)"
RUNTIME = "import sys; from oci_gpu_hook.entrypoints.runtime import main; main(sys.argv, sys.argv.pop())"
# Says which of its descriptors are open, as a real runtime would find them.
OPEN = "#!/bin/sh\ncd /proc/$$/fd\nfor fd in 0 1 2; do if [ -e $fd ]; then printf %s $fd >&3; fi; done\n"
STDERR = {"read-only": "2</dev/null", "closed": "2>&-", "full": "2>/dev/full", "all closed": "0<&- 1>&- 2>&-"}


def run(redirection: str, code: str, *arguments: object, stdin: str = "") -> int:
    """Run code with its standard descriptors as the shell's redirection has them; return the exit status."""
    command = ["sh", "-c", f'"$@" {redirection}', "sh", sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, input=stdin, text=True, check=False, timeout=60).returncode


@pytest.fixture
def bundle(tmp_path):
    """A container that asks for what cannot be had, whatever the host has."""
    directory = tmp_path / "bundle"
    directory.mkdir()
    (directory / "config.json").write_text(config_json(annotations={"io.oci-gpu-hook.count": "nonsense"}))
    return directory


@pytest.mark.parametrize("stderr", STDERR)
@pytest.mark.parametrize("form", ["json", "text"])
def test_the_runtime_s_log_has_the_refusal(tmp_path, bundle, stderr, form):
    log = tmp_path / "log"
    options = ("--log", log, "--log-format", form, "create", "--bundle", bundle, "c1", "/bin/true")
    assert run(STDERR[stderr], RUNTIME, *options) == 1
    (line,) = log.read_text().splitlines()
    assert "oci-gpu-runtime: error: io.oci-gpu-hook.count='nonsense': is not a whole number" in line
    if form == "json":
        assert json.loads(line)["level"] == "error"


@pytest.mark.parametrize("stderr", STDERR)
def test_the_hook_refuses_all_the_same(bundle, stderr):
    redirection = STDERR[stderr].replace("0<&- ", "")
    assert run(redirection, HOOK, "prestart", stdin=state_json(str(bundle))) == 1


@pytest.mark.parametrize("stderr", STDERR)
def test_wrong_usage_is_told_by_the_exit_status(stderr):
    assert run(STDERR[stderr], HOOK, "--nonsense") == 2


@pytest.mark.parametrize("stderr", STDERR)
def test_a_bug_in_the_runtime_s_front_is_in_its_log(tmp_path, bundle, stderr):
    log = tmp_path / "log"
    broken = f"import oci_gpu_hook.oci.container as c; c.of_document = None; {RUNTIME}"
    assert run(STDERR[stderr], broken, "--log", log, "create", "--bundle", bundle, "c1", "/bin/true") == 1
    assert "internal error" in log.read_text()


@pytest.mark.parametrize("stderr", [*STDERR, ""])
def test_the_real_runtime_finds_its_descriptors_as_they_came(tmp_path, stderr):
    real = tmp_path / "real"
    real.write_text(OPEN)
    real.chmod(0o755)
    seen = tmp_path / "seen"
    assert run(f"{STDERR.get(stderr, '')} 3>{seen}", RUNTIME, "create", "--bundle", tmp_path, "c1", real) == 0
    assert seen.read_text() == {"closed": "01", "all closed": ""}.get(stderr, "012")


def test_no_file_takes_the_place_of_a_closed_stderr(tmp_path, bundle):
    """Nothing that is opened meanwhile gets the line that is meant for stderr."""
    opened = tmp_path / "opened"
    first = f"import os, sys; from oci_gpu_hook.base import streams; streams.fill(); fd = os.open({str(opened)!r}, 65)"
    assert run(STDERR["closed"], f"{first}; streams.say('x'); os._exit(fd)") > 2
    assert os.path.getsize(opened) == 0


@pytest.mark.parametrize("stderr", STDERR)
def test_what_a_child_says_is_taken_from_it_though_nobody_listens(stderr):
    """Who stands by for a child that works apart reads on, and ends as the child does."""
    code = "import os; from oci_gpu_hook.apply.watch import _pass_on; from oci_gpu_hook.base import streams;"
    code += "streams.fill(); reading, writing = os.pipe();"
    code += "os.set_blocking(reading, False); os.write(writing, b'x' * 9000); _pass_on(reading); os._exit(7)"
    assert run(STDERR[stderr], code) == 7

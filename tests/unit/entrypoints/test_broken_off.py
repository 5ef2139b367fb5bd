"""The report of a process that has ended before its work was done is like other errors: on stderr and in both logs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from oci_gpu_hook.entrypoints.hook import ENDED
from tests.unit.nvidia.bundles import state_json

HOOK = "import sys; from oci_gpu_hook.entrypoints.hook import main; main(sys.argv)"
RUNTIME = "import sys; from oci_gpu_hook.entrypoints.runtime import main; main(sys.argv, '/nonexistent')"
WHO = {
    "resident": "the resident's process",
    "standby": "the process that attaches the GPUs",
    "preparing": "the process that prepares the bundle",
}
pytestmark = pytest.mark.parametrize("who", WHO)


def what(who: str) -> str:
    return f"{WHO[who]}: has ended before its work was done; start the container again [OGH1516]"


def run(code: str, who: str, *arguments: object, stdin: str = "") -> str:
    command = [sys.executable, "-c", code, ENDED + who, *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, ""), done
    return done.stderr


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_runtimes_log_has_it(tmp_path, who, form):
    log = tmp_path / "log"
    said = run(RUNTIME, who, "--log", log, "--log-format", form, "create", "--bundle", tmp_path, "c1")
    assert said == f"oci-gpu-runtime: error: {what(who)}\n"
    (line,) = log.read_text().splitlines()
    assert what(who) in (json.loads(line)["msg"] if form == "json" else line)


def test_the_hooks_log_has_it(tmp_path, who):
    config = tmp_path / "config.toml"
    config.write_text(f'[log]\nfile = "{tmp_path}/log"\njournal = false\n[state]\ndir = "{tmp_path}/state"\n')
    said = run(HOOK, who, f"--config={config}", "prestart", stdin=state_json(str(tmp_path)))
    assert said == f"oci-gpu-hook: error: {what(who)}\n"
    (line,) = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert (line["code"], line["container"]) == ("OGH1516", json.loads(state_json(str(tmp_path)))["id"])


def test_without_a_state_it_is_said_all_the_same(who):
    assert run(HOOK, who, "prestart", stdin="nonsense") == f"oci-gpu-hook: error: {what(who)}\n"

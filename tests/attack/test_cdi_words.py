"""What hostile specification files have in their names and values reaches no terminal and no log as it is."""

from __future__ import annotations

import json
import os

import pytest

from oci_gpu_hook.admin.cli.main import main
from oci_gpu_hook.base.errors import LONGEST_VALUE
from oci_gpu_hook.devices.cdi.spec_files import directories, reading

# Erases the screen, names the window, begins a line of its own, and turns what follows around.
HOSTILE = "x\x1b[2J\x1b]0;title\x07\noci-gpu: \u202e\u2066\u200b\x9b31m\x7f"
GOOD = {"cdiVersion": "0.6.0", "kind": "a.com/b", "devices": [{"name": "y", "containerEdits": {"env": ["A=1"]}}]}


def made(**members) -> dict:
    return json.loads(json.dumps(GOOD)) | members


def device(**edits) -> list[dict]:
    return [{"name": "y", "containerEdits": edits}]


FILES = {
    "annotation": made(annotations={HOSTILE: "v"}),
    "long annotation": made(annotations={HOSTILE * 500: "v"}),
    "version": made(cdiVersion=HOSTILE),
    "kind": made(kind=f"a.com/{HOSTILE}"),
    "name": made(devices=[{"name": HOSTILE, "containerEdits": {"env": ["A=1"]}}]),
    "field": made(**{HOSTILE: 1}),
    "field of edits": made(devices=device(**{HOSTILE: 1})),
    "variable": made(devices=device(env=[HOSTILE])),
    "type": made(devices=device(deviceNodes=[{"path": "/dev/x", "type": HOSTILE}])),
    "permissions": made(devices=device(deviceNodes=[{"path": HOSTILE, "permissions": HOSTILE}])),
    "hook": made(devices=device(hooks=[{"hookName": HOSTILE, "path": HOSTILE}])),
    "interface": made(devices=device(netDevices=[{"hostInterfaceName": HOSTILE, "name": HOSTILE}] * 2)),
    "class of service": made(devices=device(intelRdt={"closID": f"../{HOSTILE}"})),
    "number": made(devices=device(additionalGids=[HOSTILE])),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_nothing_of_a_file_reaches_a_terminal_as_it_is(tmp_path, capsys, tally, what, suffix):
    """As `cdi validate` and `cdi list` show it, each problem in a line of its own, of bounded length."""
    specs = tmp_path / "cdi"
    specs.mkdir(mode=0o755)
    path = specs / f"a.{suffix}"
    path.write_text(json.dumps(FILES[what]))  # escaped, so that YAML reads it, too
    config = tmp_path / "config.toml"
    config.write_text(f'[cdi]\nspec-dirs = ["{specs}"]\n')
    problems = reading.parse(path.read_bytes(), is_json=suffix == "json").problems
    assert problems
    assert main(["--config", str(config), "cdi", "validate", str(path)]) == 1
    assert main(["--config", str(config), "cdi", "list"]) == 1
    tally.count()
    shown = "".join(capsys.readouterr())
    assert all(letter.isprintable() or letter == "\n" for letter in shown)
    assert shown.count("\n") == 2 * len(problems) + 1, "and a line that there are no devices"
    assert max(map(len, shown.splitlines())) < 4 * LONGEST_VALUE + len(str(path))


def test_nor_does_a_files_name(tmp_path, capsys, tally):
    specs = tmp_path / "cdi"
    specs.mkdir(mode=0o755)
    name = HOSTILE.replace("/", "") + ".json"
    (specs / name).write_text(json.dumps(GOOD))
    (specs / f"2{name}").write_text(json.dumps(GOOD))
    config = tmp_path / "config.toml"
    config.write_text(f'[cdi]\nspec-dirs = ["{specs}"]\n')
    assert directories.read([str(specs)]).conflicts
    assert main(["--config", str(config), "cdi", "list"]) == 1
    os.unlink(specs / name)
    assert main(["--config", str(config), "cdi", "list"]) == 0
    tally.count()
    assert all(letter.isprintable() or letter == "\n" for letter in "".join(capsys.readouterr()))

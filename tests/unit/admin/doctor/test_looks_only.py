"""The doctor as a whole: it changes nothing, says what it did not look at, and follows no error by its consequences."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from oci_gpu_hook.admin.cli import doctor
from oci_gpu_hook.admin.cli import main as cli
from oci_gpu_hook.admin.doctor import trial
from oci_gpu_hook.admin.doctor.model import OK, WARNING, Finding, Host
from oci_gpu_hook.admin.install import place as places
from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.base.config.model import Config


@pytest.fixture
def host(tmp_path):
    return make(str(tmp_path / "host"), gpus=1, device_nodes=os.geteuid() == 0)


def findings(capsys, *arguments):
    status = cli.main([*map(str, arguments)])
    return status, json.loads(capsys.readouterr().out)


# Runs a command, and tells whether it changed files below directories, or mounts: of each what a change would show.
LOOK = """
import json, os, subprocess, sys
watched, command = json.loads(sys.argv[1]), sys.argv[2:]

def look():
    with open("/proc/self/mounts", "rb") as mounts:
        found = {"mounts": mounts.read()}
    for directory in watched:
        for place, names, files in os.walk(directory):
            for name in (".", *names, *files):
                path = os.path.join(place, name)
                about = os.lstat(path)
                found[path] = about.st_ino, about.st_mode, about.st_size, about.st_mtime_ns, about.st_ctime_ns
    return found

before = look()
subprocess.run(command)
after = look()
sys.exit("".join(f"changed: {path}" for path in {*before, *after} if before.get(path) != after.get(path)) or None)
"""


def test_it_changes_nothing(host, tmp_path):
    """Not the state directory, not the compiled configuration, not the mounts; started as people start it.

    As root in a mount namespace with a /run of its own, so that nothing else on this machine changes them meanwhile.
    """
    os.rmdir(tmp_path / "host/state")
    watched = json.dumps([str(tmp_path), "/run", "/etc/oci-gpu-hook"])
    doctor = [sys.executable, "-m", "oci_gpu_hook.admin.cli.main", "--config", host.config, "doctor", "--json"]
    look = [sys.executable, "-c", LOOK, watched, *doctor]
    if os.geteuid() == 0:
        look = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh", *look]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(look, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert any(finding["check"] == "gpus" for finding in json.loads(done.stdout)), done


def test_an_error_in_the_configuration_is_not_followed_by_its_consequences(tmp_path, capsys):
    path = tmp_path / "config.toml"
    path.write_text("[state]\ndir = 3\n")
    status, found = findings(capsys, "--config", path, "doctor", "--run", "--json")
    assert status == 2
    assert [finding["check"] for finding in found if finding["severity"] == "error"] == ["configuration"]
    checks = {finding["check"] for finding in found}
    assert {"configuration", "kernel", "cgroups"} <= checks
    assert not checks & {"driver", "gpus", "nodes", "state_directory", "remains", "trial"}
    assert any("were not looked at" in finding["what"] for finding in found)


def test_quiet_is_quiet_as_json_too(host, capsys):
    _, everything = findings(capsys, "--config", host.config, "doctor", "--json")
    _, quiet = findings(capsys, "--config", host.config, "doctor", "--json", "--quiet")
    assert {finding["severity"] for finding in quiet} <= {"warning", "error"}
    assert quiet == [finding for finding in everything if finding["severity"] in ("warning", "error")]
    assert len(quiet) < len(everything)


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_shows_what_is_wrong_with_its_remedy_and_nothing_where_all_is_well(option, capsys, monkeypatch):
    found = [
        Finding(check=name, severity=severity, what=what, why="", remedy=remedy)
        for name, severity, what, remedy in (
            ("kernel", OK, "Linux 6.1", ""),
            ("driver", WARNING, "it is old", "install a later one"),
        )
    ]
    monkeypatch.setattr(doctor, "_examine", lambda *_, **__: found)
    assert cli.main(["doctor", option]) == 1
    assert " ".join(capsys.readouterr().out.split()) == "driver warning it is old → install a later one 1 warning."
    del found[1]
    assert cli.main(["doctor", option]) == 0
    assert capsys.readouterr().out == ""
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("All is well.\n")


@pytest.mark.parametrize("user", [0, 1000])
def test_a_trial_that_was_asked_for_and_not_run_is_a_warning(user, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    (finding,) = trial.check(Host(config=Config(), config_path="/none"))
    assert finding.severity == WARNING
    assert finding.what.startswith("no container was started: that needs ")
    assert ("sudo oci-gpu doctor --run" in finding.remedy) == (user != 0)


def test_a_user_sees_what_root_has_installed(tmp_path, monkeypatch):
    system = tmp_path / "usr"
    monkeypatch.setattr(places, "SYSTEM_DIRECTORY", str(system))
    monkeypatch.setattr(places, "default_directory", lambda: str(tmp_path / "home"))
    assert places.installed_directory() == str(tmp_path / "home")
    system.mkdir()
    (system / "oci-gpu-hook").touch()
    assert places.installed_directory() == str(system)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/oci-gpu-hook").touch()
    assert places.installed_directory() == str(tmp_path / "home"), "what this user has installed goes first"

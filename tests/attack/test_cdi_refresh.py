"""Refreshing specification files while others refresh, are killed, replace the files, or exchange the directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oci_gpu_hook.admin.cdi import generate, refresh
from oci_gpu_hook.admin.cdi.alone import _LOCK, Alone
from oci_gpu_hook.admin.cli.main import main
from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.base import limits, locks
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.devices.cdi.spec_files import directories, writing

NAME = "oci-gpu-hook-nvidia.com-gpu.yaml"
OF_CLASS = "oci-gpu-hook-nvidia.com-gdrcopy.yaml"


@pytest.fixture
def host(tmp_path):
    """A simulated host, and a directory for specifications."""
    made = make(str(tmp_path / "host"), gpus=2)
    (tmp_path / "cdi").mkdir(mode=0o755)
    return Path(made.directory)


@pytest.fixture
def specs(host):
    return host.parent / "cdi"


def command(host, specs, *program):
    words = program or (str(Path(sys.executable).with_name("oci-gpu")),)
    options = ("--config", host / "config.toml", "cdi", "refresh", "--hook-path", "/hook", "--output", specs)
    return [*words, *map(str, options)]


def whole(specs) -> bool:
    """Tell whether what engines would read is there as a whole."""
    found = directories.read([str(specs)])
    return bool(found.files) and not any(file.problems for file in found.files) and not found.conflicts


def test_readers_see_whole_files_whoever_refreshes(host, specs, tally):
    """Eight at once, of different names, while the files are looked at."""
    running = []
    for number in range(8):
        names = ("--name", ("index", "uuid", "both")[number % 3])
        running.append(subprocess.Popen([*command(host, specs), *names], stdout=subprocess.DEVNULL))
    while any(each.poll() is None for each in running):
        for path in specs.glob("*.yaml"):
            text = path.read_text()
            assert text.startswith("---")
            assert text.endswith("\n")
            assert path.stat().st_mode & 0o7777 == 0o644
            tally.count()
        time.sleep(0.02)
    assert [each.returncode for each in running] == [0] * 8
    assert whole(specs)
    assert all(path.suffix == ".yaml" for path in specs.iterdir())


def test_the_later_one_writes_what_is_later(host, specs, tally):
    """One that waits looks at the host when the other has ended, not before."""
    state = configs.load(str(host / "config.toml")).state_dir
    os.makedirs(state, mode=0o700, exist_ok=True)
    lock = locks.acquire(f"{state}/{_LOCK}", 1) or 0
    waiting = subprocess.Popen(command(host, specs), stdout=subprocess.DEVNULL)
    time.sleep(3)
    assert [*specs.iterdir()] == []
    (host / "dev/gdrdrv").rename(host / "gdrdrv")
    os.close(lock)
    assert waiting.wait(60) == 0
    tally.count()
    assert (specs / NAME).exists()
    assert not (specs / OF_CLASS).exists()


def test_one_that_is_stopped_keeps_others_for_a_while_alone(host, specs, tally, monkeypatch, capfd):
    monkeypatch.setattr(limits, "CDI_REFRESH_LOCK_SECONDS", 0.2)
    with Alone(configs.load(str(host / "config.toml")), str(specs)):
        assert main(command(host, specs)[1:]) == 1
    tally.count()
    assert "another refresh: has been under way for 0.2 s" in capfd.readouterr().err
    assert main(command(host, specs)[1:]) == 0


KILLED = """
import os, signal, sys
from oci_gpu_hook.admin.cli.main import main
rename = os.rename
def killed(source, target, **options):
    if str(target).endswith(".yaml"):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target, **options)
os.rename = killed
main(sys.argv[1:])
"""


def test_one_that_is_killed_before_it_renames_leaves_nothing_for_good(host, specs, tally):
    """Engines read nothing of it, and the next one removes it."""
    for _ in range(3):
        done = subprocess.run(command(host, specs, sys.executable, "-c", KILLED), check=False)
        tally.count()
        assert done.returncode == -signal.SIGKILL
        assert directories.read([str(specs)]).files == ()
    assert len([*specs.iterdir()]) == 1, "each removes what the one before has left"
    subprocess.run(command(host, specs), check=True, stdout=subprocess.DEVNULL)
    assert {path.suffix for path in specs.iterdir()} == {".yaml"}
    assert whole(specs)


@pytest.mark.parametrize("what", ["link", "link to its like", "fifo", "writable", "another's", "cut off", "longer"])
def test_what_is_in_the_place_of_a_file_is_replaced(host, specs, tally, tmp_path, what):
    subprocess.run(command(host, specs), check=True, stdout=subprocess.DEVNULL)
    file, text = specs / NAME, (specs / NAME).read_text()
    victim = tmp_path / "victim"
    victim.write_text(text if what == "link to its like" else "of somebody else")
    before = victim.read_text()
    if what.startswith("link"):
        file.unlink()
        file.symlink_to(victim)
    elif what == "fifo":
        file.unlink()
        os.mkfifo(file)
    elif what == "writable":
        file.chmod(0o666)
    elif what == "another's":
        os.chown(file, 1000, 1000)
    else:
        file.write_text(text[:-10] if what == "cut off" else text + " ")
    done = subprocess.run(command(host, specs), check=True, capture_output=True, text=True, timeout=60)
    tally.count()
    assert f"{file}: written" in done.stdout
    found = file.lstat()
    assert (found.st_mode, found.st_uid) == (0o100644, os.geteuid())
    assert file.read_text() == text
    assert victim.read_text() == before


@pytest.mark.parametrize("by", ["link", "directory"])
def test_a_directory_that_is_exchanged_leads_nowhere_else(host, specs, tally, tmp_path, monkeypatch, by):
    """By a link to another, or another of the same name, between two files: what follows goes into neither."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / OF_CLASS).write_text("of somebody else")
    write = writing.write

    def exchange(*arguments):
        if not (tmp_path / "moved").exists():
            specs.rename(tmp_path / "moved")
            if by == "link":
                specs.symlink_to(victim)
            else:
                specs.mkdir()
        return write(*arguments)

    monkeypatch.setattr(writing, "write", exchange)
    (host / "dev/gdrdrv").unlink()
    config = configs.load(str(host / "config.toml"))
    form = generate.form_of("both", str(host / "config.toml"), "/hook")
    with pytest.raises(HookError, match="was replaced while"):
        refresh.refresh(generate.inventory_of(config), config, str(specs), generate.capabilities_of("all"), form)
    tally.count()
    assert [path.name for path in victim.iterdir()] == [OF_CLASS]
    assert (victim / OF_CLASS).read_text() == "of somebody else"
    assert by == "link" or [*specs.iterdir()] == []


def test_another_tool_that_writes_the_same_file_at_the_same_time(host, specs, tally):
    """What engines read is whole at every moment, and ours when the other has stopped."""
    subprocess.run(command(host, specs), check=True, stdout=subprocess.DEVNULL)
    file, text = specs / NAME, (specs / NAME).read_text()
    for _ in range(10):
        running = subprocess.Popen(command(host, specs), stdout=subprocess.DEVNULL)
        while running.poll() is None:
            (specs / "theirs").write_text("kind: other.com/gpu\n")
            (specs / "theirs").rename(file)
            assert file.read_text() in (text, "kind: other.com/gpu\n")
            tally.count()
            time.sleep(0.01)
        assert running.returncode == 0
    subprocess.run(command(host, specs), check=True, stdout=subprocess.DEVNULL)
    assert file.read_text() == text


THEIRS = """\
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices: [{name: "0", containerEdits: {env: [A=1]}}]
"""


@pytest.mark.parametrize("had_ours", [False, True])
def test_a_file_with_the_same_names_that_comes_after_the_check(host, specs, tally, monkeypatch, capfd, had_ours):
    """Engines would give neither device: what is new goes again, so that the other tool's devices are given."""
    if had_ours:
        subprocess.run([*command(host, specs), "--name", "uuid"], check=True, stdout=subprocess.DEVNULL)
    write = writing.write

    def meanwhile(*arguments):
        (specs / "nvidia.yaml").write_text(THEIRS)
        return write(*arguments)

    monkeypatch.setattr(writing, "write", meanwhile)
    assert main(command(host, specs)[1:]) == 1
    tally.count()
    said = capfd.readouterr().err
    assert "nvidia.yaml': has nvidia.com/gpu=0 too" in said
    assert "nvidia-cdi-refresh" in said
    left = {path.name for path in specs.iterdir()} - {"nvidia.yaml"}
    assert (NAME in left) is had_ours
    found = directories.read([str(specs)])
    assert had_ours or found.devices["nvidia.com/gpu=0"].path.endswith("nvidia.yaml")


def test_a_file_of_other_names_that_comes_meanwhile_changes_nothing(host, specs, tally, monkeypatch, capfd):
    write = writing.write

    def meanwhile(*arguments):
        (specs / "amd.yaml").write_text(THEIRS.replace("nvidia", "amd"))
        return write(*arguments)

    monkeypatch.setattr(writing, "write", meanwhile)
    assert main(command(host, specs)[1:]) == 0
    tally.count()
    assert (specs / NAME).exists()

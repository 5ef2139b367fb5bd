"""`.ci/setup TARGET` installs what the target needs and no more, says so before, and shows what it does meanwhile.

The script runs on a machine that has nothing: a PATH with the tools of every Debian, an apt-get and a pip that write
down what they are told.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT

TOOLS = (
    *("bash", "cat", "chmod", "cut", "dirname", "find", "fold", "grep", "kill", "ldd", "mkdir", "mktemp", "rm", "sed"),
    *("sleep", "touch", "true"),
)
APT = """#!/bin/bash
echo "apt-get $*" >>"$CALLS"
case " $* " in
*" --assume-no "*)
    echo "0 upgraded, 54 newly installed, 0 to remove and 0 not upgraded."
    echo "After this operation, 239 MB of additional disk space will be used." ;;
*" --download-only "*) sleep "${SLOW:-0}"; if [ -n "${BROKEN:-}" ]; then echo "E: no network"; exit 100; fi ;;
esac
"""
PIP = '#!/bin/bash\necho "pip $*" >>"$CALLS"\n'
# Its virtual environments have a pip, and an oci-gpu, as if it were installed at once.
PYTHON = """#!/bin/bash
echo "python3 $*" >>"$CALLS"
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p .venv/bin
    for name in pip oci-gpu; do
        printf '#!/bin/bash\\necho "%s $*" >>"$CALLS"\\n' $name >.venv/bin/$name
        chmod +x .venv/bin/$name
    done
fi
"""
HEAVY = {"docker.io", "containerd", "podman", "zsh", "fish", "debootstrap", "slurmctld", "prometheus"}


class Fresh:
    """A machine with nothing but Debian's own tools."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.calls = work / "calls"
        (work / ".ci").mkdir()
        shutil.copy(ROOT / ".ci/setup", work / ".ci/setup")
        (work / "bin").mkdir()
        for tool in TOOLS:
            (work / "bin" / tool).symlink_to(str(shutil.which(tool)))
        self._program("bin/apt-get", APT)
        self._program("bin/id", "#!/bin/bash\necho 0\n")
        self._program("bin/python3", '#!/bin/bash\nexec /usr/bin/env python3 "$@"\n')
        self._program(".venv/bin/pip", PIP)
        self._program(".venv/bin/oci-gpu", "#!/bin/bash\n")
        # The script adds these two, which have the machine's own programs.
        script = work / ".ci/setup"
        script.write_text(script.read_text().replace("PATH=$PATH:/usr/sbin:/sbin", ""))

    def _program(self, name: str, text: str) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def setup(self, *target: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.work / ".ci/setup", *target],
            env={"PATH": str(self.work / "bin"), "CALLS": str(self.calls), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def told(self) -> list[str]:
        """Return what apt-get and pip were told, in order."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def packages(self) -> set[str]:
        """Return what apt was told to install."""
        (line,) = (line for line in self.told() if " install " in line and "--assume-no" in line)
        return {word for word in line.split()[1:] if not word.startswith("-")} - {"install"}


@pytest.fixture
def fresh(tmp_path):
    return Fresh(tmp_path)


@pytest.mark.parametrize("target", ["demo", "deb", "bench", "release"])
def test_a_target_brings_no_engine(fresh, target):
    done = fresh.setup(target)
    assert done.returncode == 0, done.stderr
    assert "gcc" in fresh.packages()
    assert ("runc" in fresh.packages()) == (target in ("demo", "bench"))
    assert not fresh.packages() & HEAVY


def test_the_tests_bring_every_engine(fresh):
    done = fresh.setup()
    assert done.returncode == 0
    assert fresh.packages() >= HEAVY
    assert done.stderr.split().count("docker.io") == 1


def test_dockers_client_is_installed_where_it_is_a_package(fresh):
    """Since Debian 13; docker.io only recommends it there."""
    assert fresh.setup().returncode == 0
    assert "docker-cli" not in fresh.packages()
    fresh.calls.unlink()
    fresh._program("bin/apt-cache", "#!/bin/bash\n")
    assert fresh.setup().returncode == 0
    assert fresh.packages() >= {"docker.io", "docker-cli"}


def test_what_will_be_installed_is_said_before(fresh):
    said = fresh.setup("demo", BROKEN="1", SLOW="5")
    assert said.returncode == 1
    listed, _, after = said.stderr.partition("setup: downloading them ")
    assert "make demo needs these packages, 54 with what they need, 239 MB on disk:\n" in listed
    assert {"gcc", "runc"} <= {*listed.split()}
    assert after.startswith(".."), "a sign of life every two seconds"
    assert "E: no network" in after
    assert not [line for line in fresh.told() if line.startswith("pip") or line.endswith("install --yes")]


def test_each_step_is_a_line_with_its_time(fresh):
    done = fresh.setup("demo")
    steps = re.findall(r"^setup: (\w+).* \d+ s$", done.stderr, re.MULTILINE)
    assert steps == ["fetching", "downloading", "installing", "installing"]
    assert done.stdout == "", "`make deb` prints the name of the package there"


def test_only_developers_get_their_tools(fresh):
    fresh.setup("demo")
    assert [line for line in fresh.told() if line.startswith("pip install")][-1].endswith("--editable .")
    fresh.setup("lint")
    assert [line for line in fresh.told() if line.startswith("pip install")][-1].endswith("--editable .[dev]")
    before = [line for line in fresh.told() if line.startswith("pip install")]
    for target in ("demo", "lint", "man"):
        fresh.setup(target)
    assert [line for line in fresh.told() if line.startswith("pip install")] == before


@pytest.fixture
def without_venv(fresh):
    """A machine whose Python makes virtual environments, of which there is none yet."""
    shutil.rmtree(fresh.work / ".venv")
    fresh._program("bin/python3", PYTHON)
    script = fresh.work / ".ci/setup"
    script.write_text(script.read_text().replace("for candidate in /usr/bin/python3 ", "for candidate in "))
    return fresh


def test_the_demo_leaves_no_pip_behind(without_venv):
    """It takes 12 to 25 MB of the 300 that the demo may add to a machine."""
    without_venv.setup("demo")
    assert [line for line in without_venv.told() if line.startswith("pip uninstall")][-1].endswith("pip setuptools")
    (without_venv.work / ".venv/bin/pip").unlink()
    without_venv.calls.unlink()
    without_venv.setup("demo")
    assert not [line for line in without_venv.told() if "venv" in line and "clear" in line]
    without_venv.setup("deb")
    assert "python3 -m venv --clear .venv" in without_venv.told(), "others get it"
    assert not [line for line in without_venv.told() if line.startswith("pip uninstall")]


def test_apt_leaves_no_cache_of_its_lists_behind(fresh):
    """They are 80 MB in /var/cache/apt, where the machine had none."""
    fresh.setup("demo")
    calls = [line for line in fresh.told() if line.startswith("apt-get")]
    assert len(calls) == 4
    assert all("-oDir::Cache::pkgcache= -oDir::Cache::srcpkgcache= " in line for line in calls)


def test_every_target_of_the_makefile_is_one_that_setup_knows(fresh):
    targets = re.findall(r"^\t@\.ci/setup (\w+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(targets) >= 6
    for target in targets:
        assert fresh.setup(target).returncode == 0, target
    assert fresh.setup("dmeo").returncode == 2
    assert os.access(ROOT / ".ci/setup", os.X_OK)

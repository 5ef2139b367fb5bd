"""What `oci-gpu attach`, `detach` and `cdi generate` import, against a list, as test_imports does for a start.

They are started as the Debian package starts them, with the byte code that `oci-gpu hook-path` prepares.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import oci_gpu_hook
from oci_gpu_hook.admin.install import hotpath_build
from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.simulated import SimulatedHost
from tests.runtime.test_imports import GPU

pytestmark = pytest.mark.root
HOME = Path(oci_gpu_hook.__file__).parent
# `__future__` of the sources that bring the prepared byte code, and `select` for the process that works apart.
ALLOWED = {"attach": GPU | {"__future__", "select"}, "detach": GPU | {"__future__", "select"}}
GENERATE = GPU | {"__future__"} - {"_ctypes", "fcntl", "itertools"}
DOOR = {"oci_gpu_hook", "oci_gpu_hook.admin", "oci_gpu_hook.admin.cli", "oci_gpu_hook.admin.cli.door"}


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    """Return the command line of `oci-gpu`, with its byte code in a directory of its own."""
    directory = tmp_path_factory.mktemp("executables")
    path = directory / f"oci-gpu.{sys.implementation.cache_tag}.modules"
    main = "oci_gpu_hook.admin.cli.main"
    hotpath_build.write(str(path), sys.executable, str(HOME), main, hotpath_build.COMMANDS, is_checkout=False)
    program = f"import sys; sys.path.append({str(HOME.parent)!r}); from oci_gpu_hook.admin.cli.door import main; "
    program += f"sys.exit(main({str(directory)!r}))"
    return [sys.executable, "-ISB", "-X", "importtime", "-c", program]


def imported(said: str, *, searched: bool = False) -> set[str]:
    """Return the modules of others that were imported; searched: those of this package that were found by themselves.

    That are the heads of groups, and whatever is in no group.
    """
    lines = [line for line in said.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines} - {"imported package"}
    return {name for name in names if (name.split(".")[0] == "oci_gpu_hook") == searched}


def test_attach_and_detach(runtime, make_bundle, directory, launcher):
    host = SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory))
    with runtime.started(make_bundle(args=("/bin/sleep", "100"), gpus=None, config=host.config)) as container:
        for count in range(2):  # the first time stores the configuration and the inventory
            for name, option in (("attach", "--count=1"), ("detach", "--all")):
                words = (name, container.id, option, "--runtime-root", runtime.state_dir)
                done = runtime.host.call(*launcher, "--config", host.config, *words)
                if count:
                    assert imported(done.stderr) <= ALLOWED[name]
                    assert imported(done.stderr, searched=True) <= {*hotpath_build.COMMANDS, *DOOR}


def test_generate(directory, launcher):
    host = SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory))
    time.sleep(0.2)  # a configuration younger than 0.1 s is not compiled yet (base/config/source.py)
    own = [sys.executable, "-m", "oci_gpu_hook.admin.cli.main", "--config", str(host.config), "info"]
    subprocess.run(own, check=True, capture_output=True, cwd=HOME.parent)  # which stores the inventory
    command = [*launcher, "--config", host.config, "cdi", "generate", "--hook-path", "/hook"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert imported(done.stderr) <= GENERATE
    assert imported(done.stderr, searched=True) <= {*hotpath_build.COMMANDS, *DOOR}

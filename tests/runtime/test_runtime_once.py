"""Docker's and containerd's door: one interpreter from create to delete, what it imports, what it does not believe."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from oci_gpu_hook.admin.install.front_file import read_front, write_front
from tests.runtime.counted import copied, is_front, lay
from tests.runtime.residents import Interpreter
from tests.runtime.test_devices import assert_reaches, reach
from tests.runtime.test_imports import GPU
from tests.runtime.test_oci_runtime import leases

# Leaves what was imported in a file when the process that stands by ends.
TELLS = """\
import posix, sys
leave = posix._exit
def tell(status):
    said = "\\n".join(name for name, module in sys.modules.items() if module).encode()
    posix.write(posix.open({path!r}, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o600), said)
    leave(status)
posix._exit = tell
"""


@pytest.fixture
def installed(directory, configured, front_path):
    """Return a directory with executables of this test's own, copied since to make them takes seconds."""
    place = copied(front_path, directory / "libexec")
    if not is_front(place / "oci-gpu-runtime"):
        pytest.skip("the front was not built")
    return place


@pytest.fixture
def door(installed, runtime):
    return replace(runtime, binary=str(installed / "oci-gpu-runtime"))


@pytest.fixture
def before(installed, runtime):
    """Put a script between oci-gpu-runtime and the real runtime, for the calls that make a container."""

    def put(script):
        path = installed / "real-runtime"
        script = f'case " $* " in *" create "* | *" run "*) {script};; esac'
        path.write_text(f'#!/bin/sh\n{script}\nexec {runtime.binary} "$@"\n')
        path.chmod(0o755)
        stub = (installed / "oci-gpu-runtime.py").read_text()
        lay(installed / "oci-gpu-runtime", "runtime", stub.replace(repr(runtime.binary), repr(str(path))), path)

    return put


def test_one_interpreter_from_create_to_delete(installed, door, plain_bundle, simulated, directory):
    counted = Interpreter(installed / "oci-gpu-hook", directory)
    for role in ("hook", "runtime"):
        path = str(installed / f"oci-gpu-{role}")
        front = laid(path)
        assert write_front(path, role, str(counted.path), front.stub, front.program)
    for number in (1, 2):
        seen = door.run(plain_bundle(*reach(simulated), gpus="0", name=f"b{number}")).seen()
        assert_reaches(seen, simulated, (0,))
        assert counted.starts == number
    with door.started(plain_bundle(gpus="0", args=("/bin/sleep", "60"), name="b3")):
        assert counted.starts == 3
    assert counted.starts == 3  # its end has started none
    assert leases(simulated) == []


def test_it_imports_what_a_hook_does(installed, door, plain_bundle, simulated, directory):
    told = directory / "imported"
    stub = (installed / "oci-gpu-runtime.py").read_text()
    lay(installed / "oci-gpu-runtime", "runtime", TELLS.format(path=str(told)) + stub, door_program(installed))
    time.sleep(0.2)  # a configuration younger than 0.1 s is not compiled yet (base/config/source.py)
    door.run(plain_bundle(gpus="0", args=("/bin/true",), name="first")).seen()  # which makes the inventory
    told.unlink()
    door.run(plain_bundle(gpus="0", args=("/bin/true",), name="second")).seen()
    imported = set(told.read_text().split())
    found = {name for name in imported if name.split(".")[0] != "oci_gpu_hook"}
    assert found - GPU - BUILT_IN == set()
    # The runtime's own annotation, in the bundle that it has prepared, is no reason to ask what an image says.
    assert "oci_gpu_hook.oci.image_annotations" not in imported


# What is in sys.modules of the bare interpreter, and no `importtime` tells.
BUILT_IN = {"builtins", "sys", "_frozen_importlib", "_imp", "__main__", "os", "os.path"}


def laid(path):
    found = read_front(str(path))
    assert found
    return found


def door_program(installed):
    return laid(installed / "oci-gpu-runtime").program


def test_a_bundle_that_was_changed_since_is_read_again(door, before, plain_bundle, directory):
    """What was granted is for the config.json that was written, and no other."""
    bundle = plain_bundle("dlopen=libcuda.so.1", gpus="0", name="changed")
    before(f"sed -i s/compute,utility/utility/ {bundle.directory}/config.json")
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in json.dumps(bundle.config)
    seen = door.run(bundle).seen()
    assert not seen["dlopen=libcuda.so.1"].endswith("/libcuda.so.1")


def test_a_driver_that_was_replaced_since_is_not_mixed(door, before, plain_bundle, simulated):
    """The inventory of the grant is looked at again before the container starts."""
    door.run(plain_bundle(gpus="0", args=("/bin/true",), name="first")).seen()
    version = simulated.proc / "version"
    text, status = version.read_text(), version.stat()
    kept = f"{version}.kept"
    before(f"cp -p {version} {kept}; sed 's/  [0-9.]* /  999.99.99 /' {kept} > {version}")
    try:
        done = door.run(plain_bundle(gpus="0", args=("/bin/true",)))
        assert version.read_text() != text
    finally:
        version.write_text(text)
        os.utime(version, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.unlink(kept)
    assert done.status != 0
    assert leases(simulated) == []


@pytest.mark.parametrize("program", ["", "#!/bin/sh\n"])
def test_a_real_runtime_that_cannot_be_started_is_told_before_anything_is_granted(
    installed, door, plain_bundle, simulated, directory, program
):
    path = directory / "gone"
    path.write_text(program)
    path.chmod(0o644)
    stub = (installed / "oci-gpu-runtime.py").read_text()
    lay(installed / "oci-gpu-runtime", "runtime", stub.replace(repr(door_program(installed)), repr(str(path))), path)
    bundle = plain_bundle(gpus="0", args=("/bin/true",))
    done = door.run(bundle)
    assert done.status == 1
    assert "cannot start the real runtime" in done.stderr
    assert json.loads((Path(bundle.directory) / "config.json").read_text()) == bundle.config
    assert leases(simulated) == []

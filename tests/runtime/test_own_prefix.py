"""A driver in a prefix of its own, and scripts in front of its programs, under real runtimes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from tests.runtime.simulated import SimulatedHost

pytestmark = pytest.mark.root


@pytest.fixture
def host(directory):
    """A host of the test's own whose ld cache lists no library of the driver."""
    return SimulatedHost(Path(make(str(directory / "host"), gpus=1, layout="own-prefix").directory))


def test_libraries_load_and_nvidia_smi_runs(runtime, make_bundle, host):
    seen = runtime.run(
        make_bundle("dlopen=libcuda.so.1", "dlopen=libnvidia-ml.so.1", gpus="0", config=host.config, name="one")
    ).seen()
    assert seen["dlopen=libcuda.so.1"]
    assert seen["dlopen=libnvidia-ml.so.1"]
    result = runtime.run(make_bundle(args=("/usr/bin/nvidia-smi", "-L"), gpus="0", config=host.config, name="two"))
    assert host.gpus()[0].uuid in result.stdout


def test_a_script_is_not_given_and_the_start_says_so(runtime, make_bundle, host):
    log = host.directory / "log"
    host.config.write_text(f'{host.config.read_text()}\n[log]\nfile = "{log}"\n')
    smi = host.driver_root / "home/kubernetes/bin/nvidia/bin/nvidia-smi"
    real = smi.read_bytes()
    smi.write_text("#!/nix/store/none/bin/bash\nexec /nix/store/none/nvidia-smi\n")
    seen = runtime.run(make_bundle("stat=/usr/bin/nvidia-smi", gpus="0", config=host.config, name="one")).seen()
    assert seen["stat=/usr/bin/nvidia-smi"] == "ENOENT"
    said = [json.loads(line) for line in log.read_text().splitlines()]
    (warning,) = [line["text"] for line in said if line["event"] == "warning"]
    assert warning.startswith(f"nvidia-smi is given to no container: '{smi}' is a script")
    smi.with_name(".nvidia-smi").write_bytes(real)
    smi.with_name(".nvidia-smi").chmod(0o755)
    result = runtime.run(make_bundle(args=("/usr/bin/nvidia-smi", "-L"), gpus="0", config=host.config, name="two"))
    assert host.gpus()[0].uuid in result.stdout

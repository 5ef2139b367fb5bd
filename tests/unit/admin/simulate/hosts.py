"""Simulated hosts made without root, and questions to their NVML."""

from __future__ import annotations

import json
import subprocess
import sys

from oci_gpu_hook.admin.simulate.host import make


def plain(directory, **settings):
    return make(str(directory), device_nodes=False, **settings)


def nvml(simulated, program):
    """Run statements with `n` = pynvml on the host's NVML, in a process of its own; return what they print as JSON."""
    library = f"{simulated.driver_root}{simulated.library_directory}/libnvidia-ml.so.1"
    code = f"import ctypes, json; ctypes.CDLL({library!r}); import pynvml as n; n.nvmlInit()\n{program}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)

"""What the resident imports before it forks: all that starts import, and nothing that opens a GPU or starts NVML."""

from __future__ import annotations

import json
import subprocess
import sys

from oci_gpu_hook.admin.install import hotpath_build, import_order
from oci_gpu_hook.entrypoints.resident.manager import _forget_environment  # noqa: F401  named in the program below
from tests.paths import ROOT

PROGRAM = """
import json, os, sys
from oci_gpu_hook.entrypoints.resident import rehearsal
rehearsal.rehearse()
opened = []
for name in os.listdir("/proc/self/fd"):
    try:
        opened.append(os.readlink(f"/proc/self/fd/{name}"))
    except OSError:
        pass
print(json.dumps([sorted(sys.modules), opened]))
"""
ENVIRONMENT = """
import os, subprocess
from oci_gpu_hook.entrypoints.resident.manager import _forget_environment
_forget_environment()
os.execv("/usr/bin/env", ["env"])
"""
# In the container's namespaces, where no resident is.
ELSEWHERE = {"oci_gpu_hook.lifecycle.cdi_container"}


def test_it_imports_what_starts_import():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, timeout=60, cwd=ROOT)
    modules, opened = json.loads(done.stdout)
    assert {*hotpath_build.HEADS} - ELSEWHERE <= {*modules}
    assert {*import_order.EXTENSIONS} <= {*modules}
    assert [name for name in modules if name.startswith("pynvml")] == []
    assert [path for path in opened if "nvidia" in path] == []


def test_it_forgets_the_environment_that_its_service_has():
    environment = {"PATH": "/usr/bin", "LANG": "de_DE.UTF-8", "LD_PRELOAD": "", "PYTHONPATH": str(ROOT), "A B": "1"}
    command = [sys.executable, "-c", ENVIRONMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT, env=environment)
    assert done.stdout.splitlines() == ["LC_ALL=C"]

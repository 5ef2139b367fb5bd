"""A mark for tests of what the hook does only where it can judge every process: on the machine, not in a container."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.allocation.holders import INITIAL_PID_NAMESPACE

needed = pytest.mark.skipif(
    os.stat("/proc/self/ns/pid").st_ino != INITIAL_PID_NAMESPACE,
    reason="these tests run in a container: from within a pid namespace not all processes can be judged",
)

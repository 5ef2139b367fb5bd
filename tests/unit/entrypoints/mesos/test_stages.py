"""Hooks that a CDI specification names, run before a task's own command."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from oci_gpu_hook.base.errors import ApplyError
from oci_gpu_hook.entrypoints.mesos import stages
from oci_gpu_hook.oci.container import Container

CONTAINER = Container(
    id="task", pid=os.getpid(), bundle="/b", rootfs="/b/r", root_readonly=False, env=(), mounts=(), annotations={},
    privileged=False, uid=0, gid=0, namespaces=(), uid_mappings=(), gid_mappings=(), cgroups_path="",
    device_rules=(),
)  # fmt: skip


def lives(pid: int) -> bool:
    """Tell whether a process runs: one that nobody has waited for is a zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False


@pytest.mark.root
def test_what_a_late_hook_has_started_ends_with_it(tmp_path):
    """It would go on changing a container that has been refused."""
    mark = tmp_path / "started"
    script = f"sleep 4711 & echo $! >{mark}; wait"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 1}
    with pytest.raises(ApplyError, match="has not ended within 1 s"):
        stages.run({"ociVersion": "1.2.0", "hooks": {"createRuntime": [hook]}}, CONTAINER)
    time.sleep(0.1)
    assert not lives(int(mark.read_text()))

"""What a container reads in /proc/driver/nvidia: its own GPUs, and the order to leave device nodes alone."""

from __future__ import annotations

import pytest

PROC = "/proc/driver/nvidia"


@pytest.mark.parametrize("user_namespace", [False, True], ids=["plain", "userns"])
@pytest.mark.parametrize(("gpus", "indices"), [("all", (0, 1)), ("1", (1,)), ("none", ())])
def test_only_granted_gpus_are_in_procfs(runtime, make_bundle, simulated, gpus, indices, user_namespace):
    bus_ids = [simulated.gpus()[index].bus_id for index in indices]
    asked = [f"list={PROC}/gpus", *(f"read={PROC}/gpus/{bus_id}/information" for bus_id in bus_ids)]
    seen = runtime.run(make_bundle(*asked, gpus=gpus, user_namespace=user_namespace)).seen()
    names = seen[f"list={PROC}/gpus"]
    assert names == "ENOENT" if not indices and isinstance(names, str) else sorted(names) == bus_ids
    for bus_id in bus_ids:
        original = (simulated.proc / "gpus" / bus_id / "information").read_text()
        assert seen[f"read={PROC}/gpus/{bus_id}/information"] == original


@pytest.mark.parametrize("user_namespace", [False, True], ids=["plain", "userns"])
def test_the_drivers_tools_are_told_to_make_no_device_nodes(runtime, make_bundle, simulated, user_namespace):
    asked = (f"read={PROC}/params", f"read={PROC}/version", f"write={PROC}/params")
    seen = runtime.run(make_bundle(*asked, gpus="0", user_namespace=user_namespace)).seen()
    host = (simulated.proc / "params").read_text()
    assert "ModifyDeviceFiles: 1\n" in host
    assert seen[f"read={PROC}/params"] == host.replace("ModifyDeviceFiles: 1\n", "ModifyDeviceFiles: 0\n")
    assert seen[f"read={PROC}/version"] == (simulated.proc / "version").read_text()
    assert seen[f"write={PROC}/params"] in ("EROFS", "EACCES")

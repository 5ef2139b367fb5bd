"""Unit files with any bytes in them: a description sets nothing."""

from __future__ import annotations

import pytest

from oci_gpu_hook.apply.systemd.unit_settings import device_policy


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"], ids=ascii)
def test_a_description_sets_nothing_of_its_unit(tmp_path, separator):
    unit = tmp_path / "run/systemd/transient/a.scope"
    unit.parent.mkdir(parents=True)
    unit.write_text(f"[Scope]\nDevicePolicy=strict\nDescription=x{separator}DevicePolicy=auto\n")
    assert device_policy("a.scope", "none", str(tmp_path))

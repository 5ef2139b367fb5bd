"""What systemd knows of a unit's devices already, by the files that it writes and reads."""

from __future__ import annotations

import pytest

from oci_gpu_hook.apply.systemd import drop_in
from oci_gpu_hook.apply.systemd.unit_settings import allowed_devices
from oci_gpu_hook.apply.systemd.units import NAME

UNIT = "docker-a.scope"
NODES = ((195, 0), (195, 255))
# As runc 1.1 tells systemd 252 the devices of a config.json.
RUNC = "[Scope]\nDeviceAllow=\nDeviceAllow=char-pts rwm\nDeviceAllow=/dev/char/5:2 rwm\n"


@pytest.fixture
def host(tmp_path):
    (tmp_path / f"run/systemd/transient/{UNIT}.d").mkdir(parents=True)
    return tmp_path


def set_property(host, text):
    (host / f"run/systemd/transient/{UNIT}.d/50-DeviceAllow.conf").write_text(text)


@pytest.mark.parametrize(
    ("more", "known"),
    [
        ("", False),
        ("DeviceAllow=/dev/char/195:0 rw\nDeviceAllow=/dev/char/195:255 rwm\n", True),
        ("DeviceAllow=/dev/char/195:0\nDeviceAllow = /dev/char/195:255\n", True),
        ("DeviceAllow=/dev/char/195:0 rw\n", False),
        ("DeviceAllow=/dev/char/195:0 rw\nDeviceAllow=/dev/char/195:255 r\n", False),
        ("DeviceAllow=/dev/char/195:0 rw\nDeviceAllow=/dev/char/195:255 rw\nDeviceAllow=\n", False),
        ("DeviceAllow=char-nvidia rwm\n", False),
    ],
)
def test_what_the_runtime_told(host, more, known):
    set_property(host, RUNC + more)
    assert drop_in.is_known(UNIT, NODES, str(host)) is known


def test_a_drop_in_of_this_project_says_nothing_of_what_systemd_knows(host):
    set_property(host, RUNC)
    drop_in.drop_in(UNIT, NODES, str(host))
    assert drop_in.covers(UNIT, NODES, str(host))
    assert not drop_in.is_known(UNIT, NODES, str(host)), "it may not have read it"


def test_no_unit(tmp_path):
    assert allowed_devices(UNIT, NAME, str(tmp_path)) == {}
    assert not drop_in.is_known(UNIT, NODES, str(tmp_path))

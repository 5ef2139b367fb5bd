"""The record of leases on disk: what is written can be read back."""

from __future__ import annotations

import errno
import os

import pytest

from oci_gpu_hook.allocation.holders import Processes
from oci_gpu_hook.allocation.model import Lease, LeasedDevice, LeaseTable
from oci_gpu_hook.allocation.store import RECORD, Store
from oci_gpu_hook.base import limits


def table(names: int) -> LeaseTable:
    holder = Processes().holder(0)
    assert holder
    devices = (LeasedDevice(whole="GPU-1"),)
    leases = [
        Lease(container=f"{number:06}{'x' * 200}", devices=devices, exclusive=False, holder=holder, since="2026")
        for number in range(names)
    ]
    return LeaseTable(leases=tuple(leases))


def test_a_record_that_could_not_be_read_back_is_not_written(tmp_path):
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    with Store(str(directory), Processes()) as store:
        store.write(table(3))
        with pytest.raises(OSError, match="too large") as raised:
            store.write(table(limits.LEASES // 200))
        assert raised.value.errno == errno.EFBIG
        assert store.read() == table(3)
    assert os.listdir(directory) == [RECORD]

"""Which leases have lasted longer than the configuration wants; pure."""

from __future__ import annotations

import calendar

import pytest

from oci_gpu_hook.allocation.holders import Holder
from oci_gpu_hook.allocation.model import Lease, LeasedDevice
from oci_gpu_hook.allocation.overdue import age, overdue
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.config.toml import parse
from oci_gpu_hook.base.errors import ConfigError

NOON = calendar.timegm((2026, 11, 28, 12, 0, 0))
EIGHT_HOURS = parse('[allocation]\nlongest-hold = "8h"\non-overrun = "detach"')


def lease(since, *, starting=False):
    holder = Holder(pid=1, start_time=2, boot_id="", pid_namespace=0)
    devices = (LeasedDevice(whole="GPU-0"),)
    return Lease(container="c", devices=devices, exclusive=False, holder=holder, since=since, starting=starting)


@pytest.mark.parametrize(
    ("since", "is_late"),
    [
        ("2026-11-28T03:59:59Z", True),
        ("2026-11-28T04:00:00Z", False),
        ("2026-11-28T11:00:00Z", False),
        ("2026-11-28T13:00:00Z", False),  # a clock that was set back
        ("", False),  # a lease from a journal that does not say
        ("yesterday", False),
    ],
)
def test_longer_than_eight_hours(since, is_late):
    assert bool(overdue([lease(since)], EIGHT_HOURS, NOON)) == is_late


def test_without_a_limit_none_is_and_none_that_is_being_made():
    assert overdue([lease("2020-01-01T00:00:00Z")], Config(), NOON) == []
    assert overdue([lease("2020-01-01T00:00:00Z", starting=True)], EIGHT_HOURS, NOON) == []


def test_the_keys():
    assert (EIGHT_HOURS.allocation_longest_hold, EIGHT_HOURS.allocation_on_overrun) == (8 * 3600, "detach")
    for wrong in ('longest-hold = "soon"', 'on-overrun = "kill"', "longest-hold = 8"):
        with pytest.raises(ConfigError):
            parse(f"[allocation]\n{wrong}")


def test_ages():
    assert age("2026-11-28T11:59:00Z", NOON) == 60
    assert age("2026-11-28T12:01:00Z", NOON) == 0
    assert age("", NOON) is None

"""The queue on paper: what an earlier release wrote is read, so that an upgrade loses nobody's place."""

from __future__ import annotations

from typing import Any

from oci_gpu_hook.allocation import lease_table, queue
from oci_gpu_hook.allocation.holders import Holder
from oci_gpu_hook.allocation.model import Claim, LeaseTable, Moment
from oci_gpu_hook.request.model import Request


def test_a_place_without_the_uptime_of_its_beginning_keeps_its_place():
    holder = Holder(pid=1, start_time=1, boot_id="b", pid_namespace=1)
    wish = Request(count=2, driver_capabilities=(), source="environment")
    asked = Claim(container="a", holder=holder, request=wish)
    place, table = queue.enqueue(LeaseTable(), asked, holder, Moment(date="2026-01-01T00:00:00Z", uptime=77))
    assert place.uptime == 77
    written: Any = lease_table.to_json(table)
    assert lease_table.from_json(written) == (table, [])
    del written["queue"][0]["uptime"]
    read, complaints = lease_table.from_json(written)
    assert complaints == []
    assert read.queue == (place.replace(uptime=0),)

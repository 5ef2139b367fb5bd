"""The form of the record: schema and parser agree."""

from __future__ import annotations

import json
import os
from typing import Any

import jsonschema

from oci_gpu_hook.allocation import lease_table
from oci_gpu_hook.allocation.holders import Holder
from oci_gpu_hook.allocation.model import Lease, LeasedDevice, LeaseTable, Waiter
from oci_gpu_hook.base import document
from oci_gpu_hook.devices.nvidia.model import MigDevice
from oci_gpu_hook.request.model import Request
from tests.paths import ROOT
from tests.unit.allocation.leasing import grant, recorded, request, uuid


def schema(name):
    with open(os.path.join(ROOT, "schemas", name)) as file:
        document = json.load(file)
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def a_book():
    holder = Holder(pid=7, start_time=8, boot_id="b", pid_namespace=9)
    mig = MigDevice(index=0, uuid="MIG-1", gpu_instance=1, compute_instance=0, profile="1g.10gb", memory=1,
                    gpu_instance_minor=1, compute_instance_minor=2)  # fmt: skip
    devices = (LeasedDevice(whole=uuid(0)), LeasedDevice(whole=uuid(1), part=mig.uuid))
    lease = Lease(container="a", devices=devices, exclusive=True, holder=holder, since="2026-01-01T00:00:00Z")
    wish = Request(devices=("0",), count=None, memory=1, exclusive=False, driver_capabilities=(), source="queue")
    waiter = Waiter(ticket=3, container="w", holder=holder, request=wish, since="2026-01-01T00:00:00Z")
    return LeaseTable(leases=(lease,), queue=(waiter,), next_ticket=4)


def test_the_record_comes_back_as_it_went():
    book = a_book()
    assert lease_table.from_json(document.parse(document.dump(lease_table.to_json(book)), "record")) == (book, [])


def mutations(value):
    """Return documents that differ from a good one in one place, each wrong."""
    wrongs: tuple[Any, ...] = (None, {}, 1.5, -1, "\0deleted")
    for path in (
        ("version",), ("nextTicket",), ("leases",), ("queue",),
        *(("leases", 0, name) for name in value["leases"][0]),
        *(("queue", 0, name) for name in value["queue"][0] if name != "count"),
        ("leases", 0, "devices", 0, "gpu"),
    ):  # fmt: skip
        for wrong in wrongs:
            copy = json.loads(json.dumps(value))
            place = copy
            for step in path[:-1]:
                place = place[step]
            if wrong == "\0deleted":
                if path[-1] == "uptime":  # optional: release 0.1 wrote none
                    continue
                del place[path[-1]]
            else:
                place[path[-1]] = wrong
            yield f"{path} = {wrong!r}", copy


def test_schema_and_parser_agree():
    good = json.loads(document.dump(lease_table.to_json(a_book())))
    validator = schema("lease-record.schema.json")
    validator.validate(good)
    seen = 0
    for name, wrong in mutations(good):
        assert not validator.is_valid(wrong), name
        assert lease_table.from_json(wrong)[1], name
        seen += 1
    assert seen > 80


def test_a_written_record_is_valid(config, started):
    grant(request(count=2, exclusive=True), started("a"), config)
    schema("lease-record.schema.json").validate(recorded(config))

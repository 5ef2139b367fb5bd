"""The metrics of a look and of counts: named as they are documented, in a form that Prometheus' own parser takes."""

from __future__ import annotations

import json
import re

import pytest
from prometheus_client import parser

from oci_gpu_hook.admin.metering import exposition, families
from oci_gpu_hook.admin.metering.look import Look
from oci_gpu_hook.allocation.holders import Holder as Process
from oci_gpu_hook.allocation.model import Lease, LeasedDevice, LeaseTable, Waiter
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.model import Gpu
from oci_gpu_hook.devices.use import DeviceUse
from oci_gpu_hook.lifecycle import usage
from oci_gpu_hook.lifecycle.census import Census, Resident
from oci_gpu_hook.lifecycle.usage import DeviceView, Holder, Working
from oci_gpu_hook.request.model import Request
from tests.paths import ROOT

GIB = 1 << 30
PROCESS = Process(pid=7, start_time=1, boot_id="b", pid_namespace=1)
COUNTED = {
    "starts 0.01": 3,
    "starts 0.05": 2,
    "starts ": 1,
    "start microseconds": 1_250_000,
    "waits": 2,
    "wait microseconds": 9_000_000,
    "refusals OGH1303": 4,
    "repairs repaired": 1,
}


STANDING = {
    "reservable_memory_bytes": 79 * GIB,
    "reserved_memory_bytes": 8 * GIB,
    "unreserved_memory_bytes": 71 * GIB,
    "reserved_cores_ratio": 0.25,
    "unreserved_cores_ratio": 0.75,
}


def gpu(index, **rest):
    fields = {"index": index, "uuid": f"GPU-{index}", "minor": index, "bus_id": f"0:{index}", "name": "NVIDIA H100"}
    return Gpu(**{**fields, **rest})


def holder(name, memory, **rest):
    working = Working(pid=1, name="python", kind="compute", memory=memory, utilization=25)
    resident = Resident(id=name, pid=7, engine="docker", name='we"b\n\\')
    return Holder(**{"container": resident, "leased": True, "processes": (working,), **rest})


def look():
    memory = 3 * GIB, 80 * GIB
    use = DeviceUse(
        uuid="GPU-0", utilization=50, memory_used=memory[0], memory_total=memory[1], power=312.5, temperature=61
    )
    devices = of_nvidia.of([gpu(0), gpu(1), gpu(2, fault="gone"), gpu(3)])
    twice = (holder("c", GIB, since="2026-01-02T03:04:05Z"), holder("c", 2 * GIB))  # one id, under two runtimes
    held = DeviceView(device=devices[0], use=use, holders=twice)
    alone = DeviceView(device=devices[1], holders=(holder("d\udc80\x1b[31m", None, exclusive=True),))
    outside = (Working(pid=9, name="x", kind="compute", memory=5),)
    loose = DeviceView(device=devices[3], use=DeviceUse(uuid="GPU-3"), outside=outside)
    leased = (LeasedDevice(whole="GPU-0"),)
    lease = Lease(container="c", devices=leased, exclusive=False, holder=PROCESS, since="")
    wish = Request(count=1, driver_capabilities=(), source="environment")
    waiter = Waiter(ticket=1, container="w", holder=PROCESS, request=wish, since="", uptime=100)
    table = LeaseTable(leases=(lease,), queue=(waiter,))
    views = (held, alone, DeviceView(device=devices[2]), loose)
    return Look(views=views, table=table, metered=True, whole=True, driver_version="580.1")


def samples(made):
    """Return what Prometheus' parser reads from the text."""
    text = exposition.text(made).decode()
    found = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found, "Prometheus takes no metrics at all if two have the same name and labels"
            found[key] = sample.value
    return found


def value(found, name, /, **labels):
    chosen = [
        number for (key, *pairs), number in found.items() if key == f"oci_gpu_{name}" and labels.items() <= {*pairs}
    ]
    assert len(chosen) == 1, (name, labels, chosen)
    return chosen[0]


def test_what_is_seen():
    found = samples(families.of(look(), COUNTED, uptime=160))
    assert {state: value(found, "devices", state=state) for state in families.STATES} == {
        "free": 0,
        "shared": 1,
        "exclusive": 1,
        "unleased": 1,
        "faulty": 1,
    }
    assert value(found, "device_utilization_ratio") == 0.5
    assert value(found, "device_power_watts", device="0", uuid="GPU-0") == 312.5
    assert value(found, "device_healthy", device="2") == 0
    assert value(found, "container_memory_used_bytes", container="c", name='we"b\\n\\', engine="docker") == 3 * GIB
    assert value(found, "container_utilization_ratio", container=r"d\udc80\x1b[31m") == 0.25
    assert exposition.text(families.of(look(), COUNTED, 0)).decode().replace("\n", "").isprintable()
    assert value(found, "lease_start_time_seconds", container="c") == 1767323045
    assert value(found, "outside_processes", device="3") == 1
    assert value(found, "outside_memory_used_bytes", device="3") == 5
    assert value(found, "waiting_containers") == 1
    assert value(found, "longest_wait_seconds") == 60
    assert value(found, "leases", exclusive="false") == 1


def test_parts_and_what_is_left_of_devices():
    (device,) = of_nvidia.of([gpu(0, memory=80 * GIB)], reserve=GIB)
    lease = Lease(
        container="c", devices=(LeasedDevice(whole="GPU-0", memory=8 * GIB, cores=25),), exclusive=False,
        holder=PROCESS, since="",
    )  # fmt: skip
    beside = Lease(container="d", devices=(LeasedDevice(whole="GPU-0"),), exclusive=False, holder=PROCESS, since="")
    census = Census(Config(state_dir="/nonexistent"))
    views = usage.view([device], {}, [lease, beside], census)
    seen = Look(views=views, table=LeaseTable(leases=(lease, beside)), metered=False, whole=True)
    found = samples(families.of(seen, {}, uptime=0))
    assert {name: value(found, f"device_{name}", device="0", uuid="GPU-0") for name in STANDING} == STANDING
    assert value(found, "container_reserved_memory_bytes") == 8 * GIB, "the one without limits has no sample"
    assert value(found, "container_reserved_cores_ratio", container="c") == 0.25
    exclusive = lease.replace(exclusive=True)
    views = usage.view([device], {}, [exclusive], census)
    seen = Look(views=views, table=LeaseTable(leases=(exclusive,)), metered=False, whole=True)
    found = samples(families.of(seen, {}, uptime=0))
    assert value(found, "device_unreserved_memory_bytes") == value(found, "device_unreserved_cores_ratio") == 0


def test_what_was_counted():
    found = samples(families.of(None, COUNTED, uptime=0))
    assert value(found, "start_duration_seconds_bucket", le="0.01") == 3
    assert value(found, "start_duration_seconds_bucket", le="0.025") == 3
    assert value(found, "start_duration_seconds_bucket", le="10") == 5
    assert value(found, "start_duration_seconds_bucket", le="+Inf") == value(found, "start_duration_seconds_count") == 6
    assert value(found, "start_duration_seconds_sum") == 1.25
    assert (value(found, "wait_duration_seconds_sum"), value(found, "wait_duration_seconds_count")) == (9, 2)
    assert value(found, "refusals_total", code="OGH1303") == 4
    assert value(found, "repairs_total", result="repaired") == 1


def test_what_cannot_be_read_is_not_zero():
    found = samples(families.of(None, {}, uptime=0))
    assert {source: value(found, "source_up", source=source) for source in ("leases", "nvml")} == {
        "leases": 0,
        "nvml": 0,
    }
    assert not [key for key in found if key[0] in ("oci_gpu_leases", "oci_gpu_devices", "oci_gpu_waiting_containers")]


def test_every_metric_is_documented_as_it_is():
    text = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(oci_gpu_\w+)` \| (\w+) \|", text, re.MULTILINE)
    assert rows == [(family.name, family.kind) for family in families.of(look(), COUNTED, uptime=0)]


def names_in(query):
    return set(re.findall(r"oci_gpu_\w+", query))


def test_documents_and_dashboard_name_what_there_is():
    known = {key[0] for key in samples(families.of(look(), COUNTED, uptime=0))} | {
        family.name for family in families.of(look(), COUNTED, uptime=0)
    }
    dashboard = (ROOT / "docs/grafana-dashboard.json").read_text()
    assert {*names_in(dashboard)} <= known
    assert {*names_in((ROOT / "docs/metrics.md").read_text())} <= known
    panels = json.loads(dashboard)["panels"]
    assert len(panels) > 10
    assert all(target["expr"] for panel in panels for target in panel["targets"])


def labels_of(found):
    """The labels of each metric; Prometheus adds the instance."""
    known: dict[str, set[str]] = {}
    for name, *pairs in found:
        known.setdefault(name, {"instance"}).update(label for label, _ in pairs)
    return known


def test_the_dashboard_asks_by_labels_that_there_are():
    known = labels_of(samples(families.of(look(), COUNTED, uptime=0)))
    panels = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())["panels"]
    asked = 0
    for target in (target for panel in panels for target in panel["targets"]):
        query = target["expr"]
        names = names_in(query)
        common = set.intersection(*(known[name] for name in names))
        for name, selector in re.findall(r"(oci_gpu_\w+)\{([^}]*)\}", query):
            assert {*re.findall(r"(\w+)\s*[=!]", selector)} <= known[name], query
        kept = [{*re.split(r",\s*", inside)} for inside in re.findall(r"\bby \(([^)]*)\)", query)]
        assert all(by <= common for by in kept), query
        shown = {*re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat", ""))}
        assert shown <= (set.intersection(*kept) if kept else common), query
        asked += len(names)
    assert asked > 20


@pytest.mark.parametrize("kind", ["gauge", "counter", "histogram", "summary"])
def test_there_is_one_of_each_type(kind):
    assert any(family.kind == kind for family in families.of(look(), COUNTED, uptime=0))

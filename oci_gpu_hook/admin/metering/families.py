"""The metrics: from a look at the host and its counts to families of samples. Pure but for the names of this version.

Names, units and suffixes follow Prometheus, "Metric and label naming"; docs/metrics.md has the table of them.
"""

from __future__ import annotations

import time
from calendar import timegm

from oci_gpu_hook import __version__
from oci_gpu_hook.admin.metering.look import product_of
from oci_gpu_hook.base import counts
from oci_gpu_hook.base.errors import one_line
from oci_gpu_hook.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Final

    from oci_gpu_hook.admin.metering.look import Look
    from oci_gpu_hook.allocation.model import LeaseTable
    from oci_gpu_hook.allocation.shares import Standing
    from oci_gpu_hook.lifecycle.usage import DeviceView, Holder

    Labels = tuple[tuple[str, str], ...]
    # Suffix of the name, labels, value.
    Sample = tuple[str, Labels, float]

GAUGE: Final = "gauge"
COUNTER: Final = "counter"
HISTOGRAM: Final = "histogram"
SUMMARY: Final = "summary"
STATES: Final = ("free", "shared", "exclusive", "unleased", "faulty")
_PERCENT: Final = 100
_MICRO: Final = 1_000_000


class Family(Record):
    """The samples of one name. No two have the same suffix and labels: Prometheus would take none of them."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


def of(look: Look | None, counted: Mapping[str, int], uptime: int) -> tuple[Family, ...]:
    """Return all metrics. look: None if neither driver nor leases can be read. uptime: of the machine, in seconds."""
    views = look.views if look else ()
    table = look.table if look else None
    sources = [("leases", look is not None and look.whole)]
    if look is None or look.nvidia:
        sources.append(("nvml", look is not None and look.metered))
    driver = look.driver_version if look else ""
    return (
        _family("build_info", GAUGE, "This version, and the driver's.", [_info(version=__version__, driver=driver)]),
        _family(
            "source_up",
            GAUGE,
            "Whether what the other metrics are made from could be read.",
            [(_labels(source=name), float(up)) for name, up in sources],
        ),
        *(_of_devices(views) if table is not None else ()),
        *_of_use(views),
        *(_of_leases(views, table, uptime) if table is not None else ()),
        *_of_containers(views),
        *_of_counts(counted),
    )


def _of_devices(views: Sequence[DeviceView]) -> Iterator[Family]:
    states = [_state(view) for view in views if not view.device.parts]
    samples = [(_labels(state=state), float(states.count(state))) for state in STATES]
    yield _family("devices", GAUGE, "GPUs, or MIG devices where a GPU is divided, by what they are held by.", samples)


def _state(view: DeviceView) -> str:
    leased = [holder for holder in view.holders if holder.leased]
    if view.device.fault:
        return "faulty"
    if leased:
        return "exclusive" if any(holder.exclusive for holder in leased) else "shared"
    return "unleased" if view.holders or view.outside else "free"


def _of_use(views: Sequence[DeviceView]) -> Iterator[Family]:
    infos = []
    for view in views:
        device = view.device
        what = {"parent": device.whole, "profile": device.profile, "product": product_of(device)}
        infos.append(_info(device=device.name, uuid=device.uuid, kind=device.kind, **what))
    yield _family("device_info", GAUGE, "What a device is.", infos)
    healthy = [(_place(view), float(not view.device.fault)) for view in views]
    yield _family("device_healthy", GAUGE, "Whether the device works, so that containers can get it.", healthy)
    figures: tuple[tuple[str, str, Callable[[DeviceView], float | None]], ...] = (
        ("utilization_ratio", "Part of the time in which a kernel ran.", _ratio(lambda use: use.utilization)),
        (
            "memory_utilization_ratio",
            "Part of the time in which memory was read or written.",
            _ratio(lambda use: use.memory_utilization),
        ),
        ("memory_used_bytes", "Memory in use.", _figure(lambda use: use.memory_used)),
        ("memory_size_bytes", "Memory that the device has.", _figure(lambda use: use.memory_total)),
        ("power_watts", "Power drawn.", _figure(lambda use: use.power)),
        ("power_limit_watts", "Power that the driver allows.", _figure(lambda use: use.power_limit)),
        ("temperature_celsius", "Temperature.", _figure(lambda use: use.temperature)),
    )
    for name, meaning, figure in figures:
        found = [(_place(view), figure(view)) for view in views]
        yield _family(f"device_{name}", GAUGE, meaning, [(labels, one) for labels, one in found if one is not None])


def _of_leases(views: Sequence[DeviceView], table: LeaseTable, uptime: int) -> Iterator[Family]:
    exclusive = sum(lease.exclusive for lease in table.leases)
    numbers = (("true", exclusive), ("false", len(table.leases) - exclusive))
    samples = [(_labels(exclusive=word), float(number)) for word, number in numbers]
    yield _family("leases", GAUGE, "Containers that hold devices.", samples)
    since = [
        ((*_place(view), *_container(holder)), float(start))
        for view, holder in _holders(views)
        if holder.leased and (start := _seconds(holder.since))
    ]
    yield _family("lease_start_time_seconds", GAUGE, "When a container got a device, since 1970.", since)
    yield from _of_parts(views)
    yield _family("waiting_containers", GAUGE, "Containers that wait for devices.", [((), float(len(table.queue)))])
    longest = max((uptime - waiter.uptime for waiter in table.queue), default=0)
    yield _family("longest_wait_seconds", GAUGE, "How long the first of them waits.", [((), float(max(longest, 0)))])


def _of_parts(views: Sequence[DeviceView]) -> Iterator[Family]:
    """Yield what is reserved by containers that have parts of devices, and what others can still have."""
    standing = [(_place(view), view.standing) for view in views if view.standing]
    figures: tuple[tuple[str, str, Callable[[Standing], float]], ...] = (
        ("reservable_memory_bytes", "Memory that parts can have together.", lambda one: one.memory),
        ("reserved_memory_bytes", "Memory that containers have reserved.", lambda one: one.memory_reserved),
        ("unreserved_memory_bytes", "Memory that a container could reserve now.", lambda one: one.memory_left),
        ("reserved_cores_ratio", "Part of the cores that is reserved.", lambda one: one.cores_reserved / _PERCENT),
        ("unreserved_cores_ratio", "Part of the cores that could be reserved.", lambda one: one.cores_left / _PERCENT),
    )
    for name, meaning, figure in figures:
        yield _family(f"device_{name}", GAUGE, meaning, [(labels, float(figure(one))) for labels, one in standing])
    parts = [((*_place(view), *_container(one)), one) for view, one in _holders(views) if one.is_share]
    memory = [(labels, float(one.reserved_memory)) for labels, one in parts if one.reserved_memory]
    yield _family("container_reserved_memory_bytes", GAUGE, "Memory of a device that a container has reserved.", memory)
    cores = [(labels, one.reserved_cores / _PERCENT) for labels, one in parts if one.reserved_cores]
    yield _family("container_reserved_cores_ratio", GAUGE, "Part of a device's cores that it has reserved.", cores)


def _of_containers(views: Sequence[DeviceView]) -> Iterator[Family]:
    each = [((*_place(view), *_container(holder)), holder) for view, holder in _holders(views)]
    memory = [(labels, float(one.memory)) for labels, one in each if one.memory is not None]
    yield _family("container_memory_used_bytes", GAUGE, "Memory of a device that a container has.", memory)
    used = [(labels, one.utilization / _PERCENT) for labels, one in each if one.utilization is not None]
    meaning = "Part of a device's multiprocessors that a container keeps busy."
    yield _family("container_utilization_ratio", GAUGE, meaning, used)
    processes = [(labels, float(len(one.processes))) for labels, one in each]
    yield _family("container_processes", GAUGE, "Processes of a container that use a device.", processes)
    outside = [(_place(view), float(len(view.outside))) for view in views if view.use]
    yield _family("outside_processes", GAUGE, "Processes in no container that use a device.", outside)
    held = [(_place(view), float(sum(one.memory or 0 for one in view.outside))) for view in views if view.use]
    yield _family("outside_memory_used_bytes", GAUGE, "Memory of a device that processes in no container have.", held)


def _of_counts(counted: Mapping[str, int]) -> Iterator[Family]:
    bounds = [*((bound, counted.get(f"{counts.STARTS} {bound}", 0)) for bound in counts.BOUNDS)]
    bounds.append(("+Inf", counted.get(f"{counts.STARTS} ", 0)))
    total, buckets = 0, []
    for bound, number in bounds:
        total += number
        buckets.append(("_bucket", _labels(le=bound), float(total)))
    seconds = counted.get(counts.START_TIME, 0) / _MICRO
    yield Family(
        name="oci_gpu_start_duration_seconds",
        kind=HISTOGRAM,
        help="Time that containers' starts took in the hook, without waits for devices.",
        samples=(*buckets, ("_sum", (), seconds), ("_count", (), float(total))),
    )
    waited = counted.get(counts.WAIT_TIME, 0) / _MICRO
    yield Family(
        name="oci_gpu_wait_duration_seconds",
        kind=SUMMARY,
        help="Time that containers waited for devices before they got them.",
        samples=(("_sum", (), waited), ("_count", (), float(counted.get(counts.WAITS, 0)))),
    )
    refusals = _counted(counted, counts.REFUSALS, "code")
    yield _family("refusals_total", COUNTER, "Containers that were not started, by the error's code.", refusals)
    repairs = _counted(counted, counts.REPAIRS, "result")
    yield _family("repairs_total", COUNTER, "Repairs of running containers.", repairs)


def _counted(counted: Mapping[str, int], kind: str, label: str) -> list[tuple[Labels, float]]:
    found = sorted(
        (name.removeprefix(f"{kind} "), number)
        for name, number in counted.items()
        if name[: len(kind) + 1] == f"{kind} "
    )
    return [(((label, word),), float(number)) for word, number in found]


def _family(name: str, kind: str, meaning: str, samples: Iterable[tuple[Labels, float]]) -> Family:
    """Return a family of gauges or counters. Samples of two containers that are called the same are added."""
    added: dict[Labels, float] = {}
    for labels, value in samples:
        added[labels] = (
            max(added.get(labels, 0.0), value) if name.endswith("time_seconds") else added.get(labels, 0.0) + value
        )
    return Family(
        name=f"oci_gpu_{name}",
        kind=kind,
        help=meaning,
        samples=tuple([("", labels, value) for labels, value in added.items()]),
    )


def _holders(views: Sequence[DeviceView]) -> Iterator[tuple[DeviceView, Holder]]:
    for view in views:
        for holder in view.holders:
            yield view, holder


def _place(view: DeviceView) -> Labels:
    return _labels(device=view.device.name, uuid=view.device.uuid)


def _container(holder: Holder) -> Labels:
    one = holder.container
    return _labels(container=one_line(one.id), engine=one.engine, name=one_line(one.name), pod=one_line(one.pod))


def _figure(of_use: Callable[..., float | None]) -> Callable[[DeviceView], float | None]:
    return lambda view: of_use(view.use) if view.use else None


def _ratio(of_use: Callable[..., int | None]) -> Callable[[DeviceView], float | None]:
    def ratio(view: DeviceView) -> float | None:
        percent = of_use(view.use) if view.use else None
        return None if percent is None else percent / _PERCENT

    return ratio


def _info(**labels: str) -> tuple[Labels, float]:
    return _labels(**labels), 1.0


def _labels(**labels: str) -> Labels:
    return tuple(labels.items())


def _seconds(date: str) -> int:
    """Return an RFC 3339 date as seconds since 1970, 0 for none."""
    try:
        return timegm(time.strptime(date, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return 0

"""For tests of leases: a host, containers, grants, and what the record has."""

from __future__ import annotations

import json
import os
import threading
import time

from oci_gpu_hook.allocation import allocate as story
from oci_gpu_hook.allocation import query
from oci_gpu_hook.base.errors import AllocationError
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.model import Gpu
from oci_gpu_hook.oci.container import Container
from oci_gpu_hook.request.model import Request


def uuid(index):
    return f"GPU-{index:08x}-aaaa-bbbb-cccc-0123456789ab"


def host(size):
    gpus = (
        Gpu(index=i, uuid=uuid(i), minor=i, bus_id=f"00000000:{i + 6:02x}:00.0", memory=80 << 30) for i in range(size)
    )
    return of_nvidia.of(gpus)


HOST = host(4)


def request(*devices, **fields):
    return Request(devices=devices, driver_capabilities=("compute",), source="environment", **fields)


def bundle(name, pid):
    return Container(
        id=name, pid=pid, bundle="/bundle", rootfs="/bundle/rootfs", root_readonly=False, env=(), mounts=(),
        annotations={}, privileged=False, uid=0, gid=0, namespaces=(), uid_mappings=(), gid_mappings=(),
        cgroups_path="", device_rules=(),
    )  # fmt: skip


def grant(wish, container, config, inventory=HOST):
    return [device.index for device in story.allocate(wish, inventory, container, config)]


def recorded(config):
    with open(os.path.join(config.state_dir, "leases.json")) as file:
        return json.load(file)


def holders(config):
    return {lease.container: [device.uuid for device in lease.devices] for lease in query.current(config).leases}


def kept_aside(config):
    return [name for name in os.listdir(config.state_dir) if ".corrupt-" in name]


def edit(config, change):
    record = recorded(config)
    for lease in record["leases"]:
        change(lease)
    with open(os.path.join(config.state_dir, "leases.json"), "w") as file:
        json.dump(record, file)


def in_background(results, name, wish, container, config, inventory=HOST):
    def run():
        try:
            results.append((name, grant(wish, container, config, inventory)))
        except AllocationError as error:
            results.append((name, str(error)))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def queue(config):
    return [waiter.container for waiter in query.current(config).queue]


def as_text(text):
    def write(path):
        with open(path, "wb") as file:
            file.write(text)

    return write

"""The worst input that each limit lets through, given to its reader: under a second, and under 64 MiB of memory.

Each is tried in a process of its own. `worst` makes the input, which is not counted; `read` is what is measured: of the
reader's memory what it needs at its peak beyond what it has had before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from oci_gpu_hook.base import limits

SECONDS = 1.0
MEMORY = 64 << 20
REPOSITORY = Path(__file__).parents[2]

_PRELUDE = """
import gc, os, resource, sys, time
sys.path.insert(0, {repository!r})
from oci_gpu_hook.base import document, limits
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import HookError
gc.disable()  # as the hook does
directory = sys.argv[1]
kept = []

def container(env=(), annotations=None, mounts=()):
    from oci_gpu_hook.oci.container import State, parse_config
    config = {{"process": {{"env": list(env)}}, "root": {{"path": "r"}}, "mounts": list(mounts)}}
    config["annotations"] = annotations or {{}}
    data = document.dump(config)
    assert len(data) <= limits.CONFIG_JSON, len(data)
    return parse_config(data, State(id="c", pid=1, bundle="/b", root="", annotations={{}}))

def request(config=Config(), **options):
    from oci_gpu_hook.request import parse
    def read(options=options):
        reading = parse.read(container(**options), config)
        assert len(reading.warnings) <= limits.WARNINGS + 1
    return read

def parsed(head, item, tail, most):
    "JSON of so many bytes at most, and of as many values as are taken."
    room = limits.JSON_ITEMS - sum(head.count(each) for each in b",[{{") - 1
    number = min(room // sum(item.count(each) for each in b",[{{"), (most - len(head) - len(tail)) // len(item))
    return head + item * (number - 1) + item.rstrip(b",") + tail

def written(name, data):
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o600)
    return path
"""

_MEASURE = """
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

def now():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak is counted from here
before, started = now(), time.process_time()
outcome = "read"
try:
    read()
except HookError as error:
    outcome = str(error)
except (ValueError, OSError) as error:
    outcome = repr(error)
import json
print(json.dumps([time.process_time() - started, peak() - before, outcome[:2000]]))
"""

# What is tried: limits that it is about, code that makes the worst input and binds `read`, and what comes of it.
JSON = ("JSON_ITEMS",)
WORST = {
    "resources of an update": (
        ("UPDATE", *JSON),
        """
        from oci_gpu_hook.entrypoints import runtime_update
        rule = b'{"allow":true,"access":"rw"},'
        path = written("resources", parsed(b'{"devices": [', rule, b"]}", limits.UPDATE))
        update = runtime_update.read_update(["update", "--resources", path, "c"])
        runtime_update._granted = lambda *_: [{"allow": True, "type": "c", "major": 1, "minor": n} for n in range(64)]
        read = lambda: runtime_update._merged(runtime_update._read_again(path), update, "/runtime")
        """,
        "read",
    ),
    "an engine's list of containers": (
        ("ENGINE_RECORD", *JSON),
        """
        from oci_gpu_hook.oci import engine_records
        os.makedirs(directory + "/overlay-containers")
        record = b'{"id":"x","image":"' + b"a" * 64 + b'"},'
        written("overlay-containers/containers.json", parsed(b"[", record, b"]", limits.ENGINE_RECORD))
        read = lambda: engine_records._of_containers_storage(directory, "overlay", "c")
        """,
        "read",
    ),
    "names of a pod": (
        ("POD_NAME", "CONFIG_JSON"),
        """
        from oci_gpu_hook.oci import pod
        name = "n" * (1 << 20)
        keys = ("sandbox-namespace", "sandbox-name", "container-name")
        found = container(annotations={"io.kubernetes.cri." + key: name for key in keys}).annotations
        def read():
            assert 0 < len(pod.description(found)) <= limits.POD_NAME
        """,
        "read",
    ),
    "state of empty lists": (
        ("STATE", *JSON),
        """
        from oci_gpu_hook.oci.container import read_state
        data = parsed(b'{"bundle": "/b", "x": [', b"[],", b"]}", limits.STATE)
        read = lambda: read_state(data)
        """,
        "read",
    ),
    "config.json of objects": (
        ("CONFIG_JSON", *JSON),
        """
        from oci_gpu_hook.oci.container import State, parse_config
        data = parsed(b'{"process": {}, "root": {"path": "r"}, "x": [', b'{"a":{}},', b"]}", limits.CONFIG_JSON)
        state = State(id="c", pid=1, bundle="/b", root="", annotations={})
        read = lambda: parse_config(data, state)
        """,
        "read",
    ),
    "config.json of wide letters": (
        ("CONFIG_JSON", *JSON),
        """
        from oci_gpu_hook.oci.container import State, parse_config
        head = '{"process": {"env": ["A=\U0001f600'.encode()
        tail = b'"]}, "root": {"path": "r"}}'
        data = head + b"x" * (limits.CONFIG_JSON - len(head) - len(tail)) + tail
        state = State(id="c", pid=1, bundle="/b", root="", annotations={})
        read = lambda: parse_config(data, state)
        """,
        "read",
    ),
    "config.json of mounts": (
        ("CONFIG_JSON", *JSON),
        """
        from oci_gpu_hook.oci.container import State, parse_config
        data = b'{"process": {}, "root": {"path": "r"}, "mounts": [' + b"{}," * (limits.JSON_ITEMS // 2 - 8) + b"{}]}"
        state = State(id="c", pid=1, bundle="/b", root="", annotations={})
        read = lambda: parse_config(data, state)
        """,
        "read",
    ),
    "config.json of device rules": (
        ("CONFIG_JSON", *JSON),
        """
        from oci_gpu_hook.oci.container import State, parse_config
        head = b'{"process": {}, "root": {"path": "r"}, "linux": {"resources": {"devices": ['
        data = head + b"{}," * (limits.JSON_ITEMS // 2 - 8) + b"{}]}}}"
        state = State(id="c", pid=1, bundle="/b", root="", annotations={})
        read = lambda: parse_config(data, state)
        """,
        "read",
    ),
    "config.json of rules, prepared and restored": (
        ("IMEX_CHANNELS", *JSON),
        """
        from oci_gpu_hook.apply import bundle
        from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode
        from oci_gpu_hook.request.model import PREPARED
        place = "/dev/nvidia-caps-imex-channels/channel"
        nodes = [
            DeviceNode(path=f"{place}{n}", host_path=f"{place}{n}", major=500, minor=n, file_mode=0o666, uid=0, gid=0)
            for n in range(limits.IMEX_CHANNELS)
        ]
        rules = [{"allow": True, "type": "c", "major": 1, "minor": n, "access": "rw"} for n in range(20_000)]
        note = {"devices": [f"/{n}" for n in range(9_000)], "rules": [[2, n] for n in range(9_000)], "groups": []}
        config = {"process": {}, "linux": {"resources": {"devices": rules}}}
        config["annotations"] = {PREPARED: document.dump(note).decode()}
        edits = ContainerEdits(device_nodes=tuple(nodes))
        grant = bundle.Grant(uuids=("GPU-1",), edits=edits, hook="/hook", user_namespace=False)
        def read():
            assert bundle.restore(config)
            bundle.prepare(config, grant)
            assert len(rules) < len(config["linux"]["resources"]["devices"])
        """,
        "read",
    ),
    "config.json that is nested": (
        JSON,
        """
        read = lambda: document.parse(b"[" * (limits.JSON_ITEMS - 1), "x")
        """,
        "nested too deeply",
    ),
    "config.json that is searched": (
        ("CONFIG_JSON_SEARCHED", "CONFIG_JSON_ESCAPES"),
        """
        from oci_gpu_hook.oci.container import read_config
        from oci_gpu_hook.request.prefilter import may_ask
        escapes = b"\\\\u003c" * limits.CONFIG_JSON_ESCAPES
        written("config.json", escapes.ljust(limits.CONFIG_JSON_SEARCHED))
        read = lambda: may_ask(read_config(directory), b"")
        """,
        "read",
    ),
    "a list of devices": (
        ("LISTED",),
        """
        read = request(env=["NVIDIA_VISIBLE_DEVICES=" + ",".join(f"gpu{n}" for n in range(limits.LISTED))])
        """,
        "read",
    ),
    "a list of devices that is too long": (
        ("LISTED",),
        """
        read = request(env=["NVIDIA_VISIBLE_DEVICES=" + "gpu0," * (limits.JSON_ITEMS - 100)])
        """,
        "lists more than 4096 items",
    ),
    "one device of a very long name": (
        ("LISTED",),
        """
        read = request(env=["NVIDIA_VISIBLE_DEVICES=" + "x" * (limits.CONFIG_JSON - 200)])
        """,
        "cannot be the name of a device",
    ),
    "names of CDI": (
        ("LISTED",),
        """
        names = ",".join(f"nvidia.com/gpu={n}" for n in range(limits.LISTED))
        read = request(annotations={"cdi.k8s.io/x": names})
        """,
        "read",
    ),
    "annotations of CDI": (
        ("LISTED", "WARNINGS"),
        """
        read = request(annotations={f"cdi.k8s.io/{n}": "a/b=c," * 9 for n in range(19_000)})
        """,
        "lists more than 4096 items",
    ),
    "annotations that warn": (
        ("WARNINGS",),
        """
        read = request(annotations={f"io.oci-gpu-hook.{n}": "" for n in range(100_000)})
        """,
        "read",
    ),
    "variables that warn": (
        ("WARNINGS",),
        """
        read = request(env=[f"a{n}" for n in range(190_000)])
        """,
        "read",
    ),
    "mounts of devices": (
        ("LISTED",),
        """
        place = "/var/run/nvidia-container-devices/"
        mounts = [{"source": "/dev/null", "destination": f"{place}GPU-{n}"} for n in range(30_000)]
        read = request(Config(accept_volume_mounts=True), mounts=mounts)
        """,
        "lists more than 4096 items",
    ),
    "IMEX channels": (
        ("IMEX_CHANNELS",),
        """
        channels = ",".join(f"channel{n}" for n in range(limits.IMEX_CHANNELS))
        read = request(env=["NVIDIA_VISIBLE_DEVICES=0", f"NVIDIA_IMEX_CHANNELS={channels}"])
        """,
        "read",
    ),
    "capabilities": (
        ("LISTED",),
        """
        read = request(env=["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=" + "utility," * 190_000])
        """,
        "lists more than 4096 items",
    ),
    "a version of CUDA": (
        ("CUDA_VERSION",),
        """
        read = request(env=["CUDA_VERSION=12." + "9" * 4_000_000])
        """,
        "is not a version of CUDA",
    ),
    "requirements": (
        ("REQUIREMENTS",),
        """
        from oci_gpu_hook.devices.nvidia.requirements import Host, unsatisfied
        text = ("driver>=1.1," * (limits.REQUIREMENTS // 12))[:-1]
        host = Host(driver="580.95.05", cuda="13.0")
        def read():
            request(env=["NVIDIA_VISIBLE_DEVICES=0", f"NVIDIA_REQUIRE_X={text}"])()
            for gpu in range(8):
                assert unsatisfied(text, host) is None
        """,
        "read",
    ),
    "requirements that are too long": (
        ("REQUIREMENTS",),
        """
        env = [f"NVIDIA_REQUIRE_{n}=cuda>=1.0" for n in range(60_000)]
        read = request(env=["NVIDIA_VISIBLE_DEVICES=0", *env])
        """,
        "have together more than",
    ),
    "a volume": (
        ("VOLUME_LEVELS", "VOLUME_PATH"),
        """
        from oci_gpu_hook.devices.nvidia.settings import said
        from oci_gpu_hook.devices.nvidia.volume import asked
        read = lambda: asked(*said(container(env=["OCI_GPU_VOLUME=" + "/a" * 1_000_000]), "volume"))
        """,
        "has more than 32 directories",
    ),
    "an ld cache of entries": (
        ("LD_CACHE", "LD_CACHE_ENTRIES", "LD_CACHE_STRING"),
        """
        from oci_gpu_hook.base.formats import ldcache
        from tests.unit.base.formats.test_hostile_files import MOST_FILLED
        from struct import pack
        count = MOST_FILLED
        strings = b"libz.so.1\\0" + b"/" + b"y" * 4000 + b"\\0"
        base = 48 + count * 24
        entries = pack("<IIIIQ", 0x303, base, base + 10, 0, 0) * count
        head = b"glibc-ld.so.cache1.1" + pack("<II", count, len(strings)) + bytes(20)
        data = head + entries + strings
        data += b"\\0" * max(0, limits.LD_CACHE - len(data) - 100_000)
        names = [f"libcuda{n}.so.1" for n in range(99)]
        added = [ldcache.Entry(name=name, path=f"/usr/lib/{name}", flags=0x303) for name in names]
        read = lambda: ldcache.remove(ldcache.merge(data, added), {each.path for each in added})
        """,
        "read",
    ),
    "an ld cache of strings that nothing refers to": (
        ("LD_CACHE", "LD_CACHE_STRING"),
        """
        from oci_gpu_hook.base.formats import ldcache
        from struct import pack
        strings = b"libz.so.1\\0/libz.so.1\\0"
        strings += b"u" * (limits.LD_CACHE - 48 - 24 - len(strings) - 1) + b"\\0"
        data = b"glibc-ld.so.cache1.1" + pack("<II", 1, len(strings)) + bytes(20) + pack("<IIIIQ", 0x303, 72, 82, 0, 0)
        def read():
            merged = ldcache.merge(data + strings, [ldcache.Entry(name="liba.so", path="/liba.so", flags=0x303)])
            assert len(merged) < 4096, "strings that nothing refers to"
        """,
        "read",
    ),
    "an image of an odd loader": (
        ("LOADER", "MUSL_PATHS", "SEARCH_PATH"),
        """
        from oci_gpu_hook.apply import image_facts
        from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
        from oci_gpu_hook.oci.image import MACHINE
        from oci_gpu_hook.request.model import DEFAULT_KIND
        os.makedirs(f"{directory}/etc")
        for loader in ("lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1", f"lib/ld-musl-{MACHINE}.so.1"):
            os.makedirs(f"{directory}/{os.path.dirname(loader)}", exist_ok=True)
            written(loader, b"a/etc/ld.so.cache\\0".ljust(18, b"x") * (limits.LOADER // 18))
        written(f"etc/ld-musl-{MACHINE}.path", b"/a\\n" * (limits.MUSL_PATHS // 3))
        asking = container(env=["LD_LIBRARY_PATH=" + "/a:" * 1_300_000])
        def read():
            with Rootfs(os.open(directory, os.O_PATH)) as rootfs:
                image_facts.look(rootfs, asking, Config(), DEFAULT_KIND)
        """,
        "read",
    ),
    "a directory of links to one odd library": (
        ("COMPAT_LIBRARIES", "DIRECTORY_NAMES", "ELF_TABLE", "ELF_NOTES", "ELF_SEGMENTS", "ELF_SECTIONS"),
        """
        from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
        from oci_gpu_hook.devices.nvidia import image_facts
        from tests.attack.traps import odd_library
        compat = os.path.join(directory, "usr/local/cuda/compat")
        os.makedirs(compat)
        with open(f"{compat}/libcuda.so.1.0", "wb") as file:
            file.write(odd_library())
        for number in range(1, limits.DIRECTORY_NAMES):
            os.link(f"{compat}/libcuda.so.1.0", f"{compat}/libcuda.so.1.{number}")
        def read():
            with Rootfs(os.open(directory, os.O_PATH)) as rootfs:
                image_facts.look(rootfs, container(), Config())
        """,
        "read",
    ),
    "a loader that almost reads the cache": (
        ("LOADER", "MUSL_PATHS"),
        """
        from oci_gpu_hook.apply import image_facts
        from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
        os.makedirs(f"{directory}/lib64")
        os.makedirs(f"{directory}/lib")
        os.makedirs(f"{directory}/etc")
        almost = b"x" + image_facts._CACHE_PATH
        for loader in (image_facts._LOADER, image_facts._MUSL_LOADER):
            written(loader[1:], almost * (limits.LOADER // len(almost)))
        written(f"etc/ld-musl-{image_facts.MACHINE}.path", b"/a:" * (limits.MUSL_PATHS // 3))
        def read():
            with Rootfs(os.open(directory, os.O_PATH)) as rootfs:
                image = image_facts.look(rootfs, container(), Config(), "nvidia.com/gpu")
                assert (image.libc, len(image.warnings)) == ("musl", 2)
        """,
        "read",
    ),
    "directories of a stale ld cache": (
        ("LD_CONF", "LD_CONF_DIRECTORIES", "UNLISTED_LIBRARIES", "DIRECTORY_NAMES", "LD_CACHE"),
        """
        from oci_gpu_hook.apply import unlisted_libraries
        from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
        from oci_gpu_hook.base.formats import ldcache
        from tests.attack.traps import odd_library
        paths = [f"/opt/{number:02}" for number in range(limits.LD_CONF_DIRECTORIES)]
        for path in paths:
            os.makedirs(directory + path)
        written("opt/00/libodd0.so", odd_library())
        for path in paths:
            for number in range(1, limits.DIRECTORY_NAMES):
                os.symlink("/opt/00/libodd0.so", f"{directory}{path}/libodd{number}.so")
        os.makedirs(f"{directory}/etc")
        text = "\\n".join(paths) + "\\n"
        written("etc/ld.so.conf", (text + "/opt/00\\n" * (limits.LD_CONF // 8)).encode()[: limits.LD_CONF])
        entries = [ldcache.Entry(name=f"l{n}", path="/usr/lib/" + "p" * 64, flags=0x0303) for n in range(30000)]
        cache = ldcache.build(entries)
        assert len(cache) > limits.LD_CACHE // 2
        def read():
            with Rootfs(os.open(directory, os.O_PATH)) as rootfs:
                unlisted_libraries.find(rootfs, cache)
        """,
        "read",
    ),
    "an ld.so.conf that includes itself": (
        ("LD_CONF", "LD_CONF_FILES", "LD_CONF_LEVELS"),
        """
        from oci_gpu_hook.apply import unlisted_libraries
        from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
        os.makedirs(f"{directory}/etc/d")
        for number in range(limits.DIRECTORY_NAMES):
            written(f"etc/d/{number}.conf", b"include /etc/d/*.conf\\n")
        line = b"include /etc/d/*.conf\\n"
        written("etc/ld.so.conf", line * (limits.LD_CONF // len(line) // 2))
        def read():
            with Rootfs(os.open(directory, os.O_PATH)) as rootfs:
                assert unlisted_libraries.find(rootfs, b"") == ()
        """,
        "read",
    ),
    "an ld.so.conf of patterns that mean nothing": (
        ("LD_CONF", "LD_CONF_FILES", "LD_CONF_NAMES"),
        """
        from oci_gpu_hook.apply import unlisted_libraries
        from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
        os.makedirs(f"{directory}/etc/d")
        for number in range(limits.DIRECTORY_NAMES):
            written(f"etc/d/{number:0200}.conf", b"")
        written("etc/ld.so.conf", b"include " + b"d/*x " * ((limits.LD_CONF - 10) // 5))
        def read():
            with Rootfs(os.open(directory, os.O_PATH)) as rootfs:
                assert unlisted_libraries.find(rootfs, b"") == ()
        """,
        "read",
    ),
    "directories of names that could be versions": (
        ("LD_CONF_NAMES", "DIRECTORY_NAMES"),
        """
        from oci_gpu_hook.apply import unlisted_libraries
        from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
        paths = [f"/opt/{number:02}" for number in range(8)]
        for path in paths:
            os.makedirs(directory + path)
            for number in range(limits.DIRECTORY_NAMES):
                os.symlink("x", f"{directory}{path}/lib.so" + "." * 240 + f"{number:04}")
        os.makedirs(f"{directory}/etc")
        written("etc/ld.so.conf", chr(10).join(paths).encode())
        def read():
            with Rootfs(os.open(directory, os.O_PATH)) as rootfs:
                assert unlisted_libraries.find(rootfs, b"") == ()
        """,
        "read",
    ),
    "libraries of which nothing comes": (
        ("LD_CONF_DIRECTORIES", "UNLISTED_LIBRARIES", "ELF_TABLE", "ELF_SEGMENTS"),
        """
        from struct import pack
        from oci_gpu_hook.apply import unlisted_libraries
        from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
        entries, segments = limits.ELF_TABLE // 16, limits.ELF_SEGMENTS
        head = bytes.fromhex("7f454c46020101").ljust(16, bytes(1))
        head += pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, segments, 0, 0, 0)
        head += pack("<IIQQQQQQ", 2, 4, 4096, 0, 0, entries * 16, 0, 8) + bytes(56) * (segments - 1)
        dynamic = b"".join(pack("<QQ", 100 + n, n) for n in range(entries - 1)) + pack("<QQ", 14, 1)
        paths = [f"/opt/{number:02}" for number in range(limits.LD_CONF_DIRECTORIES)]
        os.makedirs(f"{directory}/etc")
        written("slow", head.ljust(4096, bytes(1)) + dynamic)
        for path in paths:
            os.makedirs(directory + path)
            for number in range(limits.UNLISTED_LIBRARIES):
                os.link(f"{directory}/slow", f"{directory}{path}/lib{number}.so")
        written("etc/ld.so.conf", chr(10).join(paths).encode())
        def read():
            with Rootfs(os.open(directory, os.O_PATH)) as rootfs:
                assert unlisted_libraries.find(rootfs, b"") == ()
        """,
        "read",
    ),
    "a look by one behind all that may wait": (
        ("WAITERS",),
        """
        from oci_gpu_hook.allocation import claim
        from oci_gpu_hook.allocation.holders import Holder
        from oci_gpu_hook.allocation.model import Busy, Claim, Lease, LeaseTable, Moment, Waiter, leased
        from oci_gpu_hook.devices.nvidia import devices as of_nvidia
        from oci_gpu_hook.devices.nvidia.model import Gpu
        from oci_gpu_hook.request.model import Request
        gpus = [
            Gpu(index=n, uuid=f"GPU-{n}", minor=n, bus_id=f"0000:{n:02x}:00.0", proc_name=str(n), name="H100")
            for n in range(16)
        ]
        devices = of_nvidia.of(gpus)
        holder = lambda n: Holder(pid=n, start_time=n, boot_id="b", pid_namespace=1)
        asked = Request(count=1, driver_capabilities=(), source="x")
        leases = [
            Lease(container=f"c{n}", devices=(leased(device, asked),), exclusive=True, holder=holder(n), since="")
            for n, device in enumerate(devices)
        ]
        queue = [
            Waiter(ticket=n + 1, container=f"w{n}", holder=holder(n), request=asked, since="", uptime=0)
            for n in range(limits.WAITERS)
        ]
        table = LeaseTable(leases=tuple(leases), queue=tuple(queue), next_ticket=limits.WAITERS + 1)
        new = Claim(container="new", holder=holder(99999), request=asked)
        def read():
            for _ in range(36):  # those of a second, by all who wait (allocation/wait.py)
                try:
                    claim.serve(table, new, devices, Moment(date="", uptime=10))
                except Busy:
                    pass
        """,
        "read",
    ),
    "as many odd libraries as are looked into": (
        ("COMPAT_LIBRARIES", "ELF_TABLE", "ELF_NOTES", "ELF_SEGMENTS", "ELF_SECTIONS"),
        """
        from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
        from oci_gpu_hook.devices.nvidia import image_facts
        from tests.attack.traps import odd_library
        compat = os.path.join(directory, "usr/local/cuda/compat")
        os.makedirs(compat)
        for number in range(limits.COMPAT_LIBRARIES):
            with open(f"{compat}/libcuda.so.1.{number}", "wb") as file:
                file.write(odd_library())
        def read():
            with Rootfs(os.open(directory, os.O_PATH)) as rootfs:
                assert image_facts.look(rootfs, container(), Config()).compat[0].regular
        """,
        "read",
    ),
    "a mount table": (
        ("KERNEL_TABLE", "MOUNTS"),
        """
        from oci_gpu_hook.base import mount_table
        from oci_gpu_hook.base.files import read_file
        row = b"%d %d 0:%d / /a rw shared:1 - t s rw" + b"x" * 66 + b"\\n"
        rows = b"".join(row % (n, n // 2, n) for n in range(1, limits.MOUNTS))
        path = written("mountinfo", rows)
        assert len(rows) <= limits.KERNEL_TABLE
        del rows
        def read():
            table = read_file(path)
            mount_table.own_mounts(table, 50_000, lambda: read_file(path))
            mount_table.shared_mounts(table)
        """,
        "read",
    ),
    "an environment": (
        ("ENVIRONMENT",),
        """
        from oci_gpu_hook.base import processes
        path = written("environ", b"A\\0" * (limits.ENVIRONMENT // 2))
        real = processes.read_file
        processes.read_file = lambda _path, limit: real(path, limit)
        read = lambda: processes.variable(1, b"B")
        """,
        "read",
    ),
    "a configuration of Mesos": (
        ("MESOS_CONFIG", "MESOS_FIELDS"),
        """
        from oci_gpu_hook.entrypoints.mesos import resources
        message = b"\\x08\\x01" * ((limits.MESOS_CONFIG - 4) // 2)
        path = written("config", len(message).to_bytes(4, "little") + message)
        del message
        read = lambda: resources.gpus(directory)
        """,
        "has more than 100000 fields",
    ),
    "a configuration": (
        ("CONFIG_TOML",),
        """
        from oci_gpu_hook.base.config import source
        path = written("config.toml", b"a" + b".a" * 100 + b" = 1\\n" + b"#" * (limits.CONFIG_TOML - 300))
        read = lambda: source.load(path)
        """,
        "read",
    ),
    "a compiled configuration": (
        ("CONFIG_COMPILED",),
        """
        data = parsed(b"[", b"[],", b"]", limits.CONFIG_COMPILED)
        read = lambda: document.parse(data, "x")
        """,
        "read",
    ),
    "an inventory": (
        ("INVENTORY", "NVML_ANSWER", *JSON),
        """
        data = parsed(b"[", b'{"a":[]},', b"]", limits.INVENTORY)
        read = lambda: document.parse(data, "x")
        """,
        "read",
    ),
    "an entry of the journal": (
        ("JOURNAL_ENTRY",),
        """
        from oci_gpu_hook.apply.journal import reader
        os.makedirs(f"{directory}/containers", 0o700)
        os.chmod(directory, 0o700)
        head = b'{"pid": 1, "startTime": 2, "id": "c", "bundle": "/b", "rootfs": "/r", "rootfsIdentity": [1, 2],'
        head += b' "gpus": [], "nodes": [], "unit": "", "exclusive": false, "cached": [], "changes": ['
        data = parsed(head, b'["file", "/a", "", 0, "", false],', b"]}", limits.JOURNAL_ENTRY)
        written("containers/c~1-2.json", data)
        read = lambda: reader.read(Config(state_dir=directory), "c~1-2")
        """,
        "read",
    ),
    "marks of sick GPUs": (
        ("SICK",),
        """
        from oci_gpu_hook.base.processes import boot_id
        from oci_gpu_hook.devices.nvidia import sick
        os.chmod(directory, 0o700)
        one = b'"%d":{"xid":1,"text":"","since":""},'
        rows = b"".join(one % number for number in range(limits.SICK // 45))
        data = b'{"bootId":"%s","gpus":{%s}}' % (boot_id().encode(), rows.rstrip(b","))
        assert len(data) <= limits.SICK
        written("sick.json", data)
        def read():
            assert len(sick.marks(Config(state_dir=directory))) > 1000
        """,
        "read",
    ),
    "a message of the kernel": (
        ("KERNEL_MESSAGE", "XID_TEXT"),
        """
        from oci_gpu_hook.devices.nvidia.xid import error_in
        head = b"NVRM: Xid (PCI:0000:3b:00): 154, "
        data = head + b" to 0x" + b"0" * (limits.KERNEL_MESSAGE - len(head) - 6)
        def read():
            found = error_in(data)
            assert len(found.text) == limits.XID_TEXT and not found.is_grave
        """,
        "read",
    ),
    "a record of leases": (
        ("LEASES",),
        """
        from oci_gpu_hook.allocation import lease_table
        data = parsed(b'{"version": 1, "nextTicket": 1, "queue": [], "leases": [', b"{},", b"]}", limits.LEASES)
        read = lambda: lease_table.from_json(document.parse(data, "x"))
        """,
        "read",
    ),
    "counts": (
        ("COUNTS",),
        """
        from oci_gpu_hook.base import counts
        written("counts.json", parsed(b"{", b'"a": 1,', b"}", limits.COUNTS))
        os.chmod(directory, 0o700)
        read = lambda: counts.add(directory, {"b": 1}) or counts.read(directory)["b"]
        """,
        "read",
    ),
    "a text of the driver": (
        ("PROC_FILE",),
        """
        from oci_gpu_hook.base.files import read_text
        from oci_gpu_hook.devices.nvidia import procfs
        path = written("information", b"a:b\\n" * (limits.PROC_FILE // 4))
        read = lambda: procfs.gpu_information("x", read_text(path))
        """,
        "read",
    ),
    "a script in the place of a driver's program": (
        ("WRAPPER", "WRAPPERS"),
        """
        from oci_gpu_hook.devices.nvidia import programs
        from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot
        script = b"#!/bin/sh\\n" + b"/a/nvidia-smi " * (limits.WRAPPER // 14)
        os.makedirs(os.path.join(directory, "usr/bin"))
        written("usr/bin/nvidia-smi", script)
        read = lambda: programs.find(DriverRoot(directory), ()).not_given[0]
        """,
        "read",
    ),
    "a file that names a library to a loader": (
        ("ICD_FILE",),
        """
        from oci_gpu_hook.devices.nvidia import icd_files
        from oci_gpu_hook.devices.nvidia.model import DriverFile
        item = b'{"library_path":"/a"},'
        head = b'{"ICD":['
        data = head + item * ((limits.ICD_FILE - len(head) - 2) // len(item)) + b'{}]}'
        path = written("x.json", data[: limits.ICD_FILE])
        files = [DriverFile(host_path=path, container_path="/x.json", capabilities=())] * 20
        read = lambda: list(icd_files.links(files, ()))
        """,
        "read",
    ),
    "the CSV files of a Tegra": (
        ("CSV_FILES", "CSV_BYTES", "CSV_LINES", "CSV_LINKS", "CSV_NAMES"),
        """
        from oci_gpu_hook.devices.nvidia import csv_files, tegra_files
        from oci_gpu_hook.devices.nvidia.driver_root import DriverRoot
        root = DriverRoot(directory)
        os.makedirs(directory + csv_files.DIRECTORY)
        os.makedirs(directory + "/n")
        for number in range(limits.CSV_NAMES):
            written(f"n/{number}", b"")
        for number in range(limits.CSV_LINKS):
            os.symlink(f"l{number + 1}", f"{directory}/l{number}")
        lines = [b"lib, /n/%d*" % number for number in range(200)]
        lines += [b"sym, /l0/%d" % number for number in range(limits.CSV_LINES - 500)]
        size = len(lines) // limits.CSV_FILES + 1
        for number in range(limits.CSV_FILES):
            part = lines[number * size : (number + 1) * size]
            written(f"{csv_files.DIRECTORY[1:]}/a{number}.csv", b"\\n".join(part) + b"\\n")
        def read():
            entries, wrong = csv_files.read(root)
            assert len(entries) == len(lines) and not wrong
            tegra_files.find(root, entries, directory)
        """,
        "read",
    ),
    "a CDI specification": (
        ("CDI_SPEC", "CDI_SPEC_LEVELS", "CDI_SPEC_VALUES"),
        """
        from oci_gpu_hook.devices.cdi.spec_files import text
        line = b"- {a: b, c: [d, e]}\\n"
        data = line * (limits.CDI_SPEC // len(line))
        read = lambda: text.read(data, is_json=False)
        """,
        "read",
    ),
    "lines of a log": (
        ("LOG_LINE",),
        """
        from oci_gpu_hook.admin.logs import line
        from oci_gpu_hook.admin.logs.file import LogFile
        path = written("log", (b"[" * (limits.LOG_LINE - 1) + b"\\n") * 20)
        read = lambda: [line.of_file(data) for data in LogFile(path).lines()]
        """,
        "read",
    ),
    "a unit file": (
        ("UNIT_FILE",),
        """
        from oci_gpu_hook.apply.systemd import unit_settings
        os.makedirs(f"{directory}/run/systemd/transient/a.scope.d")
        for number in range(50):
            written(f"run/systemd/transient/a.scope.d/{number}.conf", b"=\\n" * (limits.UNIT_FILE // 2))
        read = lambda: unit_settings.device_policy("a.scope", "none", directory)
        """,
        "read",
    ),
}

# Limits whose worst is not an input to a reader: who holds them.
OTHERS = {
    "CONTAINER_ID": "names a file",
    "RESIDENT_CALL": "test_resident.py",
    "RESIDENT_SECONDS": "test_resident.py",
    "RESIDENT_WORKERS": "tests/runtime/test_resident.py",
    "RESIDENT_STARTS": "tests/unit/entrypoints/resident",
    "RESIDENT_MEMORY": "tests/unit/entrypoints/resident",
    "RESIDENT_REST_SECONDS": "tests/unit/entrypoints/resident",
    "RESIDENT_LEAST_SECONDS": "tests/runtime/test_resident.py",
    "RESIDENT_STDERR": "tests/unit/entrypoints/resident",
    "RESIDENT_STDERR_SECONDS": "tests/unit/entrypoints/resident",
    "CONTAINER_FILES_SECONDS": "test_hanging.py",
    **dict.fromkeys(
        ("CDI_COMPILED", "CDI_MEMORY", "CDI_SECONDS", "CDI_SPECS_TOGETHER"), "tests/unit/devices/cdi/test_compiled.py"
    ),
    "PROCESSES_SECONDS": "test_many_processes.py",
    "FREEZE_SECONDS": "of a wait, after which the look does not count",
    "CDI_SPEC_FAULTS": "tests/unit/devices/cdi/test_reading_limits.py",
    "CDI_REFRESH_LOCK_SECONDS": "test_cdi_refresh.py",
    "CDI_REFRESH_SECONDS": "of work that the watch gives up",
    "REMAINS_SECONDS": "test_hanging.py",
    "REMAINS_BY_HAND_SECONDS": "test_hanging.py",
    "LOOK_SECONDS": "test_hanging.py",
    "JOURNAL_LOCK_SECONDS": "tests/unit/apply/test_cleanup.py",
    "LEASES_LOCK_SECONDS": "tests/unit/allocation/test_record_files.py",
    "COUNTS_LOCK_SECONDS": "tests/unit/base/test_counts.py",
    "MPS_SECONDS": "tests/runtime/test_sharing.py",
    "MPS_SAID": "tests/runtime/test_sharing.py",
    "NVML_SECONDS": "tests/unit/devices/nvidia/test_nvml.py",
    "HOST_LOG_MESSAGE": "of what is said, which is cut",
    "RUNTIME_SECONDS": "tests/runtime/test_runtime_update.py",
    "SYSTEMD_MESSAGE": "tests/unit/apply/systemd",
    "SYSTEMD_SAID": "thrown away piece by piece",
    "SYSTEMD_LINE": "tests/unit/apply/systemd",
    "SYSTEMD_SECONDS": "tests/unit/apply/systemd",
    "CDI_SPECS": "a number of files, each under its own limit",
    "MESOS_ANCESTORS": "a number of reads of /proc",
    "MESOS_HOOK_SECONDS": "tests/mesos/test_cdi.py, with a hook's own timeout",
}


def test_every_limit_is_tried():
    tried = {name for about, _, _ in WORST.values() for name in about}
    every = {name for name in vars(limits) if name.isupper() and name != "TYPE_CHECKING"}
    assert tried | set(OTHERS) == every
    assert not tried & set(OTHERS)


@pytest.mark.parametrize("what", WORST)
def test_the_worst_that_is_accepted(what, tmp_path, tally):
    _, worst, expected = WORST[what]
    program = _PRELUDE.format(repository=str(REPOSITORY)) + textwrap.dedent(worst) + _MEASURE
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=REPOSITORY)
    tally.count()
    assert done.returncode == 0, done.stderr
    seconds, memory, outcome = json.loads(done.stdout)
    print(f"{what}: {seconds:.3f} s, {memory >> 20} MiB: {outcome}")
    assert expected in outcome, outcome
    assert memory < MEMORY, f"{memory >> 20} MiB"
    assert seconds < SECONDS * (1 if os.environ.get("OCI_GPU_ATTACK_FULL") else 2), f"{seconds:.2f} s of CPU"

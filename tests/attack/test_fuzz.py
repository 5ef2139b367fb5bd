"""Whatever an engine, an operator or a damaged disk hands over: a value or one HookError, soon and in little room.

Documents are valid ones with members exchanged, dropped and nested, which get further than noise does. Longer by hand:
OCI_GPU_FUZZ_EXAMPLES=100000 pytest tests/attack/test_fuzz.py. The ld cache and ELF readers are fuzzed in tests/unit.
"""

from __future__ import annotations

import copy
import json
import os
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_gpu_hook.allocation import lease_table
from oci_gpu_hook.allocation.holders import Holder
from oci_gpu_hook.allocation.model import Lease, LeasedDevice, LeaseTable, Waiter
from oci_gpu_hook.apply.cleanup import take_back
from oci_gpu_hook.apply.journal import journal, reader
from oci_gpu_hook.apply.journal.entry import DIRECTORY
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.base import state
from oci_gpu_hook.base.config import compiled, toml
from oci_gpu_hook.base.config import load as configs
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.document import dump, parse
from oci_gpu_hook.base.errors import HookError, one_line
from oci_gpu_hook.base.files import replace_file
from oci_gpu_hook.devices.nvidia import refresh, stored
from oci_gpu_hook.oci import container as containers
from oci_gpu_hook.request import parse as requests
from oci_gpu_hook.request.model import Request
from oci_gpu_hook.request.prefilter import may_ask

EXAMPLES = int(os.environ.get("OCI_GPU_FUZZ_EXAMPLES", "150"))
MOST_MEMORY = 32 << 20  # bytes; documents here are a few KiB
MOST_TIME = 2  # seconds of CPU
fuzz = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

STATE = {
    "ociVersion": "1.0.2",
    "id": "fuzz",
    "status": "creating",
    "pid": 4242,
    "bundle": "/nowhere/bundle",
    "root": "rootfs",
    "annotations": {
        "io.oci-gpu-hook.count": "2",
        "io.oci-gpu-hook.memory": "40GiB",
        "cdi.k8s.io/x": "nvidia.com/gpu=0,vendor.com/nic=eth7",
    },
}
CONFIG = {
    "ociVersion": "1.0.2",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "cwd": "/",
        "env": [
            "PATH=/bin",
            "NVIDIA_VISIBLE_DEVICES=0,GPU-1",
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
            "NVIDIA_REQUIRE_CUDA=cuda>=12.4 brand=tesla,driver>=535",
            "NVIDIA_MIG_CONFIG_DEVICES=all",
            "NVIDIA_IMEX_CHANNELS=0,1",
            "CUDA_VERSION=12.4.1",
            "OCI_GPU_COUNT=1",
            "OCI_GPU_DEVICES=amd.com/gpu=0,1",
        ],
        "capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN"], "effective": []},
    },
    "root": {"path": "rootfs", "readonly": False},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/var/run/nvidia-container-devices/GPU-1", "source": "/dev/null", "options": ["bind"]},
    ],
    "annotations": {"io.oci-gpu-hook.devices": "all"},
    "linux": {
        "namespaces": [{"type": "mount"}, {"type": "user"}],
        "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 65536}],
        "gidMappings": [],
        "cgroupsPath": "system.slice:runc:x",
        "resources": {"devices": [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]},
    },
}
SWARM = ("DOCKER_RESOURCE_GPU",)
QUIET_STATE = {name: value for name, value in STATE.items() if name != "annotations"}
QUIET_CONFIG = {
    **{name: value for name, value in CONFIG.items() if name not in ("annotations", "mounts")},
    "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/", "env": ["PATH=/bin", "A=<&>"]},
}
HOLDER = Holder(pid=1, start_time=2, boot_id="x", pid_namespace=3)
BOOK = lease_table.to_json(
    LeaseTable(
        leases=(
            Lease(
                container="a",
                devices=(LeasedDevice(whole="GPU-1"), LeasedDevice(whole="GPU-2", part="MIG-1")),
                exclusive=True,
                holder=HOLDER,
                since="2026-01-01T00:00:00Z",
            ),
        ),
        queue=(
            Waiter(
                ticket=3,
                container="b",
                holder=HOLDER,
                request=Request(devices=("all",), driver_capabilities=(), source="queue"),
                since="2026-01-01T00:00:00Z",
            ),
        ),
        next_ticket=7,
    )
)
ENTRY = {
    "id": "fuzz",
    "pid": 1,
    "startTime": 2,
    "bundle": "/b",
    "rootfs": "/b/rootfs",
    "rootfsIdentity": [1, 2],
    "gpus": ["GPU-1"],
    "changes": [{"kind": "file", "path": "/x"}, {"kind": "link", "path": "/y", "target": "z", "was": "w"}],
    "cached": ["/usr/lib/x"],
    "nodes": [[195, 0]],
    "unit": "",
    "exclusive": False,
}
TOML = """
[driver]
root = "/"
library-search-paths = ["/opt"]
[request]
supported-driver-capabilities = "all"
disable-require = false
[allocation]
policy = "shared"
[state]
dir = "/run/oci-gpu-hook"
[log]
level = "info"
"""

texts = st.one_of(
    st.sampled_from(
        [
            "",
            "all",
            "none",
            "void",
            "0",
            "-1",
            "..",
            "/",
            "../../x",
            "a\0b",
            "\ud800",
            "\n",
            "\x1b[2J",
            "9" * 30,
            "x" * 5000,
        ]
    ),
    st.text(st.characters(exclude_categories=()), max_size=30),
    st.text("0123456789,.:;-=<>|GPUMIGcuda /", max_size=40),
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(allow_nan=False, allow_infinity=False), texts
)
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)


def places(document: object, path: tuple = ()) -> list[tuple]:
    """Return the paths of all members of a JSON document."""
    members = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(place for name, member in members for place in places(member, (*path, name)))]


@st.composite
def mutations(draw, document: dict) -> object:
    """A document with a few members replaced, dropped or repeated, and texts in it cut or joined with others."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(places(document)))
        if not path:
            if draw(st.integers(0, 30)) == 0:
                return draw(junk)
            continue
        parent = document
        for name in path[:-1]:
            parent = parent[name]
        name, was = path[-1], parent[path[-1]]
        act = draw(st.sampled_from(["replace", "replace", "drop", "repeat", "text"]))
        if act == "drop":
            del parent[name]
        elif act == "repeat" and isinstance(parent, list):
            parent.extend([was] * draw(st.sampled_from([1, 300])))
        elif act == "text" and isinstance(was, str):
            cut = draw(st.integers(0, len(was)))
            parent[name] = was[:cut] + draw(texts) + was[cut:]
        else:
            parent[name] = draw(junk)
    return document


def fails_well(work) -> None:
    """Run; nothing but a HookError may come of it, whose line is one that a terminal can show."""
    tracemalloc.start()
    began = time.process_time()
    try:
        work()
    except HookError as error:
        line = str(error)
        assert one_line(line) == line
        assert line.isprintable()
        assert len(line) < 4000
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < MOST_MEMORY
    assert time.process_time() - began < MOST_TIME


@fuzz
@given(mutations(STATE), mutations(CONFIG), st.booleans(), st.booleans())
def test_the_state_and_config_json(state_document, config_document, state_is_valid, config_is_valid):
    state_json = json.dumps(STATE if state_is_valid else state_document).encode()
    config_json = json.dumps(CONFIG if config_is_valid else config_document).encode()
    settings_ = Config(swarm_resource=SWARM, accept_volume_mounts=True)

    def work() -> None:
        may_ask(config_json, state_json, SWARM)
        found = containers.read_state(state_json)
        with pytest.raises(HookError):
            containers.read_config(found.bundle + "/nowhere")
        container = containers.parse_config(config_json, found)
        reader.read(settings_, container.id)
        os.path.lexists(container.rootfs)
        requests.parse(container, settings_)

    fails_well(work)


def test_documents_that_the_prefilter_lets_go_ask_for_nothing():
    assert not may_ask(json.dumps(QUIET_CONFIG).encode(), json.dumps(QUIET_STATE).encode(), SWARM)
    answers = set()

    @fuzz
    @given(mutations(QUIET_STATE), mutations(QUIET_CONFIG), st.sampled_from(["", *SWARM, "NVIDIA_VISIBLE_DEVICES"]))
    def look(state_document, config_document, variable):
        if variable and isinstance(config_document, dict):
            config_document["process"] = {"env": [f"{variable}=0"], "cwd": "/"}
        state_json, config_json = (json.dumps(each).encode() for each in (state_document, config_document))
        answers.add(may_ask(config_json, state_json, SWARM))
        if not may_ask(config_json, state_json, SWARM):
            assert _request(state_json, config_json) is None

    look()
    assert answers == {True, False}


def _request(state_json: bytes, config_json: bytes) -> Request | None:
    """Return what these documents ask for; documents that are refused for what they are ask for nothing."""
    try:
        container = containers.parse_config(config_json, containers.read_state(state_json))
    except HookError:
        return None
    return requests.parse(container, Config(swarm_resource=SWARM, accept_volume_mounts=True))


@fuzz
@given(
    st.binary(max_size=200)
    | st.builds(lambda text, cut: text[:cut], st.just(json.dumps(STATE).encode()), st.integers(0, 300))
)
def test_bytes_that_are_hardly_json(data):
    fails_well(lambda: containers.read_state(data))


@pytest.mark.parametrize(
    "data",
    [b"[" * 1_000_000, b'{"a":' * 200_000, b"1" * 1_000_000, b'"' + b"\\u0000" * 100_000, b"-" * 10, b"1e999999999"],
    ids=["arrays", "objects", "digits", "escapes", "minus", "exponent"],
)
def test_json_made_to_cost(data):
    fails_well(lambda: parse(data, "state"))


@pytest.fixture
def own_state(tmp_path):
    return state.directory(str(tmp_path / "state"), DIRECTORY).removesuffix("/" + DIRECTORY)


@fuzz
@given(mutations(ENTRY))
def test_a_journal_entry(own_state, document):
    path = os.path.join(own_state, DIRECTORY, "fuzz.json")
    replace_file(path, json.dumps(document).encode())
    settings_ = Config(state_dir=own_state)

    def work() -> None:
        for entry in (reader.read(settings_, "fuzz"), *reader.read_all(settings_)):
            if entry is not None:
                entry.is_alive()
                with Rootfs(os.open(own_state, os.O_PATH)) as rootfs:  # what cleanup does with such an entry
                    take_back(rootfs, entry.changes, ended=True)
                journal.write(settings_, entry)

    fails_well(work)


@fuzz
@given(mutations(BOOK))
def test_the_lease_record(document):
    def work() -> None:
        book, complaints = lease_table.from_json(parse(json.dumps(document).encode(), "leases"))
        assert lease_table.from_json(parse(dump(lease_table.to_json(book)), "leases"))[0] == book
        assert all(isinstance(text, str) for text in complaints)

    fails_well(work)


@fuzz
@given(data=st.data())
def test_a_stored_inventory(data):
    document = data.draw(mutations(_inventory()))

    def work() -> None:
        try:
            stored.from_json(parse(json.dumps(document).encode(), "inventory"))
        except (LookupError, TypeError, ValueError, AttributeError):
            return  # what inventory.cache takes for "none stored"

    fails_well(work)


def _inventory() -> dict:
    from oci_gpu_hook.devices.nvidia.model import Gpu, Inventory, Library

    gpu = Gpu(index=0, uuid="GPU-1", minor=0, bus_id="00000000:00:06.0")
    library = Library(name="libcuda.so.1", host_path="/x", soname="libcuda.so.1", links=(), capabilities=("compute",))
    found = Inventory(driver_version="550.1", gpus=(gpu,), libraries=(library,), files=(), nodes=())
    return json.loads(dump(refresh.to_json(found)))


@st.composite
def toml_texts(draw) -> bytes:
    """The configuration with lines exchanged, doubled, cut and joined with noise."""
    lines = TOML.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        key = lines[at].partition("=")[0]
        values = st.sampled_from(
            ['""', "[]", "{}", "1", "true", "1979-05-27", "nan", '"/\\u0000"', "[[1],[2]]", '"' + "x" * 9000 + '"']
        )
        lines[at] = draw(
            st.sampled_from([lines[at], lines[at][: len(lines[at]) // 2], f"{key}= {draw(values)}", draw(texts)])
        )
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines)))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@fuzz
@given(toml_texts() | st.binary(max_size=100))
def test_the_configuration(tmp_path, monkeypatch, data):
    monkeypatch.setattr(compiled, "DIRECTORY", (str(tmp_path / "compiled"), "config"))
    path = tmp_path / "config.toml"
    path.write_bytes(data)
    fails_well(lambda: configs.load(str(path)))


def test_the_fuzzed_documents_are_valid_to_begin_with():
    found = containers.read_state(json.dumps(STATE).encode())
    container = containers.parse_config(json.dumps(CONFIG).encode(), found)
    request = requests.parse(container, Config(swarm_resource=SWARM, accept_volume_mounts=True))
    assert request
    assert (request.count, request.source, len(request.requirements)) == (2, "annotations", 1)
    assert lease_table.from_json(BOOK)[1] == []
    assert toml.parse(TOML) == Config(library_search_paths=("/opt",))
    assert json.loads(dump(refresh.to_json(stored.from_json(_inventory())))) == _inventory()


def test_a_valid_journal_entry_is_read(own_state):
    replace_file(os.path.join(own_state, DIRECTORY, "fuzz.json"), json.dumps(ENTRY).encode())
    entry = reader.read(Config(state_dir=own_state), "fuzz")
    assert entry
    assert (entry.id, len(entry.changes)) == ("fuzz", 2)

"""The agent's checkpoint of a container, and its cgroups."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_gpu_hook.base.errors import InvalidInput
from oci_gpu_hook.entrypoints.mesos import cgroups, resources
from tests.mesos.container import Container, container_config


def varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def scalar(name: bytes, amount: float) -> bytes:
    return field(13, field(1, name) + b"\x10\x00" + field(3, b"\x09" + struct.pack("<d", amount)))


def framed(message: bytes) -> bytes:
    return struct.pack("=I", len(message)) + message


@pytest.mark.parametrize("gpus", [0, 1, 8])
def test_what_an_agent_writes(gpus):
    assert resources.read_gpus(container_config(Container(gpus=gpus), "/sandbox"), "config") == (gpus or None)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", None),
        (scalar(b"cpus", 4), None),
        (scalar(b"gpus", 0), 0),
        (scalar(b"gpus", 1) + scalar(b"mem", 7) + scalar(b"gpus", 2), 3),
        (field(13, field(1, b"gpus")), 0),
        (scalar(b"gpus", 1) + field(99, b"x") + b"\x98\x06\x01" + b"\x9d\x06abcd" + b"\x99\x0612345678", 1),
    ],
)
def test_resources(message, expected):
    assert resources.read_gpus(framed(message), "config") == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\xff\xff\xff\xff",
        framed(b"x")[:-1],
        framed(b"") + b"x",
        framed(b"\x6a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        framed(b"\x6a\x7f"),
        framed(b"\x0b\x0c"),
        framed(b"\x02\x00"),
        framed(b"\x80"),
        framed(scalar(b"gpus", 0.5)),
        framed(scalar(b"gpus", -1)),
        framed(scalar(b"gpus", float("nan"))),
        framed(scalar(b"gpus", float("inf"))),
        framed(scalar(b"gpus", 1e300)),
    ],
)
def test_what_is_no_checkpoint(data):
    with pytest.raises(InvalidInput, match="config"):
        resources.read_gpus(data, "config")


@given(st.binary(max_size=200))
def test_any_bytes(message):
    """A number of GPUs, none, or a refusal that names the file, and none of the reader's own mistakes."""
    refusal, gpus = None, None
    try:
        gpus = resources.read_gpus(framed(message), "config")
    except InvalidInput as refused:
        refusal = str(refused)
    assert refusal is None or "config" in refusal
    assert gpus is None or (type(gpus) is int and gpus >= 0)


@pytest.mark.parametrize("kind", ["absent", "link", "directory", "fifo", "writable", "no directory"])
def test_files(tmp_path, kind):
    path = tmp_path / "config"
    if kind in ("link", "writable"):
        (tmp_path / "target").write_bytes(framed(scalar(b"gpus", 1)))
        (tmp_path / "target").rename(path) if kind == "writable" else path.symlink_to("target")
    if kind == "writable":
        path.chmod(0o666)
    if kind == "directory":
        path.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    directory = str(tmp_path if kind != "no directory" else tmp_path / "nowhere")
    if kind in ("absent", "no directory"):
        assert resources.gpus(directory) is None
    else:
        with pytest.raises(InvalidInput):
            resources.gpus(directory)


@pytest.mark.parametrize(
    ("freezer", "container", "top"),
    [
        ("/mesos/R", "R", "/mesos/R"),
        ("/mesos/R/mesos/C", "C", "/mesos/R"),
        ("/mesos/R/mesos/C/mesos/D", "D", "/mesos/R"),
        ("/agents/one/R", "R", "/agents/one/R"),
        ("/agents/one/R/mesos/C", "C", "/agents/one/R"),
    ],
)
def test_cgroups(freezer, container, top):
    found = cgroups.of_process(f"5:devices:/x\n6:freezer:{freezer}\n0::/\n".encode())
    assert (found.container, found.path, found.top) == (container, freezer, top)


@pytest.mark.parametrize("text", ["6:freezer:/\n0::/\n", "0::/../R/leaf\n"])
def test_processes_of_no_agent(text):
    with pytest.raises(InvalidInput, match="Mesos container"):
        cgroups.of_process(text.encode())


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["a *:* rwm"], None),
        (["c *:* m", "b *:* m", "c 1:3 rwm"], None),
        (["c 195:255 rwm", "c 510:0 rwm"], set()),
        (["c 195:255 rwm", "c 195:0 rwm", "c 195:11 rwm", "c 195:254 rwm"], {0, 11}),
        (["c 195:255 rw", "c 195:0 rw"], None),  # the hook's own, for another container of the executor
        (["c 195:255 rwm", "c 195:0 rwm", "c 195:1 rw"], {0}),
        (["c 195:* rwm"], None),
    ],
)
def test_isolated_gpus(rules, expected):
    assert cgroups.read_isolated_gpus("\n".join(rules)) == expected

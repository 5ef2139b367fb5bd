"""What is heard of systemd, from servers of the test's own. A real systemd reloads in tests/systemd."""

from __future__ import annotations

import socket

import pytest

from oci_gpu_hook.apply.systemd import signals
from tests.unit.apply.systemd.test_message import reply

OK = b"OK 0123456789abcdef0123456789abcdef\r\n"
RELOADING = reply(4, [(1, "o", "/org/freedesktop/systemd1"), (3, "s", "Reloading"), (8, "g", "b")], b"\1\0\0\0")
UNIT = "/org/freedesktop/systemd1/unit/docker_2da_2escope"
CHANGED = reply(4, [(1, "o", UNIT), (3, "s", "PropertiesChanged")])


@pytest.fixture
def served(tmp_path):
    """A listener, and the server's end of its connection."""
    (tmp_path / "run/systemd").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "run/systemd/private"))
        listening.listen()
        with signals.Listener(str(tmp_path)) as listener:
            server, _ = listening.accept()
            with server:
                assert server.recv(100).startswith(b"\0AUTH EXTERNAL ")
                yield listener, server


def test_signals_in_pieces_and_other_messages_between(served):
    listener, server = served
    assert listener.heard() == []
    everything = OK + RELOADING + reply(2, [(5, "u", 1)]) + CHANGED
    heard = []
    for byte in everything:
        server.sendall(bytes((byte,)))
        heard += listener.heard()
    assert heard == [("/org/freedesktop/systemd1", signals.RELOADING), (UNIT, signals.CHANGED)]


def test_the_end_of_the_connection(served):
    listener, server = served
    server.sendall(OK + RELOADING)
    assert len(listener.heard()) == 1
    server.close()
    with pytest.raises(EOFError):
        listener.heard()


@pytest.mark.parametrize(
    "said",
    [
        b"REJECTED EXTERNAL\r\n",
        b"x" * (1 << 17),
        OK + b"HTTP/1.1 400 Bad Request\r\n",
        OK + b"l\4\0\1\xff\xff\xff\xff" + bytes(8),
    ],
    ids=["rejected", "no line", "no D-Bus", "too large"],
)
def test_what_is_no_systemd(served, said):
    listener, server = served
    server.setblocking(False)
    server.send(said)
    with pytest.raises(ValueError, match="it sent"):
        [listener.heard() for _ in range(4)]


def test_no_systemd(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        signals.Listener(str(tmp_path))


@pytest.mark.parametrize(
    ("unit", "path"),
    [
        ("docker-a.scope", "docker_2da_2escope"),
        ("1a.service", "_31a_2eservice"),
        (r"gpu-kept\x2dname.scope", "gpu_2dkept_5cx2dname_2escope"),
    ],
)
def test_paths_of_units(unit, path):
    assert signals.path_of(unit) == f"/org/freedesktop/systemd1/unit/{path}"

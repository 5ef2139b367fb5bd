"""The conversation with systemd, with servers that misbehave. A real systemd is asked in tests/systemd."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from oci_gpu_hook.apply.systemd import message, private_bus
from oci_gpu_hook.base.errors import ApplyError
from tests.unit.apply.systemd.test_message import reply

UNIT = "docker-a.scope"
NODES = ((195, 0), (195, 255))
OK = b"OK 0123456789abcdef0123456789abcdef\r\n"
DONE = reply(2, [(5, "u", 1)])
SIGNAL = reply(4, [(1, "o", "/org/freedesktop/systemd1"), (3, "s", "Reloading"), (8, "g", "b")], b"\1\0\0\0")


@pytest.fixture
def served(tmp_path):
    """Serve one connection below a directory that stands for the host: what was heard, and the directory."""
    (tmp_path / "run/systemd").mkdir(parents=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "run/systemd/private"))
    listening.listen()
    heard = []
    threads = []

    def serve(*pieces, ends=False, for_ever=b""):
        def run():
            connection, _ = listening.accept()
            with connection:
                heard.append(connection.recv(65536))
                try:
                    for piece in pieces:
                        connection.sendall(piece)
                    while for_ever:
                        connection.sendall(for_ever)
                    if ends:
                        connection.shutdown(socket.SHUT_WR)
                    connection.recv(1)
                except OSError:
                    pass  # it has gone

        threads.append(threading.Thread(target=run, daemon=True))
        threads[0].start()
        return str(tmp_path)

    yield serve, heard
    listening.close()
    for thread in threads:
        thread.join(5)


def refusal(root, patience=2.0):
    with pytest.raises(ApplyError) as caught:
        private_bus.allow_devices(UNIT, NODES, root, patience)
    assert caught.value.what == f"systemd was not told of the devices of '{UNIT}'"
    return caught.value.why


def test_root_says_who_it_is_and_what_it_wants_at_once(served, monkeypatch):
    serve, heard = served
    monkeypatch.setattr("os.geteuid", lambda: 0)
    private_bus.allow_devices(UNIT, NODES, serve(OK, DONE))
    assert heard == [b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n" + message.allowing_devices(UNIT, NODES)]


def test_signals_before_the_answer_are_passed_over(served):
    serve, _ = served
    private_bus.allow_devices(UNIT, NODES, serve(OK + SIGNAL, SIGNAL[:20], SIGNAL[20:] + DONE))


def test_an_answer_byte_by_byte(served):
    serve, _ = served
    private_bus.allow_devices(UNIT, NODES, serve(*(bytes((byte,)) for byte in OK + SIGNAL + DONE)))


def test_an_error_is_named(served):
    serve, _ = served
    error = reply(3, [(4, "s", "org.freedesktop.systemd1.NoSuchUnit"), (5, "u", 1)])
    assert refusal(serve(OK, error)) == "it answered 'org.freedesktop.systemd1.NoSuchUnit'"


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ((), "timed out"),
        ((OK,), "timed out"),
        ((OK, DONE[:-1]), "timed out"),
        ((b"REJECTED EXTERNAL\r\n",), "it sent b'REJECTED EXTERNAL'"),
        ((b"x" * 20000,), "it sent a line without an end"),
        ((OK, b"HTTP/1.1 200 fine"), "it sent something that is not a D-Bus message"),
        ((OK, b"l\2\0\1" + b"\xff" * 12), "it sent a message of 8589934607 bytes"),
    ],
)
def test_what_is_no_answer(served, pieces, why):
    serve, _ = served
    began = time.monotonic()
    assert refusal(serve(*pieces), patience=0.3) == why
    assert time.monotonic() - began < 1


def test_a_connection_that_ends(served):
    serve, _ = served
    assert refusal(serve(OK, SIGNAL, ends=True)) == "it ended the connection"


def test_signals_without_an_end_have_one(served):
    serve, _ = served
    began = time.monotonic()
    said = refusal(serve(OK, for_ever=SIGNAL * 1000), patience=0.5)
    assert said in ("timed out", "it sent too much without an answer")
    assert time.monotonic() - began < 2


def test_no_socket(tmp_path):
    assert refusal(str(tmp_path)) == "No such file or directory"


def test_nobody_listens(served, tmp_path):
    (tmp_path / "run/systemd/private").unlink()
    (tmp_path / "run/systemd/private").touch()
    assert refusal(str(tmp_path)) == "Connection refused"

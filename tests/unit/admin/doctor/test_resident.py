"""What the doctor says of the resident: nothing where there is none, and of one whether it serves."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from oci_gpu_hook.admin.doctor import model, resident
from oci_gpu_hook.admin.doctor.model import Host
from oci_gpu_hook.admin.engines import resident as units
from oci_gpu_hook.admin.install import front_file, place
from oci_gpu_hook.base.config.model import Config


@pytest.fixture
def address(tmp_path, monkeypatch):
    """The path of a socket at which the hook's front asks."""
    address = str(tmp_path / "socket")
    monkeypatch.setattr(place, "default_directory", lambda: str(tmp_path))
    if not front_file.write_front(
        str(tmp_path / "oci-gpu-hook"), "hook", "/usr/bin/python3", "/stub.pyc", resident=address
    ):
        pytest.skip("the front was not built")
    return address


def found(address: str) -> list[model.Finding]:
    return list(resident.check(Host(config=Config(), config_path=""), address))


@pytest.fixture
def answering(address):
    """Listen, and give a front an answer of one byte to each of its packets, then close."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(address)
    listening.listen()
    heard = []

    def answer(words: bytes) -> None:
        connection, _ = listening.accept()
        for word in words:
            heard.append(connection.recv(1000))
            connection.send(bytes([word]))
        connection.close()

    def begin(words: bytes) -> list[bytes]:
        threading.Thread(target=answer, args=(words,)).start()
        return heard

    yield begin
    listening.close()


def test_where_there_is_none_nothing_is_said(address):
    assert found(address) == []


def test_one_that_is_installed_and_does_not_listen(address, monkeypatch):
    monkeypatch.setattr(units, "is_installed", lambda _root: True)
    (finding,) = found(address)
    assert finding.severity == model.WARNING
    assert "systemctl start oci-gpu-hook.socket" in finding.remedy


@pytest.mark.root
def test_one_that_is_ready(address, answering):
    heard = answering(b"RR")
    (finding,) = found(address)
    assert finding.severity == model.OK
    assert heard == [b"oci-gpu-hook resident 2\0hook\0/stub.pyc\0\0prestart\0", b"L"]


@pytest.mark.root
@pytest.mark.parametrize("words", [b"N", b"RN"], ids=["another version", "another place"])
def test_one_that_refuses(address, answering, words):
    answering(words)
    (finding,) = found(address)
    assert finding.severity == model.WARNING
    assert "refuses hooks of this installation" in finding.what


@pytest.mark.root
def test_a_socket_at_which_nobody_listens(address):
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(address)
    listening.close()
    (finding,) = found(address)
    assert finding.severity == model.WARNING
    assert "does not answer (Connection refused)" in finding.what


def test_a_front_that_does_not_ask(address, answering):
    os.unlink(os.path.join(os.path.dirname(address), "oci-gpu-hook"))
    (finding,) = found(address)
    assert finding.severity == model.NOTE
    assert "no front uses it" in finding.what

"""The loop, with a systemd of the test's own and lookers that count: when it looks, and that it ends when told to."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

import pytest

from oci_gpu_hook.admin.watch.inventory import Keeper
from oci_gpu_hook.admin.watch.loop import Watch
from oci_gpu_hook.apply.systemd import signals
from oci_gpu_hook.lifecycle.healing import Healer
from tests.unit.apply.systemd.test_message import reply
from tests.unit.apply.systemd.test_signals import CHANGED, OK, RELOADING


class Counting(Healer):
    """Counts looks, and ends the loop after so many."""

    units = frozenset(("docker-a.scope",))

    def __init__(self):
        self.looks = 0
        self.suspected = 0
        self.last = 1 << 30
        self.at: dict[int, Callable[[], object]] = {}

    def look(self) -> bool:
        self.looks += 1
        self.at.pop(self.looks, lambda: None)()
        if self.looks >= self.last:
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    def suspect(self):
        self.suspected += 1


class Unchanged(Keeper):
    """Nothing of the host ever changes."""

    def __init__(self):
        pass

    def look(self):
        return False


@pytest.fixture
def said():
    return []


@pytest.fixture
def healer():
    return Counting()


@pytest.fixture
def watch(healer, tmp_path, said):
    return Watch(healer, Unchanged(), lambda *words, **_: said.append(words), 3600, str(tmp_path))


@pytest.fixture
def systemd(tmp_path):
    """A socket that listens as systemd's."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "run/systemd/private"))
        listening.listen()
        yield listening


def connected(listening, *pieces):
    """Serve one connection in a thread, which says these; return the thread and where to find its end."""

    def serve():
        connection, _ = listening.accept()
        connection.recv(100)
        for piece in pieces:
            connection.sendall(piece)
        ends.append(connection)

    ends: list[socket.socket] = []
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread, ends


def test_without_systemd_it_looks_and_ends(watch, healer, said):
    healer.last = 1
    watch.run()
    assert (healer.looks, healer.suspected, said) == (1, 0, [])


def test_a_reload_makes_it_look_again_and_again_for_a_while(watch, healer, systemd, said):
    thread, _ = connected(systemd, OK, RELOADING)
    healer.last = 4
    watch.run()
    thread.join()
    assert healer.looks == 4
    assert healer.suspected == 1
    assert ("warning", "no connection to systemd") not in said


def test_an_execution_of_systemd_again_counts_as_a_reload_and_it_connects_again(watch, healer, systemd):
    first, ends = connected(systemd, OK)
    healer.at[1] = lambda: None
    second_ends = []

    def reexecute():
        first.join()
        ends.pop().close()
        thread, more = connected(systemd, OK, RELOADING)
        second_ends.append((thread, more))

    healer.at[1] = lambda: threading.Thread(target=reexecute, daemon=True).start()
    healer.last = 9
    watch.run()
    assert healer.suspected == 2
    assert second_ends


def test_a_change_of_a_containers_unit_makes_it_look_and_one_of_others_does_not(watch, healer, systemd):
    other = reply(4, [(1, "o", signals.path_of("ssh.service")), (3, "s", signals.CHANGED)])
    thread, _ = connected(systemd, OK, other, CHANGED)
    healer.last = 3
    watch.run()
    thread.join()
    assert (healer.looks, healer.suspected) == (3, 0)


def test_a_systemd_that_does_not_listen_is_told_of_once(watch, healer, said, tmp_path):
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    watch._interval = 0.01
    healer.last = 3
    watch.run()
    assert said == [("warning", "no connection to systemd")]

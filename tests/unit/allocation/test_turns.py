"""Those who wait and those who come later: nobody starves, whoever waits for however long. On a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci_gpu_hook.allocation import claim, queue, select, turns
from oci_gpu_hook.allocation.holders import Holder
from oci_gpu_hook.allocation.model import Busy, Claim, LeaseTable, Moment
from oci_gpu_hook.devices.nvidia import devices as of_nvidia
from oci_gpu_hook.devices.nvidia.model import Gpu
from oci_gpu_hook.request.model import Request

FOR_EVER = 1 << 40


def host(size):
    return of_nvidia.of(
        Gpu(index=i, uuid=f"GPU-{i}", minor=i, bus_id=f"00000000:0{i}:00.0", memory=1) for i in range(size)
    )


def request(devices=(), **fields):
    return Request(devices=devices, driver_capabilities=(), source="environment", **fields)


class Machine:
    """A host, its lease table, and who waits; a step of its clock is a second, in which all who wait look."""

    def __init__(self, gpus):
        self.devices = host(gpus)
        self.table = LeaseTable()
        self.now = 1000
        self.ends = {}
        self.waiting = {}  # container: (claim, place, when it gives up)
        self.served = {}

    def claim(self, name, wish):
        holder = Holder(pid=1, start_time=hash(name), boot_id="", pid_namespace=1)
        return Claim(container=name, holder=holder, request=wish)

    def ask(self, name, lasts=FOR_EVER, place=None, **wish):
        """Ask once; tell whether it was granted."""
        asked = self.waiting[name][0] if place else self.claim(name, request(**wish))
        try:
            _, self.table = claim.serve(self.table, asked, self.devices, Moment(date="", uptime=self.now), place)
        except Busy:
            return False
        self.ends[name] = self.now + lasts
        self.served[name] = self.now
        return True

    def wait(self, name, patience=FOR_EVER, lasts=FOR_EVER, **wish):
        asked = self.claim(name, request(**wish))
        moment = Moment(date="", uptime=self.now)
        place, self.table = queue.enqueue(self.table, asked, asked.holder, moment)
        self.waiting[name] = (asked, place, self.now + patience, lasts)
        self.look()

    def look(self):
        for name, (_, place, until, lasts) in sorted(self.waiting.items(), key=lambda item: item[1][1].ticket):
            if self.ask(name, lasts, place):
                del self.waiting[name]
            elif self.now >= until:
                self.table = queue.leave(self.table, place)
                del self.waiting[name]

    def step(self, seconds=1):
        for _ in range(seconds):
            self.now += 1
            leases = [lease for lease in self.table.leases if self.ends[lease.container] > self.now]
            self.table = self.table.replace(leases=tuple(leases))
            self.look()


def test_turns_are_a_quarter_of_the_wait_before_them():
    first = turns.FIRST_TURN
    assert [turns.turn_left(waited) for waited in (0, 1, first - 1)] == [first, first - 1, 1]
    assert {turns.turn_left(waited) for waited in range(first, 2 * first)} == {0}
    for doubled in range(1, 30):
        start = first << doubled
        over = start + start // 4
        assert [turns.turn_left(waited) for waited in (start, over - 1, over, 2 * start - 1)] == [start // 4, 1, 0, 0]


def test_one_that_cannot_be_served_does_not_hold_up_for_ever_one_who_can():
    """One GPU is held for good; somebody waits for all of them, for as long as a number can say."""
    machine = Machine(4)
    assert machine.ask("for good", count=1, exclusive=True)
    machine.wait("all", count=4, exclusive=True)
    refused = longest = served = 0
    for number in range(8000):
        machine.step()
        if machine.ask(f"small{number}", lasts=1, count=1, exclusive=True):
            served += 1
            refused = 0
        else:
            refused += 1
        longest = max(longest, refused)
        assert refused <= max(turns.FIRST_TURN, number // 4), "held up for longer than a quarter of the other's wait"
    assert longest > turns.FIRST_TURN, "and yet one that waits has turns that grow"
    assert served > 8000 * 2 // 3


@settings(max_examples=25, deadline=None)
@given(lasts=st.integers(1, 900), phase=st.integers(0, 300), gpus=st.integers(2, 4))
def test_a_large_request_is_served_under_a_stream_of_small_ones(lasts, phase, gpus):
    machine = Machine(gpus)
    for number in range(phase + 10 * lasts + 600):
        if number == phase:
            machine.wait("large", count=gpus, exclusive=True, lasts=1)
        while machine.ask(f"small{number}.{len(machine.table.leases)}", lasts=lasts, count=1, exclusive=True):
            pass
        if "large" in machine.served:
            break
        machine.step()
    assert machine.served["large"] - 1000 - phase <= max(9 * lasts, turns.FIRST_TURN)


def test_the_turns_of_many_do_not_come_one_after_the_other():
    machine = Machine(3)
    assert machine.ask("for good", count=1, exclusive=True)
    refused = 0
    for number in range(700):
        if number % 50 == 0 and number < 500:
            machine.wait(f"large{number}", count=3, exclusive=True)
        machine.step()
        refused = 0 if machine.ask(f"small{number}", lasts=1, count=1, exclusive=True) else refused + 1
        assert refused <= max(turns.FIRST_TURN, number // 4)


def test_whoever_waits_is_not_overtaken_by_short_waits_that_come_later():
    machine = Machine(2)
    assert machine.ask("for good", count=1, exclusive=True)
    for number in range(300):
        if number % 20 == 0:
            machine.wait(f"short{number}", patience=30, count=2, exclusive=True)
        if number == 100:
            machine.wait("small", count=1, exclusive=True)
        machine.step()
    assert machine.served["small"] - 1000 <= 100 + 30 + 2


def test_one_that_can_be_served_is_never_overtaken():
    """Even while the one before it lets others pass."""
    machine = Machine(3)
    assert machine.ask("for good", count=1, exclusive=True)
    assert machine.ask("short", lasts=90, count=2, exclusive=True)
    machine.wait("all", count=3, exclusive=True)
    machine.step(turns.FIRST_TURN + 20)
    machine.wait("second", count=1, exclusive=True)
    machine.now += 10  # what was held is free now, and nobody has looked yet
    leases = [lease for lease in machine.table.leases if machine.ends[lease.container] > machine.now]
    machine.table = machine.table.replace(leases=tuple(leases))
    assert machine.ask("newcomer", count=1, exclusive=True), "there are two, and the second needs one"
    assert not machine.ask("other", count=1, exclusive=True)
    machine.look()
    assert "second" in machine.served


def test_those_who_wait_for_others_devices_are_not_in_the_way():
    machine = Machine(4)
    assert machine.ask("for good", count=1, exclusive=True)
    machine.wait("named", devices=("0",), exclusive=True)
    assert machine.table.queue
    assert machine.ask("three", count=3, exclusive=True)


def test_what_can_never_be_keeps_nothing():
    machine = Machine(2)
    asked = machine.claim("five", request(count=5))  # of a host that had five when it began to wait
    five, _ = queue.enqueue(LeaseTable(), asked, asked.holder, Moment(date="", uptime=machine.now))
    assert turns.kept((five,), "nvidia.com/gpu", machine.devices, (), machine.now) == ()


def test_a_refusal_tells_who_waits_for_what_is_free():
    machine = Machine(4)
    assert machine.ask("trainer", count=1, exclusive=True)
    machine.wait("big", count=4, exclusive=True)
    machine.step(20)
    ahead = machine.table.queue
    with pytest.raises(Busy) as caught:
        claim.choose_in_turn(request(count=1), machine.devices, machine.table.leases, ahead, machine.now)
    assert str(caught.value) == (
        "1 GPU asked for: 0 of 4 available; GPU 0 held by 'trainer' exclusively, GPU 1, GPU 2, GPU 3: kept for 'big', "
        "which came first and has waited 20 s for 4 GPUs, for 40 s more at most; "
        "try again when they are free, or wait for them with OCI_GPU_WAIT=60s"
    )
    with pytest.raises(Busy) as caught:
        claim.choose_in_turn(request(("2",), exclusive=True), machine.devices, machine.table.leases, ahead, machine.now)
    assert "kept for 'big', which came first and has waited 20 s for 4 GPUs" in caught.value.why
    machine.step(turns.FIRST_TURN)
    assert select.choose(request(count=1), machine.devices, machine.table.leases)

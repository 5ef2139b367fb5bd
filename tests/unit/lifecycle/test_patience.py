"""How often a container that loses again what was put back is repaired; pure, with times that the test says."""

from __future__ import annotations

from oci_gpu_hook.lifecycle.patience import Patience


def test_a_few_repairs_without_a_pause_then_pauses_that_double_up_to_an_hour():
    patience = Patience()
    now = 1000.0
    pauses, told = [], 0
    for _ in range(14):
        assert patience.allows(now)
        pauses.append(patience.note_repair(now))
        told += patience.is_first_pause
        assert not pauses[-1] or not patience.allows(now + pauses[-1] - 1)
        now += pauses[-1]
    assert pauses[:8] == [0, 0, 0, 0, 60, 120, 240, 480]
    assert pauses[-1] == 3600
    assert told == 1


def test_after_a_calm_time_all_is_as_at_the_beginning():
    patience = Patience()
    assert [patience.note_repair(0.0) for _ in range(5)][-1] == 60
    assert patience.note_repair(60 + 601) == 0


def test_a_repair_now_and_then_never_leads_to_a_pause():
    patience = Patience()
    assert {patience.note_repair(hour * 3600.0) for hour in range(100)} == {0}

"""What workers are doing is seen by all, and the manager is told only where it has something to do."""

from __future__ import annotations

import os

from oci_gpu_hook.base import limits
from oci_gpu_hook.entrypoints.resident.board import Board


def entered(workers: int) -> Board:
    board = Board()
    for _ in range(workers):
        board.enter(board.vacant())
    return board


def test_each_has_a_place_and_the_place_of_one_that_ends_is_anothers():
    board = entered(limits.RESIDENT_WORKERS)
    assert board.waiting() == limits.RESIDENT_WORKERS
    assert board.vacant() == -1
    assert board.leave(5)
    assert board.vacant() == 5
    board.take(6)
    assert not board.leave(6)


def test_what_a_process_notes_others_see():
    board = entered(2)
    if not os.fork():
        board.take(1)
        os._exit(0)
    os.wait()
    assert (board.waiting(), board.working()) == (1, 1)


def test_a_worker_is_counted_right_in_all_its_starts():
    board = entered(2)
    for _ in range(limits.RESIDENT_STARTS):
        board.take(0)
        assert (board.waiting(), board.working()) == (1, 1)
        board.release(0)
        assert (board.waiting(), board.working()) == (2, 0)


def test_one_that_goes_on_with_another_front_works_and_is_seen_to():
    board = entered(1)
    board.take(0)
    assert board.has_changed()
    board.go_on(0)
    assert (board.working(), board.has_changed()) == (1, True)


def test_a_start_between_two_looks_is_seen():
    board = entered(2)
    assert not board.has_changed()
    board.take(0)
    board.release(0)
    assert board.has_changed()
    assert not board.has_changed()
    board.leave(0)
    board.enter(board.vacant())
    assert not board.has_changed()  # what the manager does itself


def test_the_manager_is_told_when_fewer_wait_than_it_wants():
    board = entered(4)
    assert board.is_waited(least=2)
    assert [board.take(place) for place in range(4)] == [False, False, True, True]


def test_the_manager_is_told_of_one_that_waits_again_where_none_did():
    board = entered(2)
    assert board.is_waited(least=1)
    board.take(0)
    assert not board.release(0)
    board.take(0)
    board.take(1)
    assert not board.is_waited(least=1)
    assert board.release(1)
    assert board.is_waited(least=1)
    assert not board.release(0)

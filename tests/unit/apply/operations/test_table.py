"""What every kind of edit keeps to, whatever it makes. A kind that is added has a sample in conftest.py."""

from __future__ import annotations

import pytest

from oci_gpu_hook.apply import status
from oci_gpu_hook.apply.operations.table import KINDS
from oci_gpu_hook.devices.edits import ContainerEdits
from tests.unit.apply.operations.conftest import plan, samples

NAMES = [str(vars(kind)["__name__"]).rpartition(".")[2] for kind in KINDS]


@pytest.fixture(params=NAMES)
def sample(request, source):
    return samples(source)[request.param]


def test_each_kind_has_a_sample(source):
    assert sorted(samples(source)) == sorted(NAMES)


def test_what_was_made_is_what_the_journal_says(container, sample):
    """Nothing else, and all of it goes again."""
    before = container.tree()
    entry = container.give(sample)
    made = set(container.tree()) - set(before)
    assert made <= {path.lstrip("/") for _kind, path, *_ in entry.changes}
    container.take_back(entry)
    assert container.tree() == before


def test_a_container_that_has_all_has_lost_nothing(container, sample):
    assert container.lost(container.give(sample)) == []


def test_what_is_not_lost_is_not_put_back(container, sample):
    entry = container.give(sample)
    part = status.lost_part(sample, entry, ())
    assert (part.edits, part.links, part.ld_cache) == (ContainerEdits(), (), ())


def test_an_entry_of_an_older_hook_says_nothing_of_what_it_does_not_know(container):
    assert container.lost(container.entry(changes=())) == []


def test_a_kind_shows_nothing_of_a_plan_without_it():
    shown: dict[str, object] = {}
    for kind in KINDS:
        shown |= kind.show(plan())
    assert shown == {"links": [], "ldCache": []}

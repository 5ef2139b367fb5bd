"""Simulated hosts that many tests look at and none changes."""

from __future__ import annotations

import pytest

from tests.unit.admin.simulate.hosts import plain


@pytest.fixture(scope="session")
def eight(tmp_path_factory):
    return plain(tmp_path_factory.mktemp("eight") / "host", gpus=8)


@pytest.fixture(scope="session")
def mig(tmp_path_factory):
    return plain(tmp_path_factory.mktemp("mig") / "host", gpus=2, minors=(1, 0), mig=True)

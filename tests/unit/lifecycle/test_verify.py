"""What is said of a container whose driver is not the one that runs."""

from __future__ import annotations

import pytest

from oci_gpu_hook.apply.journal.entry import Entry
from oci_gpu_hook.lifecycle import verify

ENTRY = Entry(
    id="c1",
    pid=7,
    start_time=1,
    bundle="/b",
    rootfs="/b/rootfs",
    rootfs_identity=(1, 2),
    gpus=("GPU-1",),
    changes=(),
    driver="580.1",
)


@pytest.mark.parametrize(
    ("running", "words"),
    [
        ("590.2", "files of driver 580.1: the kernel now runs driver 590.2; restart"),
        ("", "files of driver 580.1: no NVIDIA driver is loaded now; restart"),
    ],
)
def test_another_driver_needs_a_restart(running, words):
    (finding,) = verify._driver(ENTRY, running)
    assert finding.kind == verify.DRIVER
    assert words in str(finding)
    assert not finding.repairable


def test_its_own_driver_is_fine():
    assert list(verify._driver(ENTRY, "580.1")) == []


def test_the_entry_of_an_older_hook_says_nothing_of_versions():
    assert list(verify._driver(ENTRY.replace(driver=""), "590.2")) == []

"""A grant goes from a runtime's call to the hook of its container, and to no other."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.processes import start_time
from oci_gpu_hook.entrypoints.resident.handed import Handed
from oci_gpu_hook.entrypoints.runtime import Prepared

GRANTED: Any = object()
CONFIG = Config()
HOOK = ("prestart",)


@pytest.fixture
def handed():
    prepared = Prepared(path="", before=b"", container="c1", config=CONFIG, granted=GRANTED)
    made = Handed.by_runtime(os.getpid(), prepared)
    assert made
    return made


def test_the_hook_of_the_runtime_gets_it(handed):
    assert handed.to_hook(HOOK, os.getpid()) is GRANTED


@pytest.mark.parametrize(
    "arguments", [("createRuntime",), ("poststop",), ("--config", "/other.toml", "prestart"), ("prestart", "prestart")]
)
def test_a_hook_that_the_runtime_has_not_registered_does_not(handed, arguments):
    assert handed.to_hook(arguments, os.getpid()) is None


def test_a_hook_that_another_process_has_started_does_not(handed):
    assert handed.to_hook(HOOK, os.getppid()) is None


def test_nor_one_of_a_later_process_with_that_pid(handed):
    later = handed.replace(started=start_time(os.getpid()) - 1)
    assert later.to_hook(HOOK, os.getpid()) is None


def test_a_runtime_that_has_ended_hands_on_nothing():
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    prepared = Prepared(path="", before=b"", container="c1", config=CONFIG, granted=GRANTED)
    assert Handed.by_runtime(child.pid, prepared) is None


@pytest.mark.parametrize("prepared", [None, Prepared(path="", before=b"", container="c1", config=CONFIG)])
def test_a_container_that_gets_nothing_has_no_grant(prepared):
    assert Handed.by_runtime(os.getpid(), prepared) is None

"""Attach and detach where a volume of the running container never answers: they end in time, all undone or done."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from oci_gpu_hook.base import limits
from tests.attack.test_attach import call, held, host  # noqa: F401  a fixture
from tests.attack.test_hanging import SERVERS, never_answers

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="the kernel has no FUSE")
PLACES = ("/etc", "/run", "/usr/share")


class Volume:
    """A directory of the host that containers get as a volume: what is mounted on it later comes to them, too."""

    def __init__(self, source: Path) -> None:
        self.source = source

    def at(self, place: str) -> dict:
        return {"destination": place, "type": "bind", "source": str(self.source), "options": ["rbind", "rw", "rslave"]}


@pytest.fixture
def volume(runc, directory):
    source = directory / "served"
    source.mkdir()
    runc.host.call("mount", "--bind", source, source)
    runc.host.call("mount", "--make-shared", source)
    yield Volume(source)
    runc.host.call("umount", "--lazy", source)


def opens(container, gpu: int) -> str:
    """Return what opening the GPU by a node of the container's own gives: its files may not answer."""
    path = "/tmp/own"
    said = container.exec("/probe", f"mknod={path}:195:{gpu}", f"open={path}").seen()
    return str(said[f"open={path}"])


@SERVERS
@pytest.mark.parametrize("place", PLACES)
def test_attach_is_undone_or_done(runc, make_bundle, host, volume, tally, place, server):  # noqa: F811
    mounts = (volume.at(place),)
    bundle = make_bundle(args=("/bin/sleep", "300"), gpus=None, config=host.config, mounts=mounts)
    with runc.started(bundle) as container:
        with never_answers(runc.host.command, volume.source, *server):
            began = time.monotonic()
            done = call(runc, host, "attach", container.id, "--devices", "1")
            lasted = time.monotonic() - began
            tally.count()
            assert lasted < limits.CONTAINER_FILES_SECONDS + 15
            if done.returncode:
                assert "OGH1513" in done.stderr
                assert held(runc, host) == []
        if done.returncode:
            call(runc, host, "repair", container.id)
            assert call(runc, host, "attach", container.id, "--devices", "1").returncode == 0
        assert call(runc, host, "detach", container.id, "--all").returncode == 0
        assert held(runc, host) == []


@SERVERS
@pytest.mark.parametrize("place", PLACES)
def test_detach_leaves_nothing_that_opens(runc, make_bundle, host, volume, tally, place, server):  # noqa: F811
    mounts = (volume.at(place),)
    bundle = make_bundle(args=("/bin/sleep", "300"), gpus="0", config=host.config, mounts=mounts)
    with runc.started(bundle) as container:
        with never_answers(runc.host.command, volume.source, *server):
            began = time.monotonic()
            call(runc, host, "detach", container.id, "--all")
            lasted = time.monotonic() - began
            tally.count()
            assert lasted < limits.CONTAINER_FILES_SECONDS + 15
            leases = held(runc, host)
        said = opens(container, 0)
        assert (said == "EPERM") or leases, "a GPU that is given back can be opened"
        assert (said == "ENXIO") or not leases
        call(runc, host, "repair", container.id)
        if leases:
            assert call(runc, host, "detach", container.id, "--all").returncode == 0
        assert held(runc, host) == []
        assert opens(container, 0) == "EPERM"

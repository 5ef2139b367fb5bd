"""Every engine of Debian 12, 13 and unstable, in machines that a real systemd boots: the GPU is there, and stays.

One boot of a release does all there is to do to all containers (guest.py); each test reads what was seen of one.
$OCI_GPU_DISTRIBUTIONS names the releases, else it is this machine's own; with $OCI_GPU_TABLE the table of
docs/engines.md is written first. A granted node that the device cgroup lets through fails with ENXIO, because no driver
is behind it.
"""

from __future__ import annotations

import errno
import os

import pytest

from tests.distributions import machines, table
from tests.distributions.cells import CELLS, DEVICE, GRANTED, REPAIRED, STEPS
from tests.systemd import machine, root

pytestmark = [pytest.mark.root, pytest.mark.timeout(5400)]
REFUSED = str(errno.EPERM)
NO_NODE = "-"  # of a neighbour: root of a user namespace makes none
RELEASES = machines.chosen() if os.geteuid() == 0 and not machine.missing() and not root.missing() else ["none"]


@pytest.fixture(scope="session")
def reports():
    """What was seen in each release, or why nothing was."""
    if reason := machine.missing() or root.missing():
        pytest.skip(reason)
    seen = {}
    for release in RELEASES:
        try:
            seen[release] = machines.tried(release)
        except RuntimeError as error:
            seen[release] = {"failure": str(error)}
    if os.environ.get("OCI_GPU_TABLE") and all("cells" in report for report in seen.values()):
        table.write(seen)
    return seen


@pytest.fixture(params=RELEASES, scope="session")
def report(request, reports):
    found = reports[request.param]
    assert not found.get("failure"), found["failure"]
    return {"release": request.param, **found}


def is_taken_away_by_update(report, cell):
    """Tell whether Podman hands the runtime a device list of its own, and this runtime obeys."""
    in_place = cell.engine == "podman, crun" and cell.kind in ("plain", "read-only")
    return in_place and table.version(report, "podman") >= (5, 0)


def lost_by_cdi_since(report, cell):
    """Return the step at which a GPU is lost that an engine has given by CDI alone, "" where it stays.

    runc 1.1.3 to 1.1.6 tell systemd only of nodes that have a link in /dev/char (mended in 1.1.7).
    """
    if cell.way != DEVICE or cell.kind == "rootless" or not cell.engine.startswith("podman"):
        return ""
    if is_taken_away_by_update(report, cell):
        return "update"
    runc = tuple(int(part) for part in report["versions"]["runc"].split("."))
    return "set-property" if cell.engine == "podman, runc" and (1, 1, 3) <= runc < (1, 1, 7) else ""


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
class TestContainers:
    def test_has_its_gpu_and_keeps_it(self, report, cell):
        result = report["cells"][cell.name]
        if not table.is_offered(report, cell):
            assert result["failure"], "this release offers it: say so in is_offered"
            return
        if not table.is_runnable(result):
            pytest.skip("crun on cgroup v2: setrlimit (RLIM_MEMLOCK)")
        assert result["failure"] == ""
        lost = {step for step in STEPS if result["steps"][step][0] != GRANTED}
        if since := lost_by_cdi_since(report, cell):
            assert lost == {*STEPS[STEPS.index(since) :]}, (
                "what Podman has given by CDI is not this project's to repair"
            )
        elif is_taken_away_by_update(report, cell):
            assert lost == {"update"}
            assert result["steps"]["update" + REPAIRED][0] == GRANTED
        else:
            assert lost == set()
            assert [*result["attempts"]] == [GRANTED], "not for a moment"

    def test_has_no_other(self, report, cell):
        result = report["cells"][cell.name]
        assert {other for _, other in result["steps"].values()} <= {REFUSED, NO_NODE}
        if result["steps"] and cell.kind in ("plain", "read-only"):
            assert NO_NODE not in {other for _, other in result["steps"].values()}

    def test_engines_do_what_they_are_told(self, report, cell):
        errors = dict(report["cells"][cell.name]["errors"])
        update = errors.pop("update", "")  # a machine of cgroup v1 has no controllers of v2, and runtimes say so
        assert not update or "cpu.weight" in update or "controller" in update
        assert errors == {}

    def test_the_documented_table_is_what_was_seen(self, report, cell):
        assert table.documented(cell, report["release"]) == table.value(report, cell)


def test_nothing_is_left(report):
    assert report["left"] == {"leases": [], "drop-ins": []}
    assert "repair" not in report, report["repair"]

"""What is said about the difference between what a container was given and what it has: pure, in tables."""

from __future__ import annotations

import pytest

from oci_gpu_hook.apply.journal.entry import Entry
from oci_gpu_hook.apply.status import Condition
from oci_gpu_hook.lifecycle import verify

NODES = {"/dev/nvidia0": (195, 0), "/dev/nvidiactl": (195, 255)}
ENTRY = Entry(
    id="c1",
    pid=7,
    start_time=1,
    bundle="/b",
    rootfs="/b/rootfs",
    rootfs_identity=(1, 2),
    gpus=("GPU-1",),
    changes=(),
    nodes=tuple(NODES.values()),
    node_paths=tuple(NODES),
    driver="580.1",
    mounts=("/usr/lib/libcuda.so.580.1", "/run/nvidia-persistenced"),
    mounted=(("/usr/lib/libcuda.so.580.1", 7, 8, 1, 99), ("/run/nvidia-persistenced", 8, 8, 1, 98)),
    ld_cache=("/usr/lib/libcuda.so.1",),
)
FINE = {
    "nodes": NODES,
    "refused": (),
    "unit": "",
    "covered": True,
    "unmounted": (),
    "stale": (),
    "links": (),
    "uncached": (),
}
HOST = {"driver": "580.1", "nodes": NODES}


def judged(entry=ENTRY, host=(), **found) -> list[verify.Finding]:
    there = verify.Host(**(HOST | dict(host)))
    return list(verify.judge(entry, Condition(**(FINE | found)), there))


def test_what_has_all_that_it_was_given_is_fine():
    assert judged() == []


@pytest.mark.parametrize(
    ("found", "kind", "line"),
    [
        (
            {"refused": ((195, 0),)},
            "rights",
            (
                "the device cgroup refuses /dev/nvidia0 (195:0): its rules were rewritten since: by a reload of "
                "systemd, or an update of the container by its engine; run `oci-gpu repair c1`"
            ),
        ),
        (
            {"unit": "docker-1.scope", "covered": False},
            "drop-in",
            (
                "docker-1.scope has no drop-in for its GPUs: systemd restricts its devices, and its next reload may "
                "take the GPUs away; run `oci-gpu repair c1`"
            ),
        ),
        (
            {"nodes": {**NODES, "/dev/nvidia0": None}},
            "node",
            "device '/dev/nvidia0': is not there; run `oci-gpu repair c1`",
        ),
        (
            {"nodes": {**NODES, "/dev/nvidia0": (1, 3)}},
            "node",
            "device '/dev/nvidia0': is device 1:3 instead of 195:0; run `oci-gpu repair c1`",
        ),
        (
            {"unmounted": ("/usr/lib/libcuda.so.580.1",)},
            "mount",
            "'/usr/lib/libcuda.so.580.1' is not mounted: it was unmounted since; run `oci-gpu repair c1`",
        ),
        (
            {"stale": ("/run/nvidia-persistenced",)},
            "mount",
            "'/run/nvidia-persistenced': shows what the host has deleted or replaced; run `oci-gpu repair c1`",
        ),
        (
            {"links": ("/usr/lib/libcuda.so.1",)},
            "link",
            "link '/usr/lib/libcuda.so.1': is gone, or leads elsewhere; run `oci-gpu repair c1`",
        ),
        (
            {"uncached": ("/usr/lib/libcuda.so.1", "/usr/lib/libcuda.so")},
            "ld-cache",
            (
                "the ld cache does not list '/usr/lib/libcuda.so.1' and 1 more: it was written anew since; "
                "run `oci-gpu repair c1`"
            ),
        ),
        (
            {"uncached": ("/usr/lib/libcuda.so.1",), "has_cache": False},
            "ld-cache",
            "the ld cache does not list '/usr/lib/libcuda.so.1': there is none any more; run `oci-gpu repair c1`",
        ),
    ],
)
def test_each_loss_has_a_line_and_can_be_repaired(found, kind, line):
    (finding,) = judged(**found)
    assert (finding.kind, str(finding), finding.repairable) == (kind, line, True)


@pytest.mark.parametrize(
    ("host", "kind", "words"),
    [
        ({"driver": "590.2"}, "driver", "files of driver 580.1: the kernel now runs driver 590.2; restart"),
        ({"driver": ""}, "driver", "files of driver 580.1: no NVIDIA driver is loaded now; restart"),
        ({"nodes": {**NODES, "/dev/nvidia0": (195, 9)}}, "node", "given as 195:0: the host's is 195:9 now; restart"),
        ({"nodes": {**NODES, "/dev/nvidia0": None}}, "node", "given as 195:0: the host has it no more; restart"),
    ],
)
def test_what_has_changed_on_the_host_needs_a_restart(host, kind, words):
    (finding,) = judged(host=host)
    assert finding.kind == kind
    assert words in str(finding)
    assert not finding.repairable


def test_a_unit_whose_drop_in_is_there_is_fine():
    assert judged(unit="docker-1.scope", covered=True) == []


def test_the_entry_of_a_former_hook_says_nothing_of_versions():
    former = Entry(**{**ENTRY.__dict__, "driver": "", "node_paths": (), "mounts": (), "ld_cache": ()})
    assert judged(former, host={"driver": "590.2"}) == []
    (finding,) = judged(former, refused=((195, 0),))
    assert "refuses a device (195:0)" in finding.what


def test_text_of_a_container_stays_one_line():
    (finding,) = judged(unmounted=("/usr/lib/\x1b[31m\nall is well",))
    assert str(finding).isprintable()


def test_a_stale_mount_without_proof_is_not_the_hooks_to_take_away():
    """An entry of an older hook: what lies at the path may be anybody's mount by now."""
    former = Entry(**{**ENTRY.__dict__, "mounted": ()})
    (finding,) = judged(former, stale=("/run/nvidia-persistenced",))
    assert (finding.kind, finding.repairable, finding.remedy) == ("mount", False, "restart the container")

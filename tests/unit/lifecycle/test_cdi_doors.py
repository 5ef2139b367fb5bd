"""docs/cdi.md says which door makes which edit of a CDI specification: each cell of its table, by what the door does.

A door is tried without a container: oci-gpu-runtime by the config.json that it writes, a Mesos launch by what is added
to it or refused, the hook by the part of a plan that is left to it. The containers are in tests/runtime/test_cdi_*.py
and tests/mesos/test_cdi.py.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from oci_gpu_hook.apply import bundle_described
from oci_gpu_hook.base import limits
from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import HookError
from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice
from oci_gpu_hook.devices.json_form import edits_to_json
from oci_gpu_hook.entrypoints import runtime_features
from oci_gpu_hook.entrypoints.mesos import described as of_mesos
from oci_gpu_hook.lifecycle import described
from oci_gpu_hook.plan import there
from tests.paths import ROOT
from tests.unit.lifecycle.test_described import NODE, container, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GIVEN, WARNED, LEFT_OUT = "given", "given, with a warning", "left out"
REFUSED, LACKING = "OGH1220", "OGH1514"
OLD: dict[str, Any] = {}
RDT = {"enabled": True}
NEW = {"netDevices": {"enabled": True}, "intelRdt": {**RDT, "schemata": True, "monitoring": True}}


class Case(NamedTuple):
    """Edits, and what becomes of them. features: of the real runtime. more: what else the door is told."""

    edits: ContainerEdits
    outcome: str = GIVEN
    features: dict[str, Any] = OLD
    more: dict[str, Any] = {}  # noqa: RUF012  nobody changes it


def mount(*options: str, kind: str = "", path: str = "/opt/x") -> ContainerEdits:
    source = "tmpfs" if kind == "tmpfs" else "/etc/hostname"
    return ContainerEdits(mounts=(Mount(host_path=source, container_path=path, options=options, type=kind),))


def hooks(*stages: str) -> ContainerEdits:
    return ContainerEdits(hooks=tuple(Hook(hook_name=stage, path="/bin/true") for stage in stages))


USUAL = ContainerEdits(
    device_nodes=(NODE, NODE.replace(path="/dev/b", type="b"), DeviceNode(path="/dev/p", type="p", file_mode=0o600))
)
FEWER = [ContainerEdits(device_nodes=(NODE.replace(permissions=some),)) for some in ("r", "w", "rm", "none")]
TMPFS = mount("size=64k", "mode=755", "uid=1", "gid=1", kind="tmpfs")
BINDS = ContainerEdits(
    mounts=tuple(
        mount(option, path=f"/opt/{option}").mounts[0]
        for option in ("ro", "rw", "nosuid", "nodev", "noexec", "bind", "rbind", "private", "slave")
    )
)
ODD = [mount("rshared"), mount("noatime"), mount(kind="sysfs")]
KERNELS = [mount(path=path) for path in ("/proc/x", "/opt/../sys")]
ENV = ContainerEdits(env=("A=1",))
VOID = ContainerEdits(env=("NVIDIA_VISIBLE_DEVICES=void",))
EARLY = hooks("prestart", "createRuntime", "createContainer")
LATE = [hooks(stage) for stage in ("startContainer", "poststart", "poststop")]
CLASS = ContainerEdits(intel_rdt=IntelRdt(clos_id="x"))
NETS = ContainerEdits(net_devices=(NetDevice(host_interface_name="eth7", name="net0"),))
GROUPS = ContainerEdits(device_nodes=(NODE,), additional_gids=(4242,))


OPTIONS = (
    "yes, with `ro`, `rw`, `nosuid`, `nodev`, `noexec`, `bind`, `rbind`, private or slave, and tmpfs' size, mode and "
    "owner; none over `/proc` and `/sys`"
)


def each(found: list[ContainerEdits], outcome: str = GIVEN) -> list[Case]:
    return [Case(edits, outcome) for edits in found]


# What each cell means: by the row's first words and the cell's own text, so that neither changes without the other.
CELLS: dict[tuple[str, str], list[Case]] = {
    ("`deviceNodes` for reading", "yes"): [Case(USUAL)],
    ("`deviceNodes` for reading", "yes; never the permission `m`"): [Case(USUAL)],
    ("`deviceNodes` with fewer", "yes"): each(FEWER),
    ("`deviceNodes` with fewer", "refused"): each(FEWER, REFUSED),
    ("`mounts`", "yes, any type and option"): each([BINDS, TMPFS, *ODD, *KERNELS]),
    ("`mounts`", OPTIONS): [*each([BINDS, TMPFS]), *each([*ODD, *KERNELS], REFUSED)],
    ("`env`", "yes"): [Case(ENV), Case(VOID)],
    ("`env`", "yes, before the task's own"): [Case(ENV)],
    ("`env`", "refused, but for `NVIDIA_VISIBLE_DEVICES=void`"): [Case(ENV, REFUSED), Case(VOID, LEFT_OUT)],
    ("`hooks` of `prestart`", "yes"): [Case(EARLY)],
    (
        "`hooks` of `prestart`",
        f"yes, within {limits.MESOS_HOOK_SECONDS:g} s where the file states no timeout",
    ): [Case(EARLY)],
    ("`hooks` of `prestart`", "refused"): [Case(EARLY, REFUSED)],
    ("`hooks` of other", "yes"): each(LATE),
    ("`hooks` of other", "refused: a launch does not report when the task starts or ends"): each(LATE, REFUSED),
    ("`hooks` of other", "refused"): each(LATE, REFUSED),
    ("`intelRdt`", "where the runtime knows it (runc 1.1, or its `features` tell of it)"): [
        Case(CLASS, GIVEN, {"intelRdt": RDT}),
        Case(CLASS, LACKING),
    ],
    ("`intelRdt`", "refused"): [Case(CLASS, REFUSED)],
    ("`netDevices`", "where the runtime's `features` tell of it (runc 1.4, crun 1.28)"): [
        Case(NETS, GIVEN, NEW),
        Case(NETS, LACKING),
    ],
    ("`netDevices`", "refused"): [Case(NETS, REFUSED)],
    ("`additionalGids`", "yes, but not in a user namespace"): [
        Case(GROUPS),
        Case(GROUPS, LEFT_OUT, more={"user_namespace": True}),
    ],
    ("`additionalGids`", "by Mesos 1.8 and later, for users; root needs none"): [Case(GROUPS)],
    ("`additionalGids`", "a warning where the process is not root"): [
        Case(GROUPS, WARNED, more={"capabilities": ()}),
        Case(GROUPS, LEFT_OUT),
    ],
}


def by_runtime(case: Case, directory: Path) -> str:
    """Return what becomes of edits in config.json, before a real runtime that tells of these features."""
    real = directory / "real"
    real.write_text(f"#!/bin/sh\necho '{json.dumps({'linux': case.features})}'\n")
    real.chmod(0o755)
    runtime_features.check(case.edits, str(real))
    config: dict[str, Any] = {"process": {"env": ["A=2"], "user": {"uid": 0, "gid": 0}}}
    bundle_described.put_in(config, case.edits, user_namespace=case.more.get("user_namespace", False))
    rules = {(rule["type"], rule["access"]) for rule in config["linux"]["resources"]["devices"]}
    asked = {(there.oci_type(node), node.permissions) for node in case.edits.device_nodes if node.type != "p"}
    assert rules == {(kind, access) for kind, access in asked if access != "none"}
    left = there.remaining(case.edits, config)
    return GIVEN if left == ContainerEdits() else LEFT_OUT


def by_mesos(case: Case, directory: Path) -> str:
    """Return what becomes of edits that a file describes, in the launch of a task that asks for them by name."""
    specs = directory / "cdi"
    specs.mkdir()
    device = {"name": "one", "containerEdits": edits_to_json(case.edits)}
    (specs / "a.json").write_text(json.dumps({"cdiVersion": "1.1.0", "kind": "a.com/b", "devices": [device]}))
    config = Config(cdi_spec_dirs=(str(specs),), state_dir=str(directory / "state"))
    env = ["OCI_GPU_DEVICES=a.com/b=one"]
    document: dict[str, Any] = {"process": {"env": env, "user": {"uid": 0, "gid": 0}}, "root": {"path": "/"}}
    launch = json.loads(of_mesos.added("{}", document, "task", config))
    assert [each["name"] for each in launch.get("environment", {}).get("variables", [])] == [
        entry.partition("=")[0] for entry in case.edits.env
    ]
    assert launch.get("supplementary_groups", []) == [*case.edits.additional_gids]
    assert [*document.get("hooks", {})] == [hook.hook_name for hook in case.edits.hooks]
    return GIVEN


def by_hook(case: Case, _directory: Path) -> str:
    """Return what becomes of the edits of a plan that the hook alone is to make."""
    made = plan(**{name: getattr(case.edits, name) for name in ContainerEdits.__annotations__})
    left = described.left(made, container(**case.more))
    if left.warnings:
        return WARNED
    return GIVEN if left.edits == case.edits else LEFT_OUT


DOORS: tuple[Callable[[Case, Path], str], ...] = (by_runtime, by_mesos, by_hook)


def table() -> Iterator[tuple[str, Callable[[Case, Path], str], str]]:
    """Yield what the page says: edit, door, and the text of the cell."""
    text = (ROOT / "docs/cdi.md").read_text().partition("### What which door can do")[2]
    rows = [re.split(r" \| ", row.strip("| ")) for row in re.findall(r"^\|.*\|$", text, re.MULTILINE)]
    assert rows[0] == ["edit", "`oci-gpu-runtime`", "Mesos' unified containerizer", "the hook alone"]
    for edit, *cells in rows[2:]:
        for number, door in enumerate(DOORS):
            yield edit, door, cells[1] if cells[number] == "as Mesos" else cells[number]


@pytest.mark.parametrize(("edit", "door", "cell"), [*table()])
@pytest.mark.skipif(os.geteuid() != 0, reason="a launch of Mesos is root's")
def test_a_door_does_what_the_page_says(tmp_path, edit, door, cell):
    cases = next((cases for (row, text), cases in CELLS.items() if edit.startswith(row) and text == cell), None)
    assert cases, f"no test here says what {cell!r} means for {edit}"
    for number, case in enumerate(cases):
        directory = tmp_path / str(number)
        directory.mkdir()
        try:
            outcome = door(case, directory)
        except HookError as error:
            outcome = error.code
        assert outcome == case.outcome, case


def test_the_table_has_every_edit_of_cdi():
    fields = {"deviceNodes", "mounts", "env", "hooks", "intelRdt", "netDevices", "additionalGids"}
    assert {re.split("`", edit)[1] for edit, _, _ in table()} == fields
    assert len(fields) == len(ContainerEdits.__annotations__)
    assert len(CELLS) == len({(edit, cell) for edit, _, cell in table()}), "nothing here that the page does not say"

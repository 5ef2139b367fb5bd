"""The front's poststop and Python's in situations made at random: other containers, living and dead, and leases."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_gpu_hook.allocation import lease_table, release
from oci_gpu_hook.allocation.holders import INITIAL_PID_NAMESPACE
from oci_gpu_hook.apply import cleanup
from oci_gpu_hook.apply.journal import changes as made
from oci_gpu_hook.apply.journal import journal, reader
from oci_gpu_hook.base.processes import start_time
from tests.unit.front.ended import Host, dead_process

if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's containers end without Python")
several = settings(
    max_examples=int(os.environ.get("OCI_GPU_FUZZ_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

DEAD = [dead_process(), dead_process(), dead_process()]
LIVING = [(os.getpid(), start_time(os.getpid()))]
# A pid that was given away again, a process of another time, and one that is none.
ODD = [(LIVING[0][0], LIVING[0][1] + 1), (DEAD[0][0], 1), (0, 0)]
PROCESSES = st.sampled_from(DEAD + LIVING + ODD)
# Beginnings of each other, and what looks like the name of a file of another's.
IDS = st.sampled_from(["c", "cc", "c~1-2", "c.x", "c~1-2.json", 'c"', "c\\u0063", "cö", "~c", "." * 3])
OF_OTHERS = '"rootfsIdentity": [1, 2], "unit": "a.scope"'
CHANGE = st.builds(
    made.file, st.sampled_from(["/usr/lib/a", "/usr/lib/b", '/usr/lib/"unit": "a.scope"']), passing=st.booleans()
)
ENTRY = st.fixed_dictionaries(
    {
        "id": IDS,
        "process": PROCESSES,
        "hook": PROCESSES,
        "boot_id": st.sampled_from([None, None, None, "another", ""]),
        "elsewhere": st.sampled_from([False, False, True]),
        "bundle": st.sampled_from(["", "", "", "/", "/../bundle", "/x", OF_OTHERS]),
        "changes": st.lists(CHANGE, max_size=3, unique=True).map(tuple),
        "rootfs_born": st.sampled_from([None, None, None, 0, 7]),
    }
)
REMAINS = st.tuples(IDS, st.sampled_from(DEAD + LIVING), st.sampled_from(["tried", "ld.so.cache", "json.1-2.new"]))
LEASE = st.fixed_dictionaries(
    {
        "container": IDS,
        "process": PROCESSES,
        "bootId": st.sampled_from([None, None, None, "another", ""]),
        "pidNamespace": st.sampled_from([INITIAL_PID_NAMESPACE, INITIAL_PID_NAMESPACE, 0, 4026530000]),
        "starting": st.sampled_from([False, False, False, True]),
        "pod": st.sampled_from(["n/p/c", 'n/"}]/c', "\\", "ö"]),
    }
)
FORMS = st.sampled_from([{}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}, {"sort_keys": True}])


def prepare(host: Host, entries: list[Any], remains: list[Any], leases: list[Any], form: dict[str, Any]) -> None:
    host.make_rootfs()
    first = host.entry()
    (host.directory / "state").mkdir(mode=0o700)
    host.journal.mkdir(mode=0o700)
    (host.journal / ".lock").touch(0o600)
    for found in entries:
        more = {name: found[name] for name in ("boot_id", "rootfs_born") if found[name] is not None}
        if found["elsewhere"]:
            more["rootfs_identity"] = (1, 2)
        pid, started = found["process"]
        entry = first.replace(
            id=found["id"],
            pid=pid,
            start_time=started,
            hook=found["hook"],
            bundle=str(host.bundle) + found["bundle"],
            changes=found["changes"],
            **more,
        )
        journal.write(host.config, entry)
        for change in entry.changes:
            (host.rootfs / change[1][1:]).touch()
    for name, (pid, started), suffix in remains:
        (host.journal / f"{name}~{pid}-{started}.{suffix}").touch(0o600)
    host.hold()
    table = json.loads((host.directory / "state/leases.json").read_bytes())
    for found in leases:
        pid, started = found["process"]
        boot = first.boot_id if found["bootId"] is None else found["bootId"]
        rest = {name: found[name] for name in ("container", "pidNamespace", "starting", "pod")}
        table["leases"].append(host.lease(first, pid=pid, startTime=started, bootId=boot, **rest))
    (host.directory / "state/leases.json").write_text(json.dumps(table, **form))


def left(host: Host) -> tuple[Any, ...]:
    table = lease_table.from_json(json.loads((host.directory / "state/leases.json").read_bytes()))
    kept = [(each.id, each.pid, each.changes, each.cached) for each in reader.read_all(host.config)]
    return host.left(), host.entries(), kept, table


@several
@given(st.lists(ENTRY, max_size=3), st.lists(REMAINS, max_size=1), st.lists(LEASE, max_size=4), FORMS, ENTRY, PROCESSES)
def test_whatever_else_is_there(lay, witness, tmp_path, entries, remains, leases, form, own, holder):
    own = own | {"id": "c", "bundle": "", "boot_id": None}
    held = {"container": "c", "process": holder, "bootId": None, "pidNamespace": INITIAL_PID_NAMESPACE}
    leases = [held | {"starting": False, "pod": ""}, *leases]
    interpreter, script, _ = witness
    front = lay("hook", interpreter, script)
    hosts = []
    for name in ("one", "other"):
        directory = tmp_path / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        hosts.append(Host(directory, front))
        prepare(hosts[-1], [own, *entries], remains, leases, form)
    by_front, by_python = hosts
    for host in [by_python, by_front] if by_front.stop() else [by_python]:
        cleanup.detach(host.id, str(host.bundle), host.config)
        release.release(host.id, host.config)
    assert left(by_front) == left(by_python)

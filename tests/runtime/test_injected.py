"""GPUs that an engine has put into a bundle, by CDI or by --device: their container holds them like one that asked."""

from __future__ import annotations

import json
import os
import stat

import pytest

from oci_gpu_hook.base.config.load import load
from oci_gpu_hook.devices.nvidia import sick
from tests.runtime.fixtures import oci_gpu

CONTROL = "/dev/nvidiactl"
BY_CDI = ("NVIDIA_VISIBLE_DEVICES=void",)  # which NVIDIA's specifications add, and ours
EVERYTHING = {"allow": True, "access": "rwm"}


def inject(bundle, simulated, *paths, bind=False):
    """Do what an engine does with a CDI specification: put nodes, and leave to open them, into config.json."""
    linux = bundle.config["linux"]
    for path in (CONTROL, *paths):
        host = simulated.dev / path.removeprefix("/dev/")
        found = os.stat(host)
        numbers = {"major": os.major(found.st_rdev), "minor": os.minor(found.st_rdev)}
        if bind:
            options = ["bind", "nosuid", "noexec"]
            mount = {"destination": path, "type": "bind", "source": str(host), "options": options}
            bundle.config["mounts"].append(mount)
        else:
            mode = stat.S_IMODE(found.st_mode)
            linux.setdefault("devices", []).append({"path": path, "type": "c", "fileMode": mode, **numbers})
        linux["resources"]["devices"].append({"allow": True, "type": "c", "access": "rw", **numbers})
    return bundle


def held(simulated):
    found = json.loads(oci_gpu("--config", simulated.config, "leases", "--json"))
    return {lease["container"]: (lease["gpus"], lease["exclusive"]) for lease in found}


def refusal(result):
    """Return what the runtime says of a container that did not start."""
    assert result.status != 0
    (line,) = result.stderr.splitlines()
    return line.removeprefix("oci-gpu-runtime: error: ")


def alone(count=1):
    return (f"OCI_GPU_COUNT={count}", "OCI_GPU_EXCLUSIVE=true")


@pytest.mark.parametrize("env", [BY_CDI, ()], ids=["cdi", "device"])
@pytest.mark.parametrize("bind", [False, True], ids=["node", "bind"])
def test_what_the_engine_gave_is_held_and_exclusive_is_exclusive(front, plain_bundle, simulated, env, bind):
    first, second = simulated.gpus()
    given = inject(plain_bundle("list=/dev", env=env, name="given"), simulated, first.node, bind=bind)
    with front.created(given) as container:
        assert held(simulated) == {container.id: ([first.uuid], False)}
        complaint = refusal(front.run(plain_bundle("list=/dev", env=alone(2), name="both")))
        assert f"1 of 2 available; GPU 0 held by '{container.id}'" in complaint
        with front.created(plain_bundle("list=/dev", env=alone(), name="one")) as other:
            assert held(simulated)[other.id] == ([second.uuid], True)
        assert front.run(plain_bundle("list=/dev", gpus="0", name="named")).status == 0, "others may share it"
    assert held(simulated) == {}
    assert front.run(plain_bundle("list=/dev", env=alone(2), name="afterwards")).status == 0


def test_what_somebody_has_alone_is_not_to_be_had_by_cdi(front, plain_bundle, simulated):
    first, second = simulated.gpus()
    with front.created(plain_bundle("list=/dev", env=alone(), name="one")) as container:
        assert held(simulated) == {container.id: ([first.uuid], True)}
        given = inject(plain_bundle("list=/dev", env=BY_CDI, name="given"), simulated, first.node)
        before = json.dumps(given.config)
        complaint = refusal(front.run(given))
        assert complaint.startswith(
            f"GPU 0 ({first.uuid}), which the engine has put into this container, is not available"
        )
        assert f"container '{container.id}' holds it exclusively" in complaint
        assert "hooks" not in json.loads((given.directory / "config.json").read_text())
        assert json.loads(before)["linux"]["devices"] == given.config["linux"]["devices"]
        other = inject(plain_bundle("list=/dev", env=BY_CDI, name="other"), simulated, second.node)
        assert front.run(other).status == 0
        assert held(simulated) == {container.id: ([first.uuid], True)}


def test_a_bundle_may_be_started_again(front, plain_bundle, simulated):
    first, _ = simulated.gpus()
    given = inject(plain_bundle("list=/dev", env=BY_CDI), simulated, first.node)
    for _ in range(2):
        with front.created(given) as container:
            assert held(simulated) == {container.id: ([first.uuid], False)}
            given.config = json.loads((given.directory / "config.json").read_text())
    assert len(given.config["hooks"]["prestart"]) == 1


def test_beside_what_is_asked_for_the_rest_is_held_too(front, plain_bundle, simulated):
    first, second = simulated.gpus()
    given = inject(plain_bundle("list=/dev", gpus="0"), simulated, second.node)
    with front.created(given) as container:
        leases = json.loads(oci_gpu("--config", simulated.config, "leases", "--json"))
        assert [(lease["container"], lease["gpus"]) for lease in leases] in (
            [(container.id, [first.uuid]), (container.id, [second.uuid])],
            [(container.id, [second.uuid]), (container.id, [first.uuid])],
        )
        assert "0 of 2 available" in refusal(front.run(plain_bundle("list=/dev", env=alone(), name="one")))
    assert held(simulated) == {}


def test_a_container_that_may_open_everything_holds_nothing(front, plain_bundle, simulated):
    """A privileged one is given all nodes of the host, and nobody has chosen GPUs for it."""
    paths = [gpu.node for gpu in simulated.gpus()]
    given = inject(plain_bundle("list=/dev", devices=(EVERYTHING,), name="privileged"), simulated, *paths)
    with front.created(given):
        assert held(simulated) == {}
        assert front.run(plain_bundle("list=/dev", env=alone(2), name="both")).status == 0


def test_without_a_driver_it_starts_as_it_would_without_us(front, plain_bundle, simulated, directory):
    """The configuration names a host that has no driver any more."""
    first, _ = simulated.gpus()
    given = inject(plain_bundle("list=/dev", env=BY_CDI), simulated, first.node)
    version = simulated.proc / "version"
    aside = directory / "version"
    os.rename(version, aside)
    try:
        assert front.run(given).status == 0
    finally:
        os.rename(aside, version)


def test_a_gpu_that_is_sick_stops_nobody_who_did_not_ask_for_it(front, plain_bundle, simulated):
    first, _ = simulated.gpus()
    config, place = load(str(simulated.config)), f"0000{first.bus_id}"
    sick.mark(place, sick.Mark(since="2026-11-28T00:00:00Z", xid=79, text=""), config)
    try:
        assert "marked sick" in refusal(front.run(plain_bundle("list=/dev", gpus="0", name="named")))
        with front.created(inject(plain_bundle("list=/dev", env=BY_CDI), simulated, first.node)) as container:
            assert held(simulated) == {container.id: ([first.uuid], False)}
    finally:
        sick.heal([place], config)


def test_the_hook_alone_has_it_held_too(runtime, make_bundle, simulated):
    """Podman and CRI-O run it for every container, by a file in hooks.d."""
    first, _ = simulated.gpus()
    given = inject(make_bundle("list=/dev", env=BY_CDI), simulated, first.node)
    with runtime.created(given) as container:
        assert held(simulated) == {container.id: ([first.uuid], False)}
        complaint = runtime.run(make_bundle("list=/dev", env=alone(2), name="both")).complaint()
        assert f"GPU 0 held by '{container.id}'" in complaint
    assert held(simulated) == {}

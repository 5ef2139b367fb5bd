"""Devices of other vendors that an engine or a person has put into a bundle are held like those asked for."""

from __future__ import annotations

import json

import pytest

from tests.runtime import cdi_engine
from tests.runtime.test_cdi_by_hook import by_hook  # noqa: F401  a fixture
from tests.runtime.vendors import AMD, HABANA, INTEL, leases, opens

TRUE, SLEEP = ("/bin/true",), ("/bin/sleep", "60")


def alone(kind: str, count: int = 1) -> dict:
    return {"env": (f"OCI_GPU_COUNT={count}", f"OCI_GPU_KIND={kind}", "OCI_GPU_EXCLUSIVE=1")}


def given(bundle, vendors, file: str, *names: str):
    """Do what an engine does that was told --device vendor/class=name."""
    cdi_engine.apply(json.loads((vendors.specs / file).read_text()), names, bundle.config)
    return bundle


def node(bundle, vendors, path: str, major: int, minor: int):
    """Do what an engine does that was told --device /dev/..."""
    linux = bundle.config["linux"]
    linux.setdefault("devices", []).append({"path": f"/dev/{path}", "type": "c", "major": major, "minor": minor})
    linux["resources"]["devices"].append({"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"})
    return bundle


def held(simulated) -> dict[str, list[str]]:
    return {lease["container"]: sorted(lease["gpus"]) for lease in leases(simulated)}


@pytest.mark.parametrize("user_namespace", [False, True], ids=["node", "bind"])
@pytest.mark.parametrize(
    ("file", "name", "kind", "uuid"),
    [
        ("habana.json", "0", HABANA, f"{HABANA}=AC0-UUID"),
        ("amd.json", "1", AMD, f"{AMD}=1"),
        ("intel.com-gpu.json", "0000-03-00-0-0x56c0", INTEL, f"{INTEL}=0000-03-00-0-0x56c0"),
    ],
)
def test_what_the_engine_gave_is_held_and_exclusive_is_exclusive(
    front, plain_bundle, vendors, simulated, file, name, kind, uuid, user_namespace
):
    bundle = plain_bundle(name="given", args=SLEEP, user_namespace=user_namespace)
    with front.started(given(bundle, vendors, file, name)) as container:
        assert held(simulated) == {container.id: [uuid]}
        refused = front.run(plain_bundle(name="both", args=TRUE, **alone(kind, 2))).stderr
        assert "1 of 2 available" in refused
        assert f"held by '{container.id}'" in refused
        with front.created(plain_bundle(name="one", args=SLEEP, **alone(kind))) as other:
            assert uuid not in held(simulated)[other.id]
    assert held(simulated) == {}


def test_what_somebody_has_alone_is_not_to_be_had_by_an_engine(front, plain_bundle, vendors, simulated):
    with front.created(plain_bundle(name="alone", args=SLEEP, **alone(HABANA))) as container:
        bundle = given(plain_bundle(name="given", args=TRUE), vendors, "habana.json", "0")
        refused = front.run(bundle)
        assert refused.status == 1
        assert f"container '{container.id}' holds it exclusively" in refused.stderr
        assert "which the engine has put into this container" in refused.stderr
        assert front.run(given(plain_bundle(name="free", args=TRUE), vendors, "habana.json", "1")).status == 0


def test_a_node_of_its_own_is_enough_and_one_that_all_have_is_not(front, plain_bundle, vendors, simulated):
    """By --device: without the card's other node AMD's and Intel's programs compute, without /dev/kfd they draw."""
    with front.created(node(plain_bundle(name="render", args=TRUE), vendors, "dri/renderD128", 226, 128)) as container:
        assert held(simulated) == {container.id: [f"{AMD}=0"]}
    with front.created(node(plain_bundle(name="kfd", args=TRUE), vendors, "kfd", 235, 0)):
        assert held(simulated) == {}
    with front.created(node(plain_bundle(name="fuse", args=TRUE), vendors, "fuse", 10, 229)):
        assert held(simulated) == {}


def test_beside_what_is_asked_for(front, plain_bundle, vendors, simulated):
    first = simulated.gpus()[0]
    bundle = plain_bundle(*opens("nvidia0", "accel/accel1"), gpus="0")
    with front.created(given(bundle, vendors, "habana.json", "1")):
        held_now = [gpu for lease in leases(simulated) for gpu in lease["gpus"]]
        assert sorted(held_now) == sorted([first.uuid, f"{HABANA}=AC1-UUID"])
    assert held(simulated) == {}


def test_the_hook_alone_holds_them_too(runtime, by_hook, simulated):  # noqa: F811
    bundle = given(by_hook(args=SLEEP), by_hook.vendors, "habana.json", "0")
    with runtime.created(bundle) as container:
        assert held(simulated) == {container.id: [f"{HABANA}=AC0-UUID"]}
    assert held(simulated) == {}


def test_files_that_cannot_be_read_fail_nobody_who_asked_for_nothing(front, plain_bundle, vendors, simulated):
    for file in vendors.specs.iterdir():
        file.write_bytes(b"\xff{")
    bundle = node(plain_bundle(name="render", args=TRUE), vendors, "dri/renderD128", 226, 128)
    assert front.run(bundle).status == 0
    vendors.specs.chmod(0o777)
    bundle = node(plain_bundle(name="again", args=TRUE), vendors, "dri/renderD128", 226, 128)
    assert front.run(bundle).status == 0
    assert held(simulated) == {}

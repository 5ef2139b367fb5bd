"""The text of a specification that is written: what other readers of YAML and JSON make of it."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oci_gpu_hook.devices.cdi.spec_files import reading, writing
from oci_gpu_hook.devices.cdi.spec_files.model import SpecDevice, Specification
from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "yes",
        "null",
        "1",
        "1e3",
        "0x1f",
        "- a",
        "a: b",
        "a #b",
        "~",
        "*a",
        "&a",
        "!x",
        "%y",
        "@z",
        "`",
        "2001-01-01",
        "'",
        '"',
        "\\",
    ]
)
EDITS = st.builds(
    ContainerEdits,
    env=st.lists(TEXTS, max_size=2).map(tuple),
    device_nodes=st.lists(st.builds(DeviceNode, path=TEXTS, major=st.integers(-1, 2**40)), max_size=2).map(tuple),
    mounts=st.lists(
        st.builds(Mount, host_path=TEXTS, container_path=TEXTS, options=st.lists(TEXTS, max_size=2).map(tuple)),
        max_size=2,
    ).map(tuple),
    hooks=st.lists(
        st.builds(Hook, hook_name=TEXTS, path=TEXTS, args=st.lists(TEXTS, max_size=2).map(tuple)), max_size=1
    ).map(tuple),
    net_devices=st.lists(st.builds(NetDevice, host_interface_name=TEXTS, name=TEXTS), max_size=1).map(tuple),
    additional_gids=st.lists(st.integers(0, 2**32 - 1), max_size=2).map(tuple),
    intel_rdt=st.none() | st.builds(IntelRdt, clos_id=TEXTS, enable_monitoring=st.booleans()),
)
SPECIFICATIONS = st.builds(
    Specification,
    cdi_version=TEXTS,
    kind=TEXTS,
    annotations=st.dictionaries(TEXTS, TEXTS, max_size=2),
    devices=st.lists(
        st.builds(SpecDevice, name=TEXTS, annotations=st.dictionaries(TEXTS, TEXTS, max_size=1), edits=EDITS),
        max_size=3,
    ).map(tuple),
    edits=EDITS,
)


@given(SPECIFICATIONS)
def test_yaml_and_json_say_the_same_to_every_reader(specification):
    document = writing.to_json(specification)
    text = writing.write(specification, "yaml")
    assert yaml.safe_load(text) == document
    assert json.loads(writing.write(specification, "json")) == document


@pytest.mark.parametrize("form", writing.FORMATS)
def test_what_is_written_is_read_back_as_it_was(form):
    """Of all fields, by this project's own reader, which takes no text for a number and no number for a text."""
    edits = ContainerEdits(
        env=("A=1", "B=null"),
        device_nodes=(DeviceNode(path="/dev/a b", host_path="/dev/ä", type="c", major=1, minor=2, permissions="rw"),),
        net_devices=(NetDevice(host_interface_name="eth0", name="net1"),),
        mounts=(Mount(host_path="/a:b", container_path="/c#d", options=("ro",), type="tmpfs"),),
        hooks=(Hook(hook_name="createContainer", path="/h", args=("h", "--x=1 2", ""), env=("E=\t\x85",), timeout=3),),
        additional_gids=(5,),
        intel_rdt=IntelRdt(clos_id="c", schemata=("L3:0=f",), enable_monitoring=True),
    )
    specification = Specification(
        cdi_version="1.1.0",
        kind="v.com/d",
        annotations={"true": "1", "a.b/c": "x: y"},
        devices=(SpecDevice(name="1", annotations={}, edits=edits),),
        edits=ContainerEdits(env=("C=🙂",)),
    )
    found = reading.parse(writing.write(specification, form).encode(), is_json=form == "json")
    assert found.problems == ()
    assert found.specification == specification


def test_escapes_of_json_that_yaml_has_otherwise_are_read_as_json_has_them():
    device = r'{"name": "a", "containerEdits": {"env": ["A=\ud83d\ude42\/\\ud83d\\/\u00e4"]}}'
    text = f'{{"cdiVersion": "0.5.0", "kind": "v.com/d", "devices": [{device}]}}'
    found = reading.parse(text.encode(), is_json=True)
    assert found.problems == ()
    assert found.specification
    assert found.specification.devices[0].edits.env == ("A=🙂/\\ud83d\\/ä",)

"""Specification files: what is read of them, and text that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oci_gpu_hook.devices import json_form
from oci_gpu_hook.devices.cdi.spec_files import reading, text, versions
from oci_gpu_hook.devices.edits import UNSAID, ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice

DATA = Path(__file__).resolve().parents[3] / "data" / "cdi"

WHOLE = """\
---
cdiVersion: "1.1.0"
kind: vendor.com/net.dev
annotations:
  vendor.com/made-by: someone
devices:
  - name: 0
    annotations: {note: "first"}
    containerEdits:
      deviceNodes:
        - path: /dev/card
          hostPath: /dev/vendor/card0
          type: c
          major: 234
          minor: 0x10
          fileMode: 0660
          permissions: rw
          uid: 0
          gid: 44
      netDevices:
        - {hostInterfaceName: eth7, name: net0}
      additionalGids: [44, 109]
containerEdits:
  env: [VENDOR=1, "EMPTY="]
  mounts:
    - hostPath: /usr/lib/vendor
      containerPath: /usr/lib/vendor
      options: [ro, rbind]
      type: bind
  hooks:
    - hookName: createContainer
      path: /usr/bin/vendor-hook
      args: [vendor-hook, create]
      env: [A=b]
      timeout: 5
  intelRdt: {closID: vendor, schemata: ["L3:0=f"], enableMonitoring: yes}
"""


def parse(data, *, is_json=False):
    return reading.parse(data if isinstance(data, bytes) else data.encode(), is_json=is_json)


def test_every_field_is_read():
    found = parse(WHOLE)
    assert found.problems == ()
    specification = found.specification
    assert (specification.cdi_version, specification.kind) == ("1.1.0", "vendor.com/net.dev")
    assert specification.annotations == {"vendor.com/made-by": "someone"}
    (device,) = specification.devices
    assert (device.name, device.annotations) == ("0", {"note": "first"})
    assert device.edits == ContainerEdits(
        device_nodes=(
            DeviceNode(path="/dev/card", host_path="/dev/vendor/card0", type="c", major=234, minor=16,
                       file_mode=0o660, permissions="rw", uid=0, gid=44),
        ),
        net_devices=(NetDevice(host_interface_name="eth7", name="net0"),),
        additional_gids=(44, 109),
    )  # fmt: skip
    mount = Mount(host_path="/usr/lib/vendor", container_path="/usr/lib/vendor", options=("ro", "rbind"), type="bind")
    hook = Hook(
        hook_name="createContainer",
        path="/usr/bin/vendor-hook",
        args=("vendor-hook", "create"),
        env=("A=b",),
        timeout=5,
    )
    assert specification.edits == ContainerEdits(
        env=("VENDOR=1", "EMPTY="),
        mounts=(mount,),
        hooks=(hook,),
        intel_rdt=IntelRdt(clos_id="vendor", schemata=("L3:0=f",), enable_monitoring=True),
    )


def test_json_and_yaml_mean_the_same():
    document = yaml.safe_load(WHOLE.replace("name: 0", 'name: "0"'))
    assert parse(json.dumps(document, indent="\t"), is_json=True) == parse(WHOLE)


def test_the_edits_on_paper_are_the_edits_again():
    specification = parse(WHOLE).specification
    for edits in (specification.edits, specification.devices[0].edits):
        device = {"name": "x", "containerEdits": json_form.edits_to_json(edits)}
        document = {"cdiVersion": "1.1.0", "kind": "a.b/c", "devices": [device]}
        assert parse(json.dumps(document), is_json=True).specification.devices[0].edits == edits


def test_what_nvidias_toolkit_writes_for_four_gpus():
    found = parse((DATA / "nvidia_toolkit_4xh100.yaml").read_bytes())
    assert found.problems == ()
    assert [device.name for device in found.specification.devices][:4] == ["0", "1", "2", "3"]
    assert versions.required(found.specification)[0] == "0.5.0"


MINIMAL: dict[str, Any] = {
    "cdiVersion": "0.6.0",
    "kind": "v.com/d",
    "devices": [{"name": "a", "containerEdits": {"env": ["A=1"]}}],
}


def changed(**edits):
    """Return MINIMAL with some members of another value; None takes one away. device, edits: those of the device."""
    document = json.loads(json.dumps(MINIMAL))
    document["devices"][0]["containerEdits"].update(edits.pop("edits", {}))
    document["devices"][0].update(edits.pop("device", {}))
    document.update(edits)
    return {name: value for name, value in document.items() if value is not None}


def test_the_line_is_that_of_the_field():
    (problem,) = parse(WHOLE.replace("fileMode: 0660", "fileMode: rw")).problems
    assert (problem.line, problem.place) == (16, "devices[0].containerEdits.deviceNodes[0].fileMode")
    (problem,) = parse(WHOLE.replace("vendor.com/made-by: someone", "vendor.com/made by: someone")).problems
    assert problem.line == 5


def test_all_that_is_wrong_is_said():
    document = changed(kind="x", cdiVersion="9", edits={"env": ["A", "B"]})
    assert len(parse(json.dumps(document), is_json=True).problems) == 4


BAD_TEXT = {
    "empty": (b"", "is empty"),
    "comment": (b"# nothing\n", "is empty"),
    "not UTF-8": (b"cdiVersion: \xff\n", "is not UTF-8 at byte 12"),
    "no YAML": (b"a: [1\nb: 2", "is not YAML"),
    "a list": (b"- 1\n", "a mapping is expected, found a list"),
    "two documents": (b"a: 1\n---\nb: 1\n", "has a second document"),
    "twice": (b"kind: a\nkind: b\n", "the key 'kind' appears twice"),
    "alias of nothing": (b"a: *b\n", "alias"),
    "alias of itself": (b"a: &b [*b]\n", "refers to itself"),
    "too deep": (b"[" * 64 + b"]" * 64, "is nested"),
    "far too deep": (b"[" * 400_000, "nest"),
    "deep blocks": (b"".join(b" " * n + b"a:\n" for n in range(60)), "is nested more than 32"),
    "too large": (b"#" * (text.LARGEST + 1), "more than the 524288 bytes that are read"),
    "control character": (b"a: \x01\n", "is not YAML"),
}


@pytest.mark.parametrize("name", BAD_TEXT)
def test_text_that_is_no_specification(name):
    data, expected = BAD_TEXT[name]
    found = parse(data)
    assert found.specification is None
    assert expected in found.problems[0].what
    assert found.problems[0].remedy


@pytest.mark.parametrize(
    "data", [b"{", b"{}x", b'{"a": 1, "a": 2}', b"a: 1", b"[" * 100_000, b'{"a": NaN}', b"\xef\xbb\xbf"]
)
def test_text_that_is_no_json(data):
    assert parse(data, is_json=True).problems


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"a": "NaN",\n "b": "\\"NaN",\n "c": [NaN]}', 3),
        ('{\n"a": -Infinity}', 2),
        ('{"a":\n' * 2000, 33),
        ('{"cdiVersion": "0.5.0", "kind": "v.com/d", "devices": [\n' + "1" * 5000 + "]}", 2),
    ],
    ids=["no number", "no end", "deep", "long"],
)
def test_what_is_hardly_json_has_its_line(text, line):
    problem = parse(text, is_json=True).problems[0]
    assert problem.line == line
    assert problem.remedy


def test_a_character_that_yaml_forbids_has_its_line():
    (problem,) = parse("kind: é\ncdiVersion: \x01\n").problems
    assert problem.line == 2


def test_aliases_stand_for_what_their_anchors_hold():
    data = WHOLE.replace("name: 0", "name: &n zero").replace('{note: "first"}', "{note: *n}")
    (device,) = parse(data).specification.devices
    assert (device.name, device.annotations) == ("zero", {"note": "zero"})


def test_a_merge_takes_in_what_a_mapping_does_not_say_itself():
    nodes = "deviceNodes: [&n {path: /a, type: c, major: 1}, {<<: *n, path: /b}, {<<: [{uid: 7}, *n, {uid: 8}]}]"
    data = f"cdiVersion: 0.6.0\nkind: v.com/d\ndevices:\n- name: a\n  containerEdits: {{{nodes}}}\n"
    (device,) = parse(data).specification.devices
    found = [(node.path, node.type, node.major, node.uid) for node in device.edits.device_nodes]
    assert found == [("/a", "c", 1, UNSAID), ("/b", "c", 1, UNSAID), ("/a", "c", 1, 7)]
    (problem,) = parse(data.replace("{uid: 8}", "8")).problems
    assert (problem.line, problem.what) == (5, "<< merges mappings, found '8'")


@pytest.mark.parametrize("written", [str.upper, str.title, lambda name: name.replace("Gids", "GIDs")])
def test_a_field_may_be_written_in_letters_of_another_case(written):
    def renamed(value):
        if isinstance(value, dict):
            return {written(name): renamed(each) for name, each in value.items()}
        return [renamed(each) for each in value] if isinstance(value, list) else value

    document = changed(cdiVersion="0.7.0", edits={"additionalGids": [5], "deviceNodes": [{"path": "/d", "uid": 1}]})
    found = parse(json.dumps(renamed(document)), is_json=True)
    assert found == parse(json.dumps(document), is_json=True)
    wrong = changed(edits={"deviceNodes": [{"path": "", "uid": 1}]})
    (problem,) = parse(json.dumps(renamed(wrong), indent=1), is_json=True).problems
    assert (problem.line, problem.place) == (13, "devices[0].containerEdits.deviceNodes[0].path")


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_answered(data):
    for is_json in (False, True):
        found = parse(data, is_json=is_json)
        assert (found.specification is None) == bool(found.problems)


@given(st.data())
def test_a_specification_with_anything_in_the_place_of_a_value_is_answered(data):
    lines = WHOLE.splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = data.draw(
        st.text(max_size=40) | st.sampled_from(["", "  - ", "a: b", "- - -", "? x", "*a", "&a", "!!x y"])
    )
    found = parse("\n".join(lines).encode("utf-8", "surrogatepass"))
    assert (found.specification is None) == bool(found.problems)


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ({"type": "c", "major": 195}, (195, 0)),  # tools in Go leave out a minor number of 0
        ({"major": 195}, (195, 0)),
        ({"type": "c", "major": 195, "minor": 255}, (195, 255)),
        ({"type": "c", "major": 0, "minor": 0}, (UNSAID, UNSAID)),
        ({"type": "c", "minor": 7}, (UNSAID, UNSAID)),
        ({}, (UNSAID, UNSAID)),
    ],
)
def test_numbers_are_said_with_the_major_number(said, numbers):
    found = parse(json.dumps(changed(edits={"deviceNodes": [{"path": "/d", **said}]})), is_json=True)
    (node,) = found.specification.devices[0].edits.device_nodes
    assert (node.major, node.minor) == numbers


@given(st.integers(-(2**70), 2**70) | st.integers(-3, 5000))
def test_whole_numbers_have_a_range(number):
    """Of a device: the kernel's, and -1 for one that is left to the host."""
    found = parse(json.dumps(changed(edits={"deviceNodes": [{"path": "/d", "major": number}]})), is_json=True)
    assert bool(found.problems) == (not -1 <= number < 1 << 12)


@pytest.mark.parametrize("written", ["/dev/x", "/dev//x/", "dev/./x", "//dev/x/."])
def test_one_place_in_a_container_has_one_path(written):
    """`..` stays: what it leads to is known in the container alone."""
    mount = {"hostPath": "/a/", "containerPath": written}
    found = parse(json.dumps(changed(edits={"deviceNodes": [{"path": written}], "mounts": [mount]})), is_json=True)
    edits = found.specification.devices[0].edits
    assert (edits.device_nodes[0].path, edits.mounts[0].container_path) == ("/dev/x", "/dev/x")
    assert edits.mounts[0].host_path == "/a/"


@pytest.mark.parametrize(
    ("number", "meant"), [("!!int 7", 7), ('!!int "7"', 7), ('!!int "0x10"', 16), ("!!str 7", None), ('"7"', None)]
)
def test_a_tag_of_yaml_says_what_a_value_is(number, meant):
    found = parse(WHOLE.replace("major: 234", f"major: {number}"))
    if meant is None:
        assert [problem.line for problem in found.problems] == [14]
    else:
        assert found.specification.devices[0].edits.device_nodes[0].major == meant


def test_a_text_in_base64_is_not_taken_for_the_text():
    found = parse(WHOLE.replace("kind: vendor.com/net.dev", "kind: !!binary dmVuZG9yLmNvbS9uZXQ="))
    assert "in base64" in found.problems[0].what
    assert found.problems[0].line == 3


def test_an_annotation_may_be_empty():
    found = parse(WHOLE.replace('{note: "first"}', "{note: }"))
    assert found.specification.devices[0].annotations == {"note": ""}

"""Specification files: what is read of them, and each rule with a file that breaks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oci_gpu_hook.devices import json_form
from oci_gpu_hook.devices.cdi.spec_files import fields, reading, text, versions
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


BROKEN = {
    "no version": (changed(cdiVersion=None), "cdiVersion is missing"),
    "no kind": (changed(kind=None), "kind is missing"),
    "no devices": (changed(devices=None), "devices is missing"),
    "empty devices": (changed(devices=[]), "there is none; a specification has at least one"),
    "unknown version": (changed(cdiVersion="2.0.0"), "is unknown here"),
    "version that engines no longer read": (changed(cdiVersion="0.2.0", devices=[]), "is older than any that engines"),
    "version is a number": (changed(cdiVersion=1.1), "'1.1' is unknown here"),
    "kind without class": (changed(kind="vendor"), "is not VENDOR/CLASS"),
    "kind with an empty vendor": (changed(kind="/gpu"), "'' is not a vendor"),
    "vendor begins with a digit": (changed(kind="1v.com/d"), "'1v.com' is not a vendor"),
    "vendor ends with a dot": (changed(kind="v./d"), "'v.' is not a vendor"),
    "class with a space": (changed(kind="v.com/a b"), "'a b' is not a class"),
    "vendor of a long name": (changed(kind=f"{'v' * 254}/d"), "the vendor has 254 characters; 253 are allowed"),
    "class of a long name": (changed(kind=f"v.com/{'d' * 64}"), "the class has 64 characters; 63 are allowed"),
    "class begins with a digit": (changed(kind="v.com/1"), "'1' is not a class"),
    "device name with a slash": (changed(device={"name": "a/b"}), "is not a device name"),
    "device name ends with a colon": (changed(device={"name": "a:"}), "is not a device name"),
    "device name is empty": (changed(device={"name": ""}), "is not a device name"),
    "no device name": (changed(devices=[{"containerEdits": {"env": ["A=1"]}}]), "name is missing"),
    "no edits": (changed(devices=[{"name": "a"}]), "containerEdits is missing"),
    "edits without an edit": (changed(devices=[{"name": "a", "containerEdits": {}}]), "has no edit"),
    "two of one name": (changed(devices=MINIMAL["devices"] * 2), "is the name of devices[0] too"),
    "unknown field": (changed(containerEdit={}), "unknown field 'containerEdit'; did you mean containerEdits?"),
    "field twice, in two cases": (changed(Kind="v.com/d"), "'Kind' is kind a second time"),
    "unknown field of a node": (changed(edits={"deviceNodes": [{"path": "/d", "xyz": 1}]}), "unknown field 'xyz'"),
    "variable without a name": (changed(edits={"env": ["=1"]}), "'=1' is not NAME=VALUE"),
    "variable without a value": (changed(edits={"env": ["A"]}), "'A' is not NAME=VALUE"),
    "node without a path": (changed(edits={"deviceNodes": [{"type": "c"}]}), "path is missing"),
    "node with an empty path": (changed(edits={"deviceNodes": [{"path": ""}]}), "is empty"),
    "node of an unknown type": (changed(edits={"deviceNodes": [{"path": "/d", "type": "x"}]}), "is not a type of node"),
    "permissions": (
        changed(edits={"deviceNodes": [{"path": "/d", "permissions": "rx"}]}),
        "is not a set of permissions",
    ),
    "uid below zero": (changed(edits={"deviceNodes": [{"path": "/d", "uid": -1}]}), "-1 is not between 0 and"),
    "gid too large": (changed(edits={"additionalGids": [2**32]}), "is not between 0 and 4294967295"),
    "major is text": (changed(edits={"deviceNodes": [{"path": "/d", "major": "1"}]}), "a whole number is expected"),
    "major is a fraction": (
        changed(edits={"deviceNodes": [{"path": "/d", "major": 1.5}]}),
        "a whole number is expected",
    ),
    "mount without a host path": (changed(edits={"mounts": [{"containerPath": "/a"}]}), "hostPath is missing"),
    "mount with an empty path": (changed(edits={"mounts": [{"hostPath": "/a", "containerPath": ""}]}), "is empty"),
    "options are text": (
        changed(edits={"mounts": [{"hostPath": "/a", "containerPath": "/a", "options": "ro"}]}),
        "a list is expected",
    ),
    "unknown hook": (
        changed(edits={"hooks": [{"hookName": "start", "path": "/h"}]}),
        "'start' is not the name of a hook",
    ),
    "hook of a relative path": (
        changed(edits={"hooks": [{"hookName": "prestart", "path": "bin/h"}]}),
        "'bin/h' is not absolute",
    ),
    "hook without time": (
        changed(edits={"hooks": [{"hookName": "prestart", "path": "/h", "timeout": 0}]}),
        "0 is not between 1 and",
    ),
    "hook without a path": (changed(edits={"hooks": [{"hookName": "prestart"}]}), "path is missing"),
    "variable of a hook": (
        changed(edits={"hooks": [{"hookName": "prestart", "path": "/h", "env": ["A"]}]}),
        "'A' is not NAME=VALUE",
    ),
    "class of service": (changed(cdiVersion="1.1.0", edits={"intelRdt": {"closID": "a/b"}}), "is not a file name"),
    "class of service, long": (
        changed(cdiVersion="1.1.0", edits={"intelRdt": {"closID": "a" * 4096}}),
        "is not a file name",
    ),
    "monitoring": (changed(edits={"intelRdt": {"enableMonitoring": "maybe"}}), "true or false is expected"),
    "interface without a name": (
        changed(cdiVersion="1.1.0", edits={"netDevices": [{"hostInterfaceName": "e", "name": ""}]}),
        "is empty",
    ),
    "interface twice": (
        changed(cdiVersion="1.1.0", edits={"netDevices": [{"hostInterfaceName": "e", "name": n} for n in "ab"]}),
        "'e' is that of netDevices[0] too",
    ),
    "name of an interface twice": (
        changed(cdiVersion="1.1.0", edits={"netDevices": [{"hostInterfaceName": n, "name": "e"} for n in "ab"]}),
        "'e' is that of netDevices[0] too",
    ),
    "annotation with a bad name": (changed(annotations={"a b": "c"}), "'a b' is not a name of at most 63"),
    "annotation with a bad prefix": (changed(annotations={"-a/b": "c"}), "'-a' before the slash is not a DNS name"),
    "annotation of a long name": (changed(annotations={"a" * 64: "c"}), "is not a name of at most 63"),
    "annotations too large": (changed(annotations={"a": "c" * 262144}), "262144 are allowed"),
    "annotation is a number in a list": (changed(annotations={"a": [1]}), "text is expected, found a list"),
    "device annotation": (changed(device={"annotations": {"a b": "c"}}), "is not a name of at most 63"),
    "annotations of an old version": (changed(cdiVersion="0.5.0", annotations={"a": "b"}), "it must be 0.6.0 or later"),
    "digit name of an old version": (changed(cdiVersion="0.4.0", device={"name": "0"}), "it must be 0.5.0 or later"),
    "host path of an old version": (
        changed(cdiVersion="0.4.0", edits={"deviceNodes": [{"path": "/d", "hostPath": "/e"}]}),
        "it must be 0.5.0 or later",
    ),
    "mount type of an old version": (
        changed(cdiVersion="0.3.0", edits={"mounts": [{"hostPath": "/a", "containerPath": "/a", "type": "bind"}]}),
        "it must be 0.4.0 or later",
    ),
    "groups of an old version": (changed(edits={"additionalGids": [1]}), "it must be 0.7.0 or later"),
    "rdt of an old version": (changed(edits={"intelRdt": {"closID": "a"}}), "it must be 0.7.0 or later"),
    "interfaces of an old version": (
        changed(cdiVersion="1.0.0", edits={"netDevices": [{"hostInterfaceName": "e", "name": "n"}]}),
        "it must be 1.1.0 or later",
    ),
    "class with a dot of an old version": (changed(cdiVersion="0.5.0", kind="v.com/a.b"), "it must be 0.6.0 or later"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_broken_rule_is_named_with_its_line(name, form):
    document, expected = BROKEN[name]
    dumped = json.dumps(document, indent=1) if form == "json" else yaml.safe_dump(document, sort_keys=False)
    found = parse(dumped, is_json=form == "json")
    assert found.specification is None
    assert any(expected in problem.what for problem in found.problems), found.problems
    assert all(0 < problem.line <= dumped.count("\n") + 1 for problem in found.problems)


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
    "too large": (b"#" * (text.LARGEST + 1), "are read at most"),
    "control character": (b"a: \x01\n", "is not YAML"),
}


@pytest.mark.parametrize("name", BAD_TEXT)
def test_text_that_is_no_specification(name):
    data, expected = BAD_TEXT[name]
    found = parse(data)
    assert found.specification is None
    assert expected in found.problems[0].what


@pytest.mark.parametrize(
    "data", [b"{", b"{}x", b'{"a": 1, "a": 2}', b"a: 1", b"[" * 100_000, b'{"a": NaN}', b"\xef\xbb\xbf"]
)
def test_text_that_is_no_json(data):
    assert parse(data, is_json=True).problems


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


@given(st.integers(-(2**70), 2**70))
def test_whole_numbers_have_a_range(number):
    found = parse(json.dumps(changed(edits={"deviceNodes": [{"path": "/d", "major": number}]})), is_json=True)
    low, high = fields.INT64
    assert bool(found.problems) == (not low <= number <= high)
